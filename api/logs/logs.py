"""The logs of sessions as the store has them: which files a node has, and each file to read.

    list of files ─▶ name ─▶ log ─▶ its chunks' keys ─▶ LogFile (log_file.py) ─▶ an answer (log_stream.py)
                     └─▶ file of records ─▶ headers of the node's segments ─▶ LogFile

Opening a file costs a get of the list and a listing of its chunks (both kept for ``refresh`` seconds, the
listing then continued, not repeated); reading its last lines costs a chunk or two. Everything kept is
bounded: contents in bytes, lists and listings in entries.

A node whose collector died before it wrote a list has the one that its chunks tell of.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import structlog
from anyio import to_thread
from msgspec import Struct

from api.groups import first_error
from api.logs.log_file import LogFile, LogPlace, Piece, SizedCache
from api.views.log_target import Place, not_found, pick
from api.views.logs import NO_SUCH_NODE, LogOptions, NoLog, Tree, glob, grouped, tree_of
from pipeline.errors import BadKey, FormatError, NotFound
from pipeline.layout import SessionKey, part, segment_seq
from pipeline.logs.logfiles import BadLog, LogEntry, LogKeys, LogList, RecordEntry, decode_path, encode_path, rebuilt
from pipeline.logs.logrecover import read_list
from pipeline.push.pushed import LogId
from pipeline.read.source import family
from pipeline.segments.segment import Header, TruncatedHeader, read_header
from pipeline.stores.store import ObjectStore

CACHE_BYTES = 64 << 20
LIST_ENTRIES = 100_000
PIECES = 100_000
HEADER_SPANS = 100_000
HEADERS_AT_ONCE = 8
_HEADER_BYTES = 64 << 10
_FORMER = "~"

log = structlog.get_logger()


class NodeLogs(Struct):
    """The files of one node, by name as people know them."""

    keys: LogKeys
    root: str
    files: dict[str, LogEntry]
    records: dict[str, RecordEntry]
    folders: list[str]

    def __len__(self) -> int:
        return len(self.files) + len(self.records) + len(self.folders)

    def tree(self, former: bool) -> Tree:
        """Them as folders; with what earlier files of the same name held only if asked for (``{path}~{generation}``)."""
        names = (name for name, entry in self.files.items() if former or not is_former(name, entry))
        return tree_of([*names, *self.records], self.folders)

    def relative(self, filename: str) -> str:
        """A file's name below the logs folder, from that or from its path on the node. Raises ``NoLog``."""
        logs = f"/{self.keys.session.session}/logs/"
        path = _normal(filename if filename.startswith("/") else f"{self.root or '/logs'}/{filename}")
        if self.root and path.startswith(f"{self.root}/"):
            return path[len(self.root) + 1 :]
        if filename.startswith("/") and logs in path:  # the same folder, mounted elsewhere beside the collector
            return path.partition(logs)[2]
        if not self.root and path.startswith("/logs/"):
            return path.removeprefix("/logs/")
        raise NoLog(f"A file is not found at: {path[:500]}")


class LogStore:
    """All logs of a store, read on behalf of requests."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        cache_bytes: int = CACHE_BYTES,
        refresh: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._refresh = refresh
        self._clock = clock
        self._contents: SizedCache[bytes] = SizedCache(cache_bytes)
        self._lists: SizedCache[tuple[float, NodeLogs | None]] = SizedCache(LIST_ENTRIES)
        self._pieces: SizedCache[tuple[float, list[Piece]]] = SizedCache(PIECES)
        self._headers: SizedCache[Header | None] = SizedCache(HEADER_SPANS)

    # which files

    async def nodes(self, session: SessionKey) -> list[str]:
        """The nodes that have logs."""
        prefix = f"{session.root}logs/"
        level = await self._store.list_level(prefix)
        return [name for each in level.prefixes if _is_part(name := each.removeprefix(prefix).rstrip("/"))]

    async def node(self, session: SessionKey, node_id: str) -> NodeLogs:
        """The files of a node. Raises ``NoLog`` for one that has none, and ``StoreError``."""
        if not _is_part(node_id):
            raise NoLog(NO_SUCH_NODE.format(node_id=node_id[:100]))
        keys = LogKeys(session, node_id)
        known = self._lists.get((session, node_id))
        if known is None or self._clock() - known[0] >= self._refresh:
            known = self._clock(), await self._node(keys)
            self._lists.put((session, node_id), known, len(known[1] or ()) + 1)
        if known[1] is None:
            raise NoLog(NO_SUCH_NODE.format(node_id=node_id))
        return known[1]

    async def _node(self, keys: LogKeys) -> NodeLogs | None:
        try:
            found = await read_list(self._store, keys)
        except BadLog as exc:
            log.warning("list of log files can't be read", key=keys.list, reason=str(exc))
            found = None
        if found is None:
            chunks = [
                name for info in await self._store.list(keys.prefix) if (name := keys.parse(info.key)) is not None
            ]
            found = rebuilt(chunks)
            if not chunks:
                return None
        return await to_thread.run_sync(_node_logs, keys, found)

    async def list_files(self, session: SessionKey, node_id: str, pattern: str) -> dict[str, list[str]]:
        """Ray's ``/api/v0/logs``: the names that match, by component. Raises ``NoLog``."""
        node = await self.node(session, node_id)
        return await to_thread.run_sync(_listed, node, pattern)

    # one file

    async def find(self, session: SessionKey, places: list[Place], asked: LogOptions) -> tuple[LogFile, Place]:
        """The first of ``places`` that has a file, opened. Raises ``NoLog`` with the reason where none has."""
        refusals: list[NoLog] = []
        reached = False
        for place in places:
            for node_id in [place.node_id] if place.node_id is not None else await self.nodes(session):
                try:
                    node = await self.node(session, node_id)
                    name = place.filename if place.filename is not None else pick(node.files, place, asked.suffix)
                    if name is not None:
                        return await self.open(node, name), place
                    reached = True
                except NoLog as exc:
                    refusals.append(exc)
        raise not_found(asked, places[0].node_id) if reached or not refusals else refusals[0]

    async def open(self, node: NodeLogs, filename: str) -> LogFile:
        """A file by its name or its path on the node. Raises ``NoLog`` where there is none."""
        name = node.relative(filename)
        for each in (name, f"old/{name.rpartition('/')[2]}"):
            if (entry := node.files.get(each)) is not None:
                return await self._opened(node.keys, entry.place, LogId(entry.path, entry.generation))
            if (record := node.records.get(each)) is not None:
                return LogFile(self._store, self._contents, await self._of_records(node.keys, record.source))
        path = encode_path(name.split("/"))
        unlisted = await self._opened(node.keys, path, LogId(path))
        if not unlisted.stored:  # it would be where its collector died before it wrote the list
            raise NoLog(f"A file is not found at: {node.root or '/logs'}/{name[:500]}")
        return unlisted

    async def again(self, place: LogPlace, *, fresh: bool = False) -> LogFile:
        """A log as far as it is stored now, whatever its name is by now. ``fresh``: at this moment."""
        return await self._opened(LogKeys(place.session, place.node), place.name, place.log, fresh=fresh)

    async def heir(self, place: LogPlace, at: int) -> LogId | None:
        """The log that has taken a log's name, where nothing of the former comes behind ``at`` any more."""
        try:
            node = await self.node(place.session, place.node)
        except NoLog:
            return None
        entry = node.files.get(decode_path(place.name))
        if entry is None or LogId(entry.path, entry.generation) == place.log:
            return None
        for former in node.files.values():
            if LogId(former.path, former.generation) == place.log and at < (
                former.end if former.gone else max(former.end, former.size)
            ):
                return None
        return LogId(entry.path, entry.generation)

    async def _opened(self, keys: LogKeys, name: str, log: LogId, *, fresh: bool = False) -> LogFile:
        pieces = await self._chunks(keys, log, fresh=fresh)
        return LogFile(self._store, self._contents, pieces, LogPlace(keys.session, keys.node, name, log))

    async def _chunks(self, keys: LogKeys, log: LogId, *, fresh: bool) -> list[Piece]:
        """The chunks of a log: those known of before, and what was listed after them."""
        at = keys.chunk(log.path, log.generation, 0)
        when, known = self._pieces.get(at) or (float("-inf"), [])
        if self._clock() - when < self._refresh and not fresh:
            return known
        now = self._clock()
        after = known[-1].key if known else ""
        prefix = at.removesuffix(f"{0:016d}.zst")
        found = []
        for info in await self._store.list(prefix, after=after):
            name = keys.parse(info.key)
            if name is not None and (name.path, name.generation) == (log.path, log.generation):
                found.append(Piece(name.offset, None, info.key, info.size))
        pieces = [*known, *found]
        self._pieces.put(at, (now, pieces), len(pieces) + 1)
        return pieces

    async def _of_records(self, keys: LogKeys, source: str) -> list[Piece]:
        """Where the segments of a node hold a source; of several that began alike, the latest."""
        if not source:
            return []
        infos = [
            info
            for info in await self._store.list(keys.session.node_events(keys.node))
            if segment_seq(info.key) is not None
        ]
        waiting = iter(infos)
        found: dict[int, list[Piece]] = {}

        async def work() -> None:
            for info in waiting:
                for generation, piece in _spans(await self._header(info.key), source, info.key, info.size):
                    found.setdefault(generation, []).append(piece)

        with first_error():
            async with anyio.create_task_group() as tasks:
                for _ in range(min(HEADERS_AT_ONCE, len(infos))):
                    tasks.start_soon(work)
        return sorted(found[max(found)], key=lambda piece: piece.start) if found else []

    async def _header(self, key: str) -> Header | None:
        known = self._headers.get(key)
        if known is not None:
            return known
        try:
            try:
                header = read_header(await self._store.get(key, end=_HEADER_BYTES))
            except TruncatedHeader:
                header = read_header(await self._store.get(key, end=64 * _HEADER_BYTES))
        except (FormatError, NotFound) as exc:
            log.warning("segment can't be read", key=key, reason=str(exc))
            return None
        self._headers.put(key, header, len(header.sources) + 1)
        return header


def is_former(name: str, entry: LogEntry) -> bool:
    """Whether a name is what an earlier file of that name is called."""
    return name == f"{decode_path(entry.path)}{_FORMER}{entry.generation}" and name != decode_path(entry.place)


def _node_logs(keys: LogKeys, found: LogList) -> NodeLogs:
    return NodeLogs(
        keys,
        found.root.rstrip("/"),
        found.names(),
        {decode_path(entry.name): entry for entry in found.records},
        [decode_path(each) for each in found.folders],
    )


def _listed(node: NodeLogs, pattern: str) -> dict[str, list[str]]:
    return grouped(glob(node.tree(_FORMER in pattern), pattern))


def _spans(header: Header | None, source: str, key: str, stored: int) -> list[tuple[int, Piece]]:
    found = []
    at = 0
    for span in header.sources if header is not None else []:
        base, generation = family(span.source)
        if base == source:
            found.append((generation, Piece(span.start, span.end, key, stored, at)))
        at += span.length
    return found


def _normal(path: str) -> str:
    """An absolute path without ``.``, ``..`` and double slashes, as ``os.path.abspath`` has it."""
    parts: list[str] = []
    for each in path.split("/"):
        if each == "..":
            parts = parts[:-1]
        elif each not in ("", "."):
            parts.append(each)
    return "/" + "/".join(parts)


def _is_part(name: str) -> bool:
    try:
        return part(name) == name
    except BadKey:
        return False

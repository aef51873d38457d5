"""One session, followed through the store: list -> get -> decode -> apply.

    list nodes ─▶ list segments after the cursor ─▶ get (≤ PREFETCH ahead) ─▶ unpack ─▶ slice ─▶ decode ─▶ apply
    └──────────────────── event loop ─────────────────────────────────────┘ └──────── worker thread ─────────┘

Owns the cursor (per node the last ``seq``; per source the end of what was applied) and the promise that
nothing is read twice: a look lists only what is newer, and bytes the cursor is past are skipped. Segments of
a node are applied in order of ``seq``. A look that is cancelled or fails keeps what it has done, and the next
one goes on from there.

What is wrong with an object is a fact about the session (``completeness``), never an error; a store that
doesn't answer is a ``StoreError``. Two looks of one reader never run at once: that is ``sessions.py``'s part.

The lock is held for one slice at a time, so that questions are answered while a session loads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from hashlib import blake2b
from typing import TypeVar

import anyio
import structlog
from anyio import CapacityLimiter, to_thread
from msgspec import Struct

from api.groups import first_error
from api.index.session_index import SessionIndex
from api.metrics import SEGMENTS_BAD, SEGMENTS_READ
from api.session.completeness import Completeness, SourceSeen
from api.session.process_names import Looks, log_names
from api.session.snapshot_reader import SnapshotReader
from api.snapshots import NONE, Snapshots
from api.views.measured import logs_folder
from api.views.told_jobs import told_jobs
from api.views.told_workers import told_workers
from pipeline.decoding.decode import Decoded, decode_block
from pipeline.errors import BadKey, BadSegment, Full, NotFound, RayHistoryError, StoreError
from pipeline.layout import SessionKey, part, segment_seq
from pipeline.segments.cursor import declared
from pipeline.segments.segment import MAX_BODY, BodyTooLarge, Dialect, Header, Span, runs, unpack
from pipeline.stores.catalog import SessionMetadata, read_metadata
from pipeline.stores.store import ObjectInfo, ObjectStore

PREFETCH = 4
LISTS_AT_ONCE = 8
SLICE = 1 << 20
MAX_STRAYS = 1000
MAX_NAMED_OFTEN = 50
"""Of a session that lives with more nodes, the names of log files are read once, and again at its end."""
VERSION = "/api/version"
DRIVER_LOG = "python-core-driver-"
MAX_OBJECT = 256 << 20  # compressed; ours have a hundredth of it

T = TypeVar("T")
log = structlog.get_logger()


class UnknownSession(RayHistoryError):
    """The store holds nothing of that session."""


class Progress(Struct):
    """How far a look has come. ``segments`` and ``bytes`` are what it has to read, ``*_done`` what it has read."""

    segments: int = 0
    segments_done: int = 0
    bytes: int = 0
    bytes_done: int = 0


class Applied(Struct, frozen=True):
    """One slice of a source that went into the index: ``[start, end)`` of it, and the records it gave."""

    node: str
    source: str
    dialect: Dialect
    start: int
    end: int
    decoded: Decoded


class _Ahead:
    """One object on its way from the store."""

    def __init__(self, info: ObjectInfo, node: str, seq: int) -> None:
        self.info = info
        self.node = node
        self.seq = seq
        self.done = anyio.Event()
        self.data: bytes | None = None
        self.error: StoreError | None = None


class SessionReader:
    """A session's index, brought up to date by ``refresh`` and asked through ``query``."""

    def __init__(
        self,
        store: ObjectStore,
        key: SessionKey,
        workers: CapacityLimiter | None = None,
        most_body: int = MAX_BODY,
    ) -> None:
        """``most_body``: a segment that unpacks to more bytes ends a look with ``Full``. By default such a one is bad."""
        self.key = key
        self.index = SessionIndex()
        self.completeness = Completeness()
        self.metadata: SessionMetadata | None = None
        self.snapshots: Snapshots = NONE
        self.last_ns = 0
        """The newest time that any record tells of."""
        self.progress = Progress()
        self.on_applied: Callable[[Applied], None] | None = None
        """Told of each slice once, after it was applied: those of a source in order, without overlap."""
        self._store = store
        self._workers = workers
        self._most_body = most_body
        self._lock = anyio.Lock()
        self._turn = anyio.Lock()
        self._seqs: dict[str, int] = {}
        self._strays: set[str] = set()
        self._answers = SnapshotReader(store, key)
        self._names = Looks()
        self._named = False

    @property
    def started(self) -> bool:
        """Whether anything of the session was read."""
        return bool(self._seqs)

    @property
    def ray_version(self) -> str | None:
        """The Ray that the session ran on, where its collectors or its dashboard said."""
        told = self.snapshots.table(VERSION).get("ray_version")
        known = self.metadata.ray_version if self.metadata is not None else None
        return known or (told if isinstance(told, str) and told else None)

    @property
    def state_tag(self) -> str:
        """Changes whenever what was read of the session did; the same for all who have read the same."""
        seen = self.completeness
        parts = [str(self.key), self.snapshots.etag, seen.records, seen.rejected_count, seen.bad_segment_count]
        parts += [self.index.processes.nbytes, *sorted(self._seqs.items())]
        return blake2b(repr(parts).encode(), digest_size=12).hexdigest()

    async def query(self, question: Callable[[SessionIndex], T]) -> T:
        """Ask the index in a worker thread, while nothing else touches it."""
        async with self._lock:
            return await to_thread.run_sync(question, self.index)

    async def nbytes(self) -> int:
        """About how much memory it takes. Between two slices: while one is applied, tables change in a thread."""
        async with self._lock:
            return self.index.nbytes + self.snapshots.nbytes

    async def refresh(self, applied: Callable[[], Awaitable[None]] | None = None) -> None:
        """Read what the store holds beyond the cursor. ``applied`` is awaited after each segment and may stop it by raising.

        Raises ``StoreError``, ``UnknownSession`` where the store holds nothing of this session (any more), and
        ``Full`` for a segment of more than ``most_body``.
        """
        self.metadata = await read_metadata(self._store, self.key)
        nodes = await self._list_nodes()
        if not nodes and self.metadata is None:
            gone = "is no longer" if self._seqs else "is not"
            raise UnknownSession(f"session {self.key} {gone} in {self._store.url}")
        await self._ask_snapshots()
        found = await self._list_segments(nodes)
        self.progress = Progress(segments=len(found), bytes=sum(ahead.info.size for ahead in found))
        await self._read(iter(found), applied)
        await self._name_processes()

    async def _ask_snapshots(self) -> None:
        snapshots = await self._answers.refresh()
        if snapshots is not self.snapshots:
            self.snapshots = snapshots
            jobs = await self._in_thread(told_jobs, snapshots)
            workers = await self._in_thread(told_workers, snapshots)
            folder = await self._in_thread(logs_folder, snapshots)
            async with self._lock:
                self.index.tell_logs_folder(folder)
                self.index.tell_jobs(jobs)
                self.index.tell_workers(*workers)

    async def _name_processes(self) -> None:
        """Learn from the names of logs of the processes that no record tells of: workers, or only the heads' drivers."""
        exported = any(seen.dialect == "export_api" for seen in self.completeness.sources.values())
        ended = self.metadata is not None and self.metadata.ended_ms is not None
        many = len(self.completeness.nodes) > MAX_NAMED_OFTEN
        often = (exported and not many) or not self._named
        now, news = anyio.current_time(), sum(self._seqs.values())
        if not news or not self._names.due(now, news, often=often, many=many, ended=ended):
            return
        names = await log_names(self._store, self.key) if exported else await self._heads_drivers()
        async with self._lock:
            for node, files in sorted(names.items()):
                await self._in_thread(self.index.learn_processes, node, files)
        self._named = exported or any(names.values())
        self._names.done(now, ended=ended)

    async def _heads_drivers(self) -> dict[str, list[str]]:
        heads = await self.query(lambda index: [node.node_id.hex() for node in index.nodes.values() if node.is_head])
        listed = await log_names(self._store, self.key, heads)
        return {node: [name for name in files if name.startswith(DRIVER_LOG)] for node, files in listed.items()}

    async def _list_nodes(self) -> list[str]:
        listing = await self._store.list_level(self.key.events)
        nodes = []
        for prefix in listing.prefixes:
            name = prefix.removeprefix(self.key.events).rstrip("/")
            try:
                nodes.append(part(name))
            except BadKey as exc:
                self._stray(prefix, str(exc))
        return nodes

    async def _list_segments(self, nodes: list[str]) -> list[_Ahead]:
        """What is newer than the cursor: by node, then by ``seq``."""
        listed: dict[str, list[_Ahead]] = {}
        slots = anyio.Semaphore(LISTS_AT_ONCE)

        async def look(node: str) -> None:
            async with slots:
                listed[node] = await self._list_node(node)

        with first_error():
            async with anyio.create_task_group() as group:
                for node in nodes:
                    group.start_soon(look, node)
        return [ahead for node in nodes for ahead in listed[node]]

    async def _list_node(self, node: str) -> list[_Ahead]:
        last = self._seqs.get(node)
        after = "" if last is None else self.key.segment(node, last)
        found = []
        for info in await self._store.list(self.key.node_events(node), after=after):
            seq = segment_seq(info.key)
            if seq is not None and info.key == self.key.segment(node, seq):
                found.append(_Ahead(info, node, seq))
            else:
                self._stray(info.key, "not a segment's name")
        return found

    async def _read(self, found: Iterator[_Ahead], applied: Callable[[], Awaitable[None]] | None) -> None:
        """Apply segments in order while the next few are on their way."""
        window: deque[_Ahead] = deque()
        with first_error():
            async with anyio.create_task_group() as group:

                def fetch_next() -> None:
                    if (ahead := next(found, None)) is not None:
                        window.append(ahead)
                        group.start_soon(self._fetch, ahead)

                for _ in range(PREFETCH):
                    fetch_next()
                while window:
                    await window[0].done.wait()
                    await self._take(window.popleft())
                    fetch_next()
                    if applied is not None:
                        await applied()

    async def _fetch(self, ahead: _Ahead) -> None:
        """Get one object. What is wrong with it is told when its turn comes, after those before it were applied."""
        try:
            if ahead.info.size <= MAX_OBJECT:
                ahead.data = await self._store.get(ahead.info.key, end=MAX_OBJECT)
        except StoreError as exc:
            ahead.error = exc
        ahead.done.set()

    async def _take(self, ahead: _Ahead) -> None:
        """Apply one object and move the cursor past it."""
        header = None
        try:
            data = self._arrived(ahead)
            header, body = await self._unpacked(data)
            self._check_place(header, ahead)
        except (BadSegment, NotFound) as exc:
            header = None
            self._bad(ahead.info.key, str(exc))
        if header is not None:
            for span, chunk in runs(header, body):
                await self._take_run(ahead, span, chunk)
        self._passed(ahead.node, ahead.seq, header)
        self.progress.segments_done += 1
        SEGMENTS_READ.inc()
        self.progress.bytes_done += ahead.info.size

    async def _unpacked(self, data: bytes) -> tuple[Header, memoryview]:
        try:
            return await self._in_thread(unpack, data, self._most_body)
        except BodyTooLarge as exc:
            if self._most_body < MAX_BODY:
                raise Full(str(exc)) from exc
            raise

    def _passed(self, node: str, seq: int, header: Header | None) -> None:
        """All of a segment that can be had is applied. Said twice where it was pushed while it was being read."""
        if seq > self._seqs.get(node, -1):
            self._seqs[node] = seq
            self.completeness.saw_segment(node, seq, header)

    def _arrived(self, ahead: _Ahead) -> bytes:
        if ahead.error is not None:
            raise ahead.error
        if ahead.data is None:
            raise BadSegment(f"object of {ahead.info.size} bytes is over the limit of {MAX_OBJECT}")
        return ahead.data

    def _check_place(self, header: Header, ahead: _Ahead) -> None:
        """Refuse a segment that says it belongs elsewhere. (Namespace and cluster may differ: a copied session is one.)"""
        says = header.session, header.node, header.seq
        if says != (self.key.session, ahead.node, ahead.seq):
            raise BadSegment(f"header says it is {says[0]}, node {says[1]}, seq {says[2]}")

    async def _take_run(self, ahead: _Ahead, span: Span, chunk: memoryview) -> None:
        """Apply one source's bytes beyond the cursor, slice by slice."""
        seen = self.completeness.source(ahead.node, span)
        self.completeness.repeated_bytes += min(max(0, seen.sealed - span.start), span.length)
        try:
            async with self._turn:
                self.completeness.skipped(seen, span.start)
            while await self._take_slice(seen, span, chunk):
                pass
        except Exception as exc:  # a record nobody thought of must not make a session unreadable
            log.exception("segment could not be applied", key=ahead.info.key, source=span.source)
            self._bad(ahead.info.key, f"internal error: {type(exc).__name__}")

    # what is pushed

    def follows(self, push: Header) -> bool:
        """Whether some of its records follow on what was applied."""
        return any(
            span.end > self._end(push.node, span.source) and not self._begins_beyond(push, span)
            for span in push.sources
        )

    def covers(self, push: Header) -> bool:
        """Whether all that it tells of was applied."""
        return all(span.end <= self._end(push.node, span.source) for span in push.sources)

    async def apply_push(self, push: Header, body: memoryview) -> bool:
        """Apply what follows on what was applied; what was already is passed over. False where something before it is lacking."""
        whole = True
        for span, chunk in runs(push, body):
            async with self._turn:
                if self._begins_beyond(push, span):
                    whole = False
                    continue
                seen = self.completeness.source(push.node, span)
                self.completeness.skipped(seen, span.start)
            while await self._take_slice(seen, span, chunk):
                pass
        return whole

    def last_seq(self, node: str) -> int:
        """The number of a node's last segment that was applied; 0 before the first."""
        return self._seqs.get(node, 0)

    def note_sealed(self, push: Header) -> bool:
        """A segment is in the store. Whether it is passed without being read: all of it came by push before."""
        last = self._seqs.get(push.node, 0)
        if push.seq == last + 1 and self.covers(push):
            self._passed(push.node, push.seq, push)
        return push.seq <= self._seqs.get(push.node, 0)

    def _begins_beyond(self, push: Header, span: Span) -> bool:
        end = self._end(push.node, span.source)
        return span.start > end and not declared(push.gaps, span, end)

    def _end(self, node: str, source: str) -> int:
        seen = self.completeness.sources.get((node, source))
        return seen.end if seen is not None else 0

    # slices

    async def _take_slice(self, seen: SourceSeen, span: Span, chunk: memoryview) -> bool:
        """Apply the next slice of a span that isn't yet; False when there is none. Where it begins is settled under the lock."""
        async with self._turn:
            start = max(seen.end, span.start)
            if start >= span.end:
                return False
            decoded, size = await self._in_thread(decode_slice, chunk[start - span.start :], span, start)
            async with self._lock:
                await self._in_thread(self.index.apply, decoded)
            self._saw_slice(seen, start, start + size, decoded)
            self._tell(Applied(seen.node, seen.source, span.dialect, start, start + size, decoded))
            return True

    def _tell(self, applied: Applied) -> None:
        if self.on_applied is not None:
            try:
                self.on_applied(applied)
            except Exception:  # whoever listens: what was applied is applied
                log.exception("listener failed", session=str(self.key), source=applied.source)

    def _saw_slice(self, seen: SourceSeen, start: int, end: int, decoded: Decoded) -> None:
        self.completeness.saw_bytes(seen, start, end, decoded.lines)
        self.last_ns = max(self.last_ns, decoded.max_time_ns)
        for bad in decoded.rejected:
            self.completeness.saw_rejected(seen, bad.offset, bad.why, bad.detail)
        for kind, count in decoded.unknown.items():
            self.completeness.saw_unknown(kind, count)

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await to_thread.run_sync(partial(work, *args), limiter=self._workers)

    def _stray(self, key: str, reason: str) -> None:
        """Name once what every listing shows again, because no cursor gets past it."""
        if key not in self._strays and len(self._strays) < MAX_STRAYS:
            self._strays.add(key)
            self._bad(key, reason)

    def _bad(self, key: str, reason: str) -> None:
        self.completeness.saw_bad(key, reason)
        SEGMENTS_BAD.inc()
        log.warning("bad segment", session=str(self.key), key=key, reason=reason)


def decode_slice(chunk: memoryview, span: Span, offset: int) -> tuple[Decoded, int]:
    """Decode the whole lines among the first ``SLICE`` bytes (more where one line is longer): the records and their size."""
    size = SLICE
    while True:
        piece = bytes(chunk[:size])
        whole = piece.rfind(b"\n") + 1 if size < len(chunk) else len(piece)
        if whole:
            return decode_block(piece[:whole], span.dialect, offset), whole
        size *= 2

"""Where the logs of a node stand in the store: the list of files, moved past every chunk that is newer than it.

The chunks are the truth. The list only saves reading: of a log whose last chunk it knows nothing is read,
of another the last chunk (its length, and a digest of its content to know the file by). Without a list, or
with one that can't be read, all is rebuilt from the keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import anyio
import structlog
from anyio import to_thread

from pipeline.errors import NotFound
from pipeline.logs.logfiles import (
    MAX_CHUNK,
    MAX_LIST,
    BadLog,
    LogEntry,
    LogKeys,
    LogList,
    digest,
    unpack_chunk,
    unpack_list,
)
from pipeline.stores.patience import Patience
from pipeline.stores.store import ObjectStore

AT_ONCE = 8
_PAGE = 5000

log = structlog.get_logger()


async def recover(store: ObjectStore, patience: Patience, keys: LogKeys) -> list[LogEntry]:
    """Every log of the node that the store knows."""
    entries = (await _list(store, patience, keys)).files
    chunks = await _chunks(store, patience, keys)
    known = {(entry.path, entry.generation): entry for entry in entries}
    ahead = []
    for name, last in chunks.items():
        entry = known.get(name)
        if entry is None:
            entry = known[name] = LogEntry(*name)
        if last >= entry.end:
            ahead.append((entry, last))
    _one_a_place(known.values())
    waiting = iter(ahead)

    async def work() -> None:
        for entry, last in waiting:
            await _catch_up(store, patience, keys, entry, last)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(AT_ONCE, len(ahead))):
            tasks.start_soon(work)
    return list(known.values())


async def read_list(store: ObjectStore, keys: LogKeys) -> LogList | None:
    """The list of files, None where there is none. Raises ``BadLog``."""
    try:
        data = await store.get(keys.list, end=MAX_LIST)
    except NotFound:
        return None
    return await to_thread.run_sync(unpack_list, data)


async def _list(store: ObjectStore, patience: Patience, keys: LogKeys) -> LogList:
    try:
        return await patience.insist(partial(read_list, store, keys)) or LogList()
    except BadLog as exc:
        log.error("list of log files unreadable, going on from the chunks", key=keys.list, error=str(exc))
        return LogList()


async def _chunks(store: ObjectStore, patience: Patience, keys: LogKeys) -> dict[tuple[str, int], int]:
    """Of each log the offset of its last chunk."""
    last: dict[tuple[str, int], int] = {}
    after = ""
    while True:
        page = await patience.insist(partial(store.list, keys.prefix, after=after, limit=_PAGE))
        for info in page:
            name = keys.parse(info.key)
            if name is not None:
                at = (name.path, name.generation)
                last[at] = max(last.get(at, 0), name.offset)
        if len(page) < _PAGE:
            return last
        after = page[-1].key


def _one_a_place(entries: Iterable[LogEntry]) -> None:
    """Where the chunks know of a later log under a path than the list does, the earlier one's file is gone."""
    newest: dict[str, LogEntry] = {}
    for entry in sorted(entries, key=lambda e: e.generation):
        if not entry.gone:
            before = newest.get(entry.place)
            if before is not None:
                before.gone = True
            newest[entry.place] = entry


async def _catch_up(store: ObjectStore, patience: Patience, keys: LogKeys, entry: LogEntry, last: int) -> None:
    key = keys.chunk(entry.path, entry.generation, last)
    try:
        data = await patience.insist(partial(fetch, store, key))
        length, print_ = await to_thread.run_sync(_measured, data)
    except BadLog as exc:  # without a digest no file is taken for it: what there is begins a new log
        log.error("chunk of a log unreadable, the file is stored again", key=key, error=str(exc))
        entry.gone, entry.end, entry.digest = True, last + 1, ""
        return
    entry.last, entry.end, entry.digest = last, last + length, print_


def _measured(data: bytes) -> tuple[int, str]:
    content = unpack_chunk(data)
    return len(content), digest(content)


async def fetch(store: ObjectStore, key: str) -> bytes:
    """A chunk that must be there. Raises ``BadLog`` where it isn't."""
    try:
        return await store.get(key, end=MAX_CHUNK)
    except NotFound as exc:
        raise BadLog(f"chunk {key} is gone") from exc

"""Where a node's sources stand, from the checkpoint and the store; from the store alone if need be.

The store is the truth. A checkpoint of this store only says from which segment on to look: a segment
that was put but not committed before a crash, or that another collector wrote, is found here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import structlog

from pipeline import metrics
from pipeline.errors import BadCheckpoint, BadSegment, NotFound
from pipeline.layout import SessionKey, segment_seq
from pipeline.segments import checkpoint
from pipeline.segments.cursor import Cursor
from pipeline.segments.segment import Header, TruncatedHeader, read_header
from pipeline.stores.patience import Patience
from pipeline.stores.store import ObjectStore

FIRST_BYTES = 64 << 10
AT_ONCE = 8
_WINDOW = 256

log = structlog.get_logger()


async def recover(store: ObjectStore, patience: Patience, key: SessionKey, node: str, file: Path) -> Cursor:
    """The cursor of ``node``: the checkpoint's, moved past every later segment in the store."""
    saved = await anyio.to_thread.run_sync(partial(load_checkpoint, file, store.url, key))
    cursor = saved.cursor() if saved is not None and saved.node == node else Cursor()
    await catch_up(store, patience, key, node, cursor)
    return cursor


def load_checkpoint(file: Path, store_url: str, key: SessionKey) -> checkpoint.Checkpoint | None:
    """The session's checkpoint if it can be used; the log says why where it can't."""
    try:
        saved = checkpoint.load(file)
    except BadCheckpoint as exc:
        metrics.CHECKPOINT_FAILURES.labels("read").inc()
        log.error("checkpoint unreadable, going on from the store", error=str(exc))
        checkpoint.put_aside(file)
        return None
    if saved is not None and not saved.belongs(store_url, key):
        log.warning(
            "checkpoint is of another store or cluster, going on from the store", file=str(file), of=saved.store
        )
        return None
    return saved


async def catch_up(store: ObjectStore, patience: Patience, key: SessionKey, node: str, cursor: Cursor) -> None:
    """Move ``cursor`` past every segment of ``node`` that it doesn't know yet."""
    after = key.segment(node, cursor.seq) if cursor.seq else ""
    infos = await patience.insist(partial(store.list, key.node_events(node), after=after))
    segments = [(seq, info.key) for info in infos if (seq := segment_seq(info.key)) is not None]
    for at in range(0, len(segments), _WINDOW):
        window = segments[at : at + _WINDOW]
        for (seq, name), header in zip(window, await _headers(store, patience, key, node, window), strict=True):
            cursor.seq = max(cursor.seq, seq)
            if header is None:
                log.error("segment without a readable header, its records can't be told from new ones", segment=name)
            elif holes := cursor.adopt(header):
                log.error("segments leave a hole", segment=name, sources=holes)


async def standing(store: ObjectStore, patience: Patience, key: SessionKey, node: str, seq: int) -> Header | None:
    """The header of a segment in the store; None where it isn't there or isn't a segment of this node."""
    name = key.segment(node, seq)
    size = FIRST_BYTES
    while True:
        data = await patience.insist(partial(_get, store, name, size))
        try:
            header = read_header(data)
        except TruncatedHeader:
            if len(data) < size:
                return None
            size *= 8
            continue
        except BadSegment:
            return None
        mine = (header.namespace, header.cluster, header.session, header.node, header.seq)
        return header if mine == (key.namespace, key.cluster, key.session, node, seq) else None


async def _get(store: ObjectStore, name: str, size: int) -> bytes:
    try:
        return await store.get(name, end=size)
    except NotFound:
        return b""


async def _headers(
    store: ObjectStore, patience: Patience, key: SessionKey, node: str, segments: list[tuple[int, str]]
) -> list[Header | None]:
    found: dict[int, Header | None] = {}
    waiting = iter(segments)

    async def fetch() -> None:
        for seq, _ in waiting:
            found[seq] = await standing(store, patience, key, node, seq)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(AT_ONCE, len(segments))):
            tasks.start_soon(fetch)
    return [found[seq] for seq, _ in segments]

"""One segment into the store: put, announce, commit, in this order and one at a time.

    put        conditional: a number is taken once, by whoever is first
    announce   a hint to whoever listens; it may fail or be slow, and never holds up the commit
    commit     the cursor moves, then the checkpoint is written

What stands between two steps is safe to crash in: a segment that was put and not committed is found in
the store at the next start. If the number is taken by somebody else's segment, theirs is right: the
cursor is moved past it from the store, and what was to be shipped must be read again from there.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import anyio
import structlog

from pipeline import metrics
from pipeline.errors import AlreadyExists
from pipeline.layout import SessionKey
from pipeline.segments import checkpoint
from pipeline.segments.batch import Body
from pipeline.segments.cursor import Cursor
from pipeline.segments.segment import Header, pack
from pipeline.ship.recover import catch_up, standing
from pipeline.stores.patience import Patience
from pipeline.stores.store import ObjectStore

Announce = Callable[[SessionKey, Header], Awaitable[None]]
At = Callable[[str], None]

ANNOUNCE_TIMEOUT = 0.5

log = structlog.get_logger()

try:
    VERSION = version("ray-history")
except PackageNotFoundError:
    VERSION = ""


def nothing(_: str) -> None:
    """The ``at`` of a program that isn't being tested: tests stop it at the named points."""


class Shipper:
    """The only writer of one node's cursor in this process. ``ship`` isn't called again before it has returned."""

    def __init__(
        self,
        store: ObjectStore,
        patience: Patience,
        key: SessionKey,
        node: str,
        cursor: Cursor,
        file: Path,
        now_ns: Callable[[], int],
        *,
        announce: Announce | None = None,
        at: At = nothing,
    ) -> None:
        self.cursor = cursor
        self.writer = uuid.uuid4().hex
        self._store, self._patience, self._key, self._node, self._file = store, patience, key, node, file
        self._now_ns, self._announce_to, self._at = now_ns, announce, at

    async def ship(self, body: Body) -> bool:
        """Store it and move the cursor. False: another collector was first, the cursor is past its segments now."""
        began = anyio.current_time()
        header = self._header(body)
        data = await anyio.to_thread.run_sync(pack, header, body.chunks)
        self._at("before_put")
        if not await self._put(header, data):
            await self._take_over(header.seq)
            return False
        self._at("put")
        await self._announce(header)
        self._at("announced")
        self.cursor.commit(header)
        await self.save()
        self._at("committed")
        metrics.SEGMENTS.labels(header.reason).inc()
        metrics.SEGMENT_BYTES.inc(len(data))
        metrics.SHIP_SECONDS.observe(anyio.current_time() - began)
        log.debug(
            "segment stored", session=self._key.session, seq=header.seq, records=header.records, reason=header.reason
        )
        return True

    async def save(self) -> None:
        """Write the checkpoint. That it can't be written holds nothing up: the store knows as much."""
        saved = checkpoint.Checkpoint(
            store=self._store.url,
            namespace=self._key.namespace,
            cluster=self._key.cluster,
            session=self._key.session,
            node=self._node,
            seq=self.cursor.seq,
            sources=self.cursor.sources,
        )
        try:
            await anyio.to_thread.run_sync(partial(checkpoint.save, self._file, saved, at=self._at))
        except OSError as exc:
            metrics.CHECKPOINT_FAILURES.labels("write").inc()
            log.warning("checkpoint not written, the store will be asked", file=str(self._file), error=str(exc))

    def _header(self, body: Body) -> Header:
        return Header(
            namespace=self._key.namespace,
            cluster=self._key.cluster,
            session=self._key.session,
            node=self._node,
            seq=self.cursor.seq + 1,
            sources=body.sources,
            min_time_ns=body.min_time_ns,
            max_time_ns=body.max_time_ns,
            created_ns=self._now_ns(),
            reason=body.reason,
            writer=self.writer,
            version=VERSION,
            gaps=body.gaps,
        )

    async def _put(self, header: Header, data: bytes) -> bool:
        """Whether the segment stands in the store as this process made it (a put may succeed and its answer be lost)."""
        name = self._key.segment(self._node, header.seq)
        try:
            await self._patience.insist(partial(self._store.put, name, data, if_absent=True))
        except AlreadyExists:
            there = await standing(self._store, self._patience, self._key, self._node, header.seq)
            return there is not None and (there.writer, there.sources) == (header.writer, header.sources)
        return True

    async def _take_over(self, taken: int) -> None:
        metrics.SUPERSEDED.inc()
        await catch_up(self._store, self._patience, self._key, self._node, self.cursor)
        self.cursor.seq = max(self.cursor.seq, taken)
        log.warning(
            "another collector wrote for this node, going on after its segments",
            session=self._key.session,
            node=self._node,
            from_seq=taken,
            to_seq=self.cursor.seq,
        )
        await self.save()

    async def _announce(self, header: Header) -> None:
        if self._announce_to is None:
            return
        try:
            with anyio.move_on_after(ANNOUNCE_TIMEOUT):
                await self._announce_to(self._key, header)
        except Exception as exc:
            log.warning("announcement failed", session=self._key.session, seq=header.seq, error=repr(exc))

"""One session from its files to the store: reads, gathers, ships, releases; what it holds is bounded.

    files ──read──▶ builder ──(0: waits)──▶ ship
            ▲        ≤ 1 segment             ≤ 1 segment, put and committed before the next is taken
            └── stops while the builder is full and the segment before it is still being shipped

Memory is two segments, their compressed form, and one read of ``intake.ROUND`` bytes (or a line
of ``LINE_LIMIT``). Nothing else is kept: if this is stopped or killed at any moment, or if another
collector turns out to have written, all begins again from what the store has.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pipeline import metrics
from pipeline.config import CollectorConfig
from pipeline.errors import HoleError
from pipeline.layout import SessionKey
from pipeline.read import node
from pipeline.read.intake import Intake, Taken
from pipeline.read.places import Place, denied
from pipeline.read.session import raylet_answers, state
from pipeline.read.source import SPOOL
from pipeline.segments import checkpoint
from pipeline.segments.batch import Body, Chunk, SegmentBuilder
from pipeline.segments.cursor import Cursor, Position
from pipeline.ship.about import ended, seen
from pipeline.ship.recover import load_checkpoint, recover
from pipeline.ship.release import Release, SpoolFiles, gone
from pipeline.ship.ship import Announce, At, Shipper, nothing
from pipeline.stores.patience import Patience
from pipeline.stores.store import ObjectStore
from pipeline.watch import Wake

Until = Literal["told", "read", "stopped"]
OnBatch = Callable[[SessionKey, str, list[Chunk]], Awaitable[None]]

LOOK_SHARE = 10
"""After a look at the folders, at least so many times as long passes before the next, however much is written."""

log = structlog.get_logger()


class Follower:
    """One session's pipeline. ``until`` says when ``run`` ends: when told otherwise, when all there is was
    shipped, or the same at once, without waiting for a segment to be due."""

    def __init__(
        self,
        config: CollectorConfig,
        store: ObjectStore,
        patience: Patience,
        spool: SpoolFiles,
        key: SessionKey,
        places: list[Place],
        *,
        until: Until = "told",
        on_batch: OnBatch | None = None,
        on_segment: Announce | None = None,
        at: At = nothing,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.key = key
        self.places = places
        self.until: Until = until
        self.wake = Wake()
        self.node: str | None = None
        self.done = False
        self._introduced = anyio.Event()
        self._config, self._store, self._patience, self._spool = config, store, patience, spool
        self._on_batch, self._on_segment, self._at, self._now_ns = on_batch, on_segment, at, now_ns
        self._asked = False
        self._looked = float("-inf")
        self._shipper: Shipper | None = None
        self._intake = self._begin_intake({})
        self._builder = SegmentBuilder(config.segment_bytes, config.segment_age)
        self._log = log.bind(session=key.session)

    def finish(self, until: Until) -> None:
        self.until = until
        self.wake.set()

    def ask(self) -> None:
        """Close the segment now."""
        self._asked = True
        self.wake.set()

    async def introduced(self) -> str | None:
        """The node id once ``run`` knows it; None if it ends without."""
        await self._introduced.wait()
        return self.node

    async def run(self) -> None:
        """Until everything is in the store, for what ``until`` calls everything."""
        try:
            self.node = await self._find_node()
        finally:
            self._introduced.set()
        if self.node is None:
            self._log.warning("no node id for this session, its records wait")
            return
        while not await self._follow(self.node):
            pass
        self.done = True
        metrics.BYTES_UNREAD.remove(self.key.session)

    async def _follow(self, node_id: str) -> bool:
        """From the cursor on; False where that has to begin again because another collector wrote."""
        cursor = await recover(self._store, self._patience, self.key, node_id, self._file)
        await self._forget_gone(cursor)
        self._shipper = shipper = Shipper(
            self._store,
            self._patience,
            self.key,
            node_id,
            cursor,
            self._file,
            self._now_ns,
            announce=self._on_segment,
            at=self._at,
        )
        self._intake = self._begin_intake(cursor.sources)
        release = Release(self._spool, self.key.session, self._intake.tailer)
        self._builder = SegmentBuilder(self._config.segment_bytes, self._config.segment_age)
        self._log.info("following", node=node_id, next_seq=cursor.seq + 1, sources=len(cursor.sources))
        if closed := await anyio.to_thread.run_sync(denied, self.places):
            self._log.error("folders can't be read by this user, what is in them is not collected", folders=closed)
        send, receive = anyio.create_memory_object_stream[Body](0)
        complete = True
        async with receive, anyio.create_task_group() as tasks:
            tasks.start_soon(self._read, send, shipper, release)
            lives = self.until == "told" and await self.lives() is not False
            await self._patience.insist(partial(seen, self._store, self._config, self.key, lives))
            complete = await self._ship(receive, shipper)
            if not complete:
                tasks.cancel_scope.cancel()
        if complete:
            await self._let_go(release, shipper)
        return complete

    async def _ship(self, receive: MemoryObjectReceiveStream[Body], shipper: Shipper) -> bool:
        async for body in receive:
            try:
                if not await shipper.ship(body):
                    return False
            except HoleError as exc:
                self._log.error("segment doesn't follow the cursor, going on from the store", error=str(exc))
                return False
            self.wake.set()
        return True

    async def _read(self, send: MemoryObjectSendStream[Body], shipper: Shipper, release: Release) -> None:
        async with send:
            while True:
                until, asked = self.until, self._asked
                self._asked = False
                await release.note_closed()
                taken = await self._intake.take()
                self._looked = anyio.current_time()
                self._at("read")
                await self._gather(taken, send)
                metrics.BYTES_UNREAD.labels(self.key.session).set(self._intake.tailer.unread())
                if not taken.more:
                    await self._close_due(until, asked, send)
                    await self._let_go(release, shipper)
                    if until == "stopped" or (until == "read" and self._builder.empty and self._committed(shipper)):
                        return
                    await self._wait()

    async def _gather(self, taken: Taken, send: MemoryObjectSendStream[Body]) -> None:
        if taken.chunks and self._on_batch is not None and self.node is not None:
            await self._on_batch(self.key, self.node, taken.chunks)
        for gap in taken.lost:
            self._builder.lost(gap, anyio.current_time())
        for chunk in taken.chunks:
            self._builder.add(chunk, anyio.current_time())
            if self._builder.due(anyio.current_time()) == "full":
                await send.send(self._builder.close("full"))

    def _begin_intake(self, positions: Mapping[str, Position]) -> Intake:
        return Intake(self.places, positions, self._keep, redact=self._config.redact)

    async def _keep(self, name: str, data: bytes) -> None:
        await self._patience.insist(partial(self._store.put, self.key.quarantine(self.node or "", name), data))

    async def _close_due(self, until: Until, asked: bool, send: MemoryObjectSendStream[Body]) -> None:
        reason = self._builder.due(anyio.current_time())
        if reason is None and not self._builder.empty:
            reason = "shutdown" if until == "stopped" else "asked" if asked else None
        if reason is not None:
            await send.send(self._builder.close(reason))

    async def _wait(self) -> None:
        now = anyio.current_time()
        await self.wake.wait(min(self._config.rescan, self._builder.due_at() - now))
        pause = max(self._config.linger, LOOK_SHARE * self._intake.tailer.look_seconds)
        pause = min(pause, self._config.rescan) - (anyio.current_time() - self._looked)
        if pause > 0 and self.until != "stopped":
            await anyio.sleep(pause)

    # what was shipped

    def _committed(self, shipper: Shipper) -> bool:
        return all(shipper.cursor.end(source) == at.end for source, at in self._intake.tailer.positions.items())

    async def _let_go(self, release: Release, shipper: Shipper) -> None:
        if await release.release(shipper.cursor):
            self._at("released")

    async def _forget_gone(self, cursor: Cursor) -> None:
        spool = next(place.path for place in self.places if place.folder is SPOOL)
        cursor.forget(await anyio.to_thread.run_sync(gone, cursor, spool))

    async def lives(self) -> bool | None:
        """Whether the session's Ray is up; None where that can't be told."""
        return await anyio.to_thread.run_sync(raylet_answers, self._config.ray_tmp, self.key.session)

    async def say_ended(self, at_ms: int | None) -> None:
        """The session is over; only the head's collector says so."""
        if self._config.role == "head":
            at_ms = at_ms or self._now_ns() // 1_000_000
            await self._patience.insist(partial(ended, self._store, self._config, self.key, at_ms))

    def left(self) -> int:
        """Bytes seen that are not known to be in the store. Blocking."""
        if self.done:
            return 0
        if self._shipper is None:
            return sum(size for _, size, _ in state(self.places))
        cursor = self._shipper.cursor
        return sum(max(0, size - cursor.end(source)) for source, size in self._intake.tailer.sizes().items())

    # who we are

    @property
    def _file(self) -> Path:
        return checkpoint.path(self._config.data_dir, self.key.session)

    async def _find_node(self) -> str | None:
        """The node id: what this session was begun with, else the setting, Ray's folder, or a posted record."""
        said = False
        while True:
            found = await anyio.to_thread.run_sync(self._look_for_node)
            if found is not None or self.until != "told":
                return found
            if not said:
                self._log.info("waiting for Ray to say which node this is")
                said = True
            await self.wake.wait(self._config.rescan)

    def _look_for_node(self) -> str | None:
        saved = load_checkpoint(self._file, self._store.url, self.key)
        if saved is not None:
            if self._config.node_id not in (None, saved.node):
                self._log.warning("session was begun as another node, going on as that", node=saved.node)
            return saved.node
        spool = self._config.data_dir / "spool" / self.key.session
        return (
            self._config.node_id
            or node.from_session_folder(self._config.ray_tmp / self.key.session)
            or node.from_spool(spool)
        )

"""All of one session that is collected here: its records, and beside them its logs and what the dashboard alone knows.

The records decide: the rest begins once they have found out which node this is, and ends with them. What is read is
pushed from the moment on at which the session is the one that lives.
"""

from __future__ import annotations

import time

import anyio

from pipeline.config import CollectorConfig
from pipeline.dashboard.poll import Poller
from pipeline.dashboard.uses import Uses, tells_of_jobs
from pipeline.layout import SessionKey
from pipeline.logs.logs import LogFollower
from pipeline.push.push import Channel, Pusher
from pipeline.read.places import Place
from pipeline.segments.batch import Chunk
from pipeline.segments.segment import Header
from pipeline.ship.follow import Follower, Until
from pipeline.ship.release import SpoolFiles
from pipeline.ship.ship import Announce, At, nothing
from pipeline.stores.patience import Patience
from pipeline.stores.store import ObjectStore


class Life:
    """Runs them together. ``until`` as in ``follow.Follower``."""

    def __init__(
        self,
        config: CollectorConfig,
        store: ObjectStore,
        patience: Patience,
        spool: SpoolFiles,
        key: SessionKey,
        places: list[Place],
        *,
        until: Until,
        on_segment: Announce | None = None,
        channel: Channel | None = None,
        at: At = nothing,
    ) -> None:
        self._config, self._store, self._patience, self._key = config, store, patience, key
        self._uses = Uses()
        self._on_segment = on_segment
        self.records = Follower(
            config, store, patience, spool, key, places, until=until, on_batch=self._see, on_segment=self._sealed, at=at
        )
        self._push: Pusher | None = None
        if channel is not None:
            self._push = Pusher(channel, key, config.role, config.push_bytes, self.records.ask)
        self._lives = anyio.Event()
        self._beside: list[LogFollower | Poller] = []
        self._logs: LogFollower | None = None
        self._poller: Poller | None = None

    @property
    def until(self) -> Until:
        return self.records.until

    @property
    def done(self) -> bool:
        """Whether ``run`` has ended with everything in the store."""
        return self.records.done and (self._logs is None or self._logs.done)

    def wake(self) -> None:
        self.records.wake.set()

    def finish(self, until: Until) -> None:
        if until == "told":
            self._lives.set()
        for each in (self.records, *self._beside):
            each.finish(until)

    def left(self) -> int:
        """Bytes seen that are not known to be in the store. Blocking."""
        return self.records.left() + (self._logs.left() if self._logs is not None else 0)

    async def run(self) -> None:
        if self.until == "told":
            self._lives.set()
        async with anyio.create_task_group() as pushing:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.records.run)
                node = await self.records.introduced()
                if node is not None:
                    self._beside = self._companions(node)
                    for each in self._beside:
                        tasks.start_soon(each.run)
                    pushing.start_soon(self._pushed, node)
            pushing.cancel_scope.cancel()

    async def say_bye(self, over: bool, at_ms: int | None) -> None:
        """To those who listen, after ``run``: nothing more comes, and where it is ``over``, the session ended then (None: now)."""
        if self._push is not None:
            ended_ms = at_ms or time.time_ns() // 1_000_000
            await self._push.bye(ended_ms if over and self._config.role == "head" else None)

    async def _pushed(self, node: str) -> None:
        if self._push is not None:
            await self._lives.wait()
            await self._push.run(node)

    def _companions(self, node: str) -> list[LogFollower | Poller]:
        config, beside = self._config, (self._store, self._patience, self._key)
        found: list[LogFollower | Poller] = []
        if config.logs is not None:
            self._logs = LogFollower(config.logs, *beside, node, config.ray_tmp, until=self.until, redact=config.redact)
            found.append(self._logs)
            if self._push is not None:
                self._push.tails = self._logs.tail
                self._logs.tail.on_ready = self._push.hurry
        if config.poll is not None and config.role == "head":
            self._poller = Poller(
                config.poll,
                *beside,
                config.ray_tmp,
                until=self.until,
                redact=config.redact,
                uses=self._uses,
                on_kept=self._polled,
            )
            found.append(self._poller)
        return found

    async def _see(self, key: SessionKey, node: str, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self._uses.see(chunk.data)
            if self._poller is not None and tells_of_jobs(chunk.data):
                self._poller.soon()
        if self._push is not None:
            self._push.offer(chunks)

    def _polled(self, answers: int) -> None:
        if self._push is not None:
            self._push.polled(answers)

    async def _sealed(self, key: SessionKey, header: Header) -> None:
        if self._push is not None:
            self._push.sealed(header)
        if self._on_segment is not None:
            await self._on_segment(key, header)

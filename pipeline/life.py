"""All of one session that is collected here: its records, and beside them its logs and what the dashboard alone knows.

The records decide: the rest begins once they have found out which node this is, and ends with them.
"""

from __future__ import annotations

import anyio

from pipeline.batch import Chunk
from pipeline.config import CollectorConfig
from pipeline.follow import Follower, SpoolFiles, Until
from pipeline.layout import SessionKey
from pipeline.logs import LogFollower
from pipeline.patience import Patience
from pipeline.places import Place
from pipeline.poll import Poller, Uses
from pipeline.ship import Announce, At, nothing
from pipeline.store import ObjectStore


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
        at: At = nothing,
    ) -> None:
        self._config, self._store, self._patience, self._key = config, store, patience, key
        self._uses = Uses()
        self.records = Follower(
            config, store, patience, spool, key, places, until=until, on_batch=self._see, on_segment=on_segment, at=at
        )
        self._beside: list[LogFollower | Poller] = []
        self._logs: LogFollower | None = None

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
        for each in (self.records, *self._beside):
            each.finish(until)

    def left(self) -> int:
        """Bytes seen that are not known to be in the store. Blocking."""
        return self.records.left() + (self._logs.left() if self._logs is not None else 0)

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.records.run)
            node = await self.records.introduced()
            if node is not None:
                self._beside = self._companions(node)
                for each in self._beside:
                    tasks.start_soon(each.run)

    def _companions(self, node: str) -> list[LogFollower | Poller]:
        config, beside = self._config, (self._store, self._patience, self._key)
        found: list[LogFollower | Poller] = []
        if config.logs is not None:
            self._logs = LogFollower(config.logs, *beside, node, config.ray_tmp, until=self.until, redact=config.redact)
            found.append(self._logs)
        if config.poll is not None and config.role == "head":
            found.append(
                Poller(config.poll, *beside, config.ray_tmp, until=self.until, redact=config.redact, uses=self._uses)
            )
        return found

    async def _see(self, key: SessionKey, node: str, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self._uses.see(chunk.data)

"""The collector: everything that runs beside one Ray node, and how it is joined.

    Ray ──POST──▶ ingest ──▶ spool files ┐             ≤ disk_limit; full: 503, Ray keeps its events
    Ray ──▶ logs/export_events/*.log ────┤             Ray's own files, bounded by Ray's rotation
    Ray ──▶ logs/events/event_*.log ─────┘
                  │  a change (hint) or every ``rescan`` seconds (truth)
                  ▼
        Follower, one a session:
            read ─▶ decode ─▶ builder ─▶ ship ─▶ store
            4 MiB a round     1 segment  1 segment in flight: put (only if absent), announce, commit
              │   ▲              │
              │   └──── waits ◀──┘       the store is away: reading stops, the spool fills, posts get 503
              └▶ outbox ─▶ server        ≤ push_bytes; never waited for: what is too much goes by the store alone

    the session that lives now    followed until told otherwise
    the sessions left from before one at a time, beside it, until all of each is in the store

Nothing here ends because Ray isn't up or the store is away. When told to stop it takes no more posts,
reads what is there, seals and stores it within ``shutdown_budget``; what is left then stays on the disk
and goes out at the next start.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskStatus

from pipeline.alone import alone
from pipeline.config import CollectorConfig
from pipeline.errors import ConfigError, StoreError
from pipeline.layout import SessionKey
from pipeline.life import Life
from pipeline.push.channel import open_channel
from pipeline.read import node
from pipeline.read.places import Place
from pipeline.read.session import find, places
from pipeline.receive.posts import Posts, listening
from pipeline.receive.quarantine import ship_quarantine
from pipeline.receive.spool import Spool
from pipeline.roster import Roster
from pipeline.ship.follow import Until
from pipeline.ship.ship import Announce, At, nothing
from pipeline.stores.patience import Patience
from pipeline.stores.store import ObjectStore, conditional_put_works
from pipeline.watch import watch

SPOOL_FILE = 64 << 20
SPOOL_FILES = 8

log = structlog.get_logger()


async def run_collector(
    config: CollectorConfig,
    store: ObjectStore,
    *,
    stop: anyio.Event | None = None,
    on_segment: Announce | None = None,
    at: At = nothing,
    task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED,
) -> bool:
    """Collect until ``stop`` is set; returns whether all there was is in the store then. Raises ``ConfigError``.

    ``task_status`` is told the port on which posts are taken, once they are. ``on_segment`` gets each
    segment's header between its put and its commit.
    """
    if config.node_id is not None and not node.valid(config.node_id):
        raise ConfigError(f"--node-id must be 56 hex digits, not {config.node_id[:80]!r}")
    stop = stop or anyio.Event()
    async with alone(config.data_dir, stop) as ours:
        if not ours:
            return True
        return await _collect(config, store, stop, on_segment, at, task_status)


async def _collect(
    config: CollectorConfig,
    store: ObjectStore,
    stop: anyio.Event,
    on_segment: Announce | None,
    at: At,
    task_status: TaskStatus[int],
) -> bool:
    spool = await anyio.to_thread.run_sync(_spool, config)
    patience = Patience(store)
    places_of = partial(places, config.ray_tmp, config.data_dir, spool.durable)
    with listening(config.host, config.events_port) as listener:
        async with open_channel(config) as channel, anyio.create_task_group() as tasks:

            def make(session: str, where: list[Place], until: Until) -> Life:
                key = SessionKey(config.namespace, config.cluster, session)
                return Life(
                    config,
                    store,
                    patience,
                    spool,
                    key,
                    where,
                    until=until,
                    on_segment=on_segment,
                    channel=channel,
                    at=at,
                )

            roster = Roster(lambda: find(config.ray_tmp, spool.sessions()), places_of, make, config.rescan)
            posts = Posts(spool, config.body_limit, listener, roster.changed)
            tasks.start_soon(posts.run)
            tasks.start_soon(watch, partial(_watched, config, roster), config.rescan, roster.changed)
            tasks.start_soon(roster.run, tasks)
            tasks.start_soon(_keep_aside, config, store, patience, roster)
            tasks.start_soon(_try_out, store, patience)
            log.info("taking posts", host=config.host, port=posts.port, store=store.url)
            task_status.started(posts.port)
            await stop.wait()
            clean = await _finish(config, store, patience, posts, roster)
            tasks.cancel_scope.cancel()
    return clean


def _spool(config: CollectorConfig) -> Spool:
    """A full spool must have files that can be released: the one that is appended to never can."""
    size = min(SPOOL_FILE, config.disk_limit // SPOOL_FILES)
    return Spool(config.data_dir, limit_bytes=config.disk_limit, file_bytes=size)


async def _finish(
    config: CollectorConfig, store: ObjectStore, patience: Patience, posts: Posts, roster: Roster
) -> bool:
    """Take no more posts, and store what is there within the budget; returns whether that was done."""
    log.info("stopping", budget_seconds=config.shutdown_budget)
    with anyio.move_on_after(config.shutdown_budget) as budget:
        await posts.finish()
        await roster.finish()
        await ship_quarantine(config, store, patience, roster.who_is)
    left = await roster.left()
    if budget.cancelled_caught or left:
        log.error(
            "stopped before all was stored, the rest goes out at the next start", store=store.url, left_bytes=left
        )
        return False
    log.info("stopped, all is stored", store=store.url)
    return True


async def _keep_aside(config: CollectorConfig, store: ObjectStore, patience: Patience, roster: Roster) -> None:
    while True:
        await ship_quarantine(config, store, patience, roster.who_is)
        await anyio.sleep(config.rescan)


async def _try_out(store: ObjectStore, patience: Patience) -> None:
    """Say it once where the store can't keep two collectors of one node apart."""

    async def works() -> bool | None:
        try:
            return await conditional_put_works(store)
        except StoreError as exc:
            if exc.retryable:
                raise
            return None  # it doesn't let us try; whether it lets us write is seen soon enough

    if await patience.insist(works) is False:
        log.error("the store overwrites what it was told not to: never run two collectors of one node", store=store.url)


def _watched(config: CollectorConfig, roster: Roster) -> list[Path]:
    return [config.ray_tmp, config.data_dir / "spool", *roster.folders()]

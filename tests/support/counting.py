"""A server that counts sessions in the background, made quick, and what can be seen of it from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx
from blockbuster import blockbuster_ctx
from prometheus_client import Counter, Gauge
from starlette.applications import Starlette
from support.sessions import SegmentWriter, defined_task, finished_task, task_states

from api.app import create_app
from api.metrics import BACKFILL_DONE
from api.session.backfill import Pace
from api.session.overviews import wall_ms
from pipeline.config import ServerConfig, StoreConfig
from pipeline.layout import SessionKey
from pipeline.stores.store import ObjectStore

QUICK = Pace(start=0, sweep=0.02, quiet=0, patience=0, rest=0, first=0.01, last=0.02)
RECORDS = 1_768_528_800_000  # the time of the first record of any made by hand


def key(number: int) -> SessionKey:
    """Of two sessions the one with the higher number began later."""
    name = f"session_2026-01-{1 + number // 24:02d}_{number % 24:02d}-00-00_000000_1"
    return SessionKey("default", f"c{number}", name)


async def put(
    store: ObjectStore, known: SessionKey, failed: int = 0, finished: int = 2, **metadata: Any
) -> SegmentWriter:
    """A session that has ended, unless told otherwise."""
    writer = SegmentWriter(store, known)
    await writer.begin(**{"ended_ms": RECORDS} | metadata)
    lines = [line for at in range(failed) for line in defined_task(at) + task_states(at, "RUNNING", "FAILED")]
    await writer.write([*lines, *(line for at in range(finished) for line in finished_task(1000 + at))])
    return writer


@asynccontextmanager
async def several_counting(
    store: ObjectStore,
    pace: Pace = QUICK,
    now_ms: Callable[[], int] = wall_ms,
    servers: int = 1,
    **settings: Any,
) -> AsyncIterator[list[Starlette]]:
    """Applications between their start and their end. A call that would block their event loop is an error meanwhile."""
    apps = [create_app(ServerConfig(store=StoreConfig(url="memory://"), **settings), store) for _ in range(servers)]
    with blockbuster_ctx():
        async with AsyncExitStack() as stack:
            for app in apps:
                app.state.backfill.pace = pace
                app.state.overviews.now_ms = now_ms
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield apps


def talking_to(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://server")


@asynccontextmanager
async def counting(store: ObjectStore, **options: Any) -> AsyncIterator[Starlette]:
    """One of them."""
    async with several_counting(store, **options) as apps:
        yield apps[0]


async def listed(app: Starlette, **query: str) -> Any:
    """``/v1/sessions``."""
    async with talking_to(app) as http:
        answer = await http.get("/v1/sessions", params={"limit": "200", **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until(condition: Callable[[], object], within: float = 30.0) -> None:
    """Return once the condition holds; fail if it doesn't in time."""
    with anyio.fail_after(within):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await anyio.sleep(0.01)


async def all_counted(app: Starlette, count: int) -> None:
    await until(lambda: len(app.state.overviews.known) >= count)


def gauge(metric: Counter | Gauge) -> float:
    """Of a metric of this process."""
    return next(iter(next(iter(metric.collect())).samples)).value


def done(result: str) -> float:
    """How many turns came to this, of all servers of this process."""
    return gauge(BACKFILL_DONE.labels(result))

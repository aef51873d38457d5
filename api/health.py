"""Whether this server lives, and whether it is of use: ``/livez``, ``/readyz`` (``/readz``, ``/healthz``), ``/metrics``.

``StoreWatch`` knows if the store can be reached. It says so in the log when that changes and not again: one line
at the start, one when the store goes, one when it is back. While it is gone it is tried with backoff; while it is
there nobody asks but who wants to know (a probe, or a request that found it gone).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
import structlog
from anyio import to_thread
from anyio.abc import TaskGroup
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from api.session.shared import SharedWork
from pipeline.errors import StoreError, Unavailable
from pipeline.stores.store import ObjectStore

CHECK_AGE = 2.0
"""Seconds for which a probe's finding is good: probes may be many."""
CHECK_TIMEOUT = 5.0
FIRST_RETRY, LAST_RETRY = 1.0, 30.0

Clock = Callable[[], float]
log = structlog.get_logger()


class StoreWatch:
    """What is known of the store's reach. ``problem`` says why it can't be reached; None: it can, None so far: not yet tried."""

    def __init__(
        self,
        store: ObjectStore,
        found: Callable[[], Awaitable[None]],
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.problem: str | None = None
        self._store = store
        self._found = found
        self._clock = clock
        self._sleep = sleep
        self._checked: float | None = None
        self._group: TaskGroup | None = None
        self._check: SharedWork | None = None
        self._retrying = False

    def start(self, group: TaskGroup) -> None:
        """Look for the first time, in the background: a server starts whether or not its store is there."""
        self._group = group
        self._check = SharedWork(group, self._look)
        group.start_soon(self._check)

    async def check(self) -> str | None:
        """Why the store can't be reached, or None; at most ``CHECK_AGE`` seconds old."""
        assert self._check is not None, "not started"
        if self._checked is None or self._clock() - self._checked >= CHECK_AGE:
            await self._check()
        return self.problem

    def failed(self, error: StoreError) -> None:
        """A request found the store gone."""
        if error.retryable:
            self._lost(str(error))

    async def _look(self) -> None:
        try:
            with anyio.move_on_after(CHECK_TIMEOUT) as scope:
                await self._store.check()
            if scope.cancelled_caught:
                raise Unavailable(f"no answer within {CHECK_TIMEOUT:g} s")
        except StoreError as exc:
            self._lost(str(exc))
        else:
            await self._reached()
        self._checked = self._clock()

    async def _reached(self) -> None:
        first, back = self._checked is None, self.problem is not None
        self.problem = None
        if first or back:
            log.info("store is back" if back else "store reached", store=self._store.url)
            await self._found()

    def _lost(self, reason: str) -> None:
        if self.problem is None:
            log.error("store can't be reached, trying again", store=self._store.url, reason=reason)
        self.problem = reason
        if not self._retrying and self._group is not None:
            self._retrying = True
            self._group.start_soon(self._retry)

    async def _retry(self) -> None:
        assert self._check is not None
        delay = FIRST_RETRY
        while self.problem is not None:
            await self._sleep(delay)
            delay = min(delay * 2, LAST_RETRY)
            await self._check()
        self._retrying = False


async def livez(request: Request) -> Response:
    """The process answers: no more is asked."""
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    """The store can be reached; if not, why."""
    watch: StoreWatch = request.app.state.watch
    problem = await watch.check()
    if problem is None:
        return PlainTextResponse("ok\n")
    return PlainTextResponse(f"store can't be reached: {problem}\n", 503, {"Retry-After": "5"})


async def metrics(request: Request) -> Response:
    """For Prometheus, whose client reads /proc."""
    return Response(await to_thread.run_sync(generate_latest, REGISTRY), media_type=CONTENT_TYPE_LATEST)


ROUTES = [
    Route("/livez", livez),
    *(Route(path, readyz) for path in ("/readyz", "/readz", "/healthz")),
    Route("/metrics", metrics),
]

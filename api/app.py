"""The server as one ASGI application: routes, the state they share, and errors in Ray's shape.

    /, /compare, /ui/…                 our own pages, and /v1/… what they show
    /clusters, /enter_cluster/…        which sessions there are; entering one sets the cookies
    /sessions/{ns}/{name}/{session}/…  a session's answers by address
    /api/… /nodes /events …            the same, of the session that was entered
    /v1/push/…                         from collectors, as it happens
    /livez /readyz /metrics            for those who run it

An address that nothing stands at is 404 in Ray's shape, never a page: the dashboard goes blank over one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router

from api import health
from api.answers import TextAnswer, refused
from api.auth import Guard
from api.dashboard import DashboardFiles, find_builds
from api.groups import first_error
from api.health import StoreWatch
from api.live.push import push_route
from api.logs.log_stream import LogStreams
from api.logs.logs import LogStore
from api.metrics import STORE_DOWN_ANSWERS
from api.query.query import BadQuery
from api.routes import (
    authenticate,
    clusters,
    completeness,
    dashboard,
    live,
    logs,
    official,
    overviews,
    pages,
    recorded,
    state,
)
from api.session.backfill import Backfill
from api.session.overviews import Overviews
from api.session.reader import UnknownSession
from api.session.sessions import Sessions
from api.streams.hubs import Hubs
from pipeline.config import ServerConfig
from pipeline.errors import ConfigError, Full, StoreError
from pipeline.stores.catalog import rebuild_catalog
from pipeline.stores.store import ObjectStore

SESSION = "/sessions/{namespace}/{cluster}/{session}"
GZIP_FROM = 2048
NEWEST_NAMED = 5
MAX_BODY = 1 << 20  # nothing here takes one

log = structlog.get_logger()


def create_app(config: ServerConfig, store: ObjectStore) -> Starlette:
    """The application over ``store``, which stays the caller's to close. Raises ``ConfigError`` where ``live`` can't be."""
    sessions = Sessions(store, config)
    app = Starlette(
        routes=[push_route(sessions.live, config.push_token), *_routes()],
        middleware=[
            Middleware(Guard, config.tokens),
            Middleware(GZipMiddleware, minimum_size=GZIP_FROM, compresslevel=4),
        ],
        exception_handlers={
            HTTPException: _http_error,
            TextAnswer: _text,
            BadQuery: _bad_query,
            UnknownSession: _unknown_session,
            StoreError: _store_error,
            Full: _full,
            Exception: _internal_error,
        },
        lifespan=partial(_lifespan, _from_nats(config.live, sessions)),
        max_body_size=MAX_BODY,
    )
    app.router.redirect_slashes = False
    app.state.tokens = config.tokens
    app.state.sessions = sessions
    app.state.hubs = Hubs(sessions)
    app.state.dashboard = DashboardFiles(find_builds(config.dashboard_dir, config.dashboards))
    app.state.closing = anyio.Event()
    app.state.logs = LogStore(store, refresh=config.refresh)
    app.state.log_streams = LogStreams(app.state.logs, sessions.live)
    app.state.overviews = Overviews(sessions)
    app.state.watch = StoreWatch(store, lambda: _name_sessions(app))
    app.state.backfill = Backfill(
        sessions, app.state.overviews, config.backfill_bytes, config.cache_bytes, app.state.watch.failed
    )
    return app


def _routes() -> list[BaseRoute]:
    of_a_session: list[BaseRoute] = [
        *authenticate.ROUTES,
        *state.ROUTES,
        *live.ROUTES,
        *logs.ROUTES,
        *dashboard.ROUTES,
        *recorded.ROUTES,
        *completeness.ROUTES,
    ]
    own = [*pages.SESSION_ROUTES, *overviews.SESSION_ROUTES, *live.SESSION_ROUTES]
    below = Router([*official.SESSION_ROUTES, *own, *of_a_session], redirect_slashes=False)
    return [
        *official.ROUTES,
        *pages.ROUTES,
        *overviews.ROUTES,
        *clusters.ROUTES,
        *health.ROUTES,
        Route(SESSION, clusters.add_slash),
        Mount(SESSION, below),
        *of_a_session,
    ]


@asynccontextmanager
async def _lifespan(live: Callable[[], Coroutine[Any, Any, None]] | None, app: Starlette) -> AsyncIterator[None]:
    with first_error():
        async with app.state.sessions, app.state.hubs, app.state.log_streams, anyio.create_task_group() as group:
            app.state.watch.start(group)
            group.start_soon(_hold_nobody, app)
            group.start_soon(_count_until_closing, app)
            if live is not None:
                group.start_soon(live)
            yield
            group.cancel_scope.cancel()


def _from_nats(url: str | None, sessions: Sessions) -> Callable[[], Coroutine[Any, Any, None]] | None:
    """What takes pushes from NATS, which only those need who say so."""
    if url is None:
        return None
    try:
        from api.live.live_from_nats import from_nats
    except ImportError as exc:
        raise ConfigError("--live nats://… needs nats-py: pip install 'ray-history[nats]'") from exc
    return from_nats(url, sessions.live)


async def _hold_nobody(app: Starlette) -> None:
    """Collectors whose answers are held would hold up the end, and so would those who follow a log."""
    await app.state.closing.wait()
    app.state.sessions.live.close()
    app.state.log_streams.close()


async def _count_until_closing(app: Starlette) -> None:
    """What nobody waits for ends first."""
    async with anyio.create_task_group() as group:
        group.start_soon(app.state.backfill.run)
        await app.state.closing.wait()
        group.cancel_scope.cancel()


async def _name_sessions(app: Starlette) -> None:
    """Say which sessions there are. A store whose catalog is gone gets it back, if it may be written to."""
    sessions: Sessions = app.state.sessions
    try:
        found = await sessions.catalog()
        if not found:
            with first_error():
                rebuilt = await rebuild_catalog(sessions.store)
            if rebuilt:
                log.warning("catalog was empty and has been rebuilt", store=sessions.store.url, sessions=len(rebuilt))
                found = await sessions.catalog()
    except StoreError as exc:
        log.warning("sessions can't be listed", store=sessions.store.url, reason=str(exc))
        return
    newest = [str(known.key) for known in found[:NEWEST_NAMED]]
    log.info("sessions found", store=sessions.store.url, sessions=len(found), newest=newest)


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    nothing = exc.status_code == 404 and exc.detail == "Not Found"
    said = f"nothing at {request.url.path[:200]}" if nothing else exc.detail
    return refused(exc.status_code, said, headers=dict(exc.headers or {}))


async def _text(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, TextAnswer)
    return PlainTextResponse(exc.text, exc.status)


async def _bad_query(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, BadQuery)
    return refused(exc.status, str(exc), {"result": None})


async def _unknown_session(request: Request, exc: Exception) -> Response:
    return refused(404, str(exc))


async def _store_error(request: Request, exc: Exception) -> Response:
    """The reason, never an empty answer: nobody may take an outage for a session without tasks."""
    assert isinstance(exc, StoreError)
    request.app.state.watch.failed(exc)
    STORE_DOWN_ANSWERS.inc()
    store = request.app.state.sessions.store.url
    return refused(503, f"the store {store} can't be read: {exc}", headers={"Retry-After": "5"})


async def _full(request: Request, exc: Exception) -> Response:
    return refused(503, str(exc), headers={"Retry-After": "30"})


async def _internal_error(request: Request, exc: Exception) -> Response:
    log.error("request failed", path=request.url.path, error=type(exc).__name__)
    return refused(500, "internal error: the server's log has the details")

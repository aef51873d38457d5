"""The server inside the test: its application with its lifespan, and a client that talks to it without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from blockbuster import blockbuster_ctx
from starlette.applications import Starlette

from api.app import create_app
from pipeline.config import ServerConfig, StoreConfig
from pipeline.stores.store import ObjectStore


@asynccontextmanager
async def running(store: ObjectStore, **settings: object) -> AsyncIterator[Starlette]:
    """The application between its start and its end, counting nothing unasked unless told to. A call that would block its event loop is an error meanwhile."""
    settings.setdefault("backfill_bytes", 0)
    config = ServerConfig(store=StoreConfig(url="memory://"), **settings)  # type: ignore[arg-type]
    app = create_app(config, store)
    with blockbuster_ctx():
        async with app.router.lifespan_context(app):
            yield app


@asynccontextmanager
async def client(store: ObjectStore, **settings: object) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server over ``store``."""
    async with running(store, **settings) as app:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            yield http

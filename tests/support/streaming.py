"""A real server on loopback, and clients of its event streams: what a browser's EventSource does, held by the test."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
from anyio import to_thread
from blockbuster import blockbuster_ctx
from starlette.applications import Starlette

from api.app import create_app
from api.cli.run import listen, serve_http
from api.groups import first_error
from api.streams.sse_reader import EventReader, ServerEvent
from pipeline.config import ServerConfig, StoreConfig
from pipeline.stores.store import ObjectStore

PLAIN = False
"""Nothing here is encrypted, and to load what would check it takes longer than most tests."""


class LiveServer:
    """One running server. ``stop`` ends it as SIGTERM does."""

    def __init__(self, app: Starlette, listener: socket.socket, stop: anyio.Event) -> None:
        self.app = app
        self.port: int = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.stop = stop
        self.stopped = anyio.Event()


@asynccontextmanager
async def live_server(
    store: ObjectStore,
    *,
    prepare: Callable[[Starlette], None] | None = None,
    send_buffer: int | None = None,
    **settings: Any,
) -> AsyncIterator[LiveServer]:
    """A server over ``store``. A call that would block its event loop is an error meanwhile.

    ``send_buffer``: the bytes that the kernel takes for a client that doesn't read, where that isn't megabytes.
    """
    settings = {"refresh": 0.05, **settings}
    config = ServerConfig(store=StoreConfig(url="memory://"), **settings)
    app = await to_thread.run_sync(create_app, config, store)  # beside another one, whose event loop may not block
    if prepare is not None:
        prepare(app)
    stop = anyio.Event()
    with listen("127.0.0.1", 0) as listener:
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        server = LiveServer(app, listener, stop)

        async def serve() -> None:
            await serve_http(app, listener, stop)
            server.stopped.set()

        with blockbuster_ctx(), first_error():
            async with anyio.create_task_group() as group:
                group.start_soon(serve)
                try:
                    yield server
                finally:
                    stop.set()


class Client:
    """One EventSource. ``events`` are those that came, over all its connections."""

    def __init__(self, url: str, **query: Any) -> None:
        self.url, self.query = url, query
        self.reader = EventReader()
        self.events: list[ServerEvent] = []
        self.status: int | None = None
        self.ended = False
        self.more = anyio.Event()

    async def connect(self, *, resume_by: str = "header") -> None:
        """One connection, until it ends or is cancelled."""
        self.reader.restart()
        self.ended = False
        headers, query = {}, dict(self.query)
        if self.reader.last_id and resume_by == "header":
            headers["Last-Event-ID"] = self.reader.last_id
        elif self.reader.last_id:
            query["last_event_id"] = self.reader.last_id
        async with (
            httpx.AsyncClient(timeout=httpx.Timeout(10, read=None), verify=PLAIN) as http,
            http.stream("GET", self.url, params=query, headers=headers) as answer,
        ):
            self.status = answer.status_code
            async for chunk in answer.aiter_raw():
                if self.status == 200:
                    self.events += self.reader.feed(chunk)
                self._ring()
        self.ended = True
        self._ring()

    def _ring(self) -> None:
        bell, self.more = self.more, anyio.Event()
        bell.set()

    async def until(self, condition: Callable[[], object], what: str, timeout: float = 10) -> None:
        """Until what came satisfies ``condition``."""
        with anyio.move_on_after(timeout):
            while not condition():
                await self.more.wait()
            return
        raise AssertionError(f"no {what} within {timeout} s; {len(self.events)} events, last: {self.events[-3:]}")

    async def has(self, count: int, *kinds: str) -> None:
        """Until so many events (of the kinds) came."""
        await self.until(lambda: len(self.told(*kinds)) >= count, f"{count} events {kinds or ''}")

    def told(self, *kinds: str) -> list[dict[str, Any]]:
        """The data of events, of some kinds or of all but ``session``, in order."""
        return [
            json.loads(event.data)
            for event in self.events
            if (event.kind in kinds if kinds else event.kind != "session")
        ]

    def states(self) -> list[tuple[str, str]]:
        """(task, state) of the task events, in order."""
        return [(data["task_id"], data["state"]) for data in self.told("task")]


@asynccontextmanager
async def following(url: str, *, resume: Client | None = None, **query: Any) -> AsyncIterator[Client]:
    """A client that is connected; ``resume`` goes on with an earlier one. It is gone at the end."""
    client = resume or Client(url, **query)
    client.url = url
    seen = len(client.events)
    with first_error():
        async with anyio.create_task_group() as group:
            group.start_soon(client.connect)
            await client.until(lambda: len(client.events) > seen or client.ended, "first event")
            yield client
            group.cancel_scope.cancel()

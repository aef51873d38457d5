"""A stand-in for a session's event stream, held by the test: it sends what the test says, breaks off, or refuses."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import anyio
from anyio import from_thread
from anyio.lowlevel import EventLoopToken, current_token
from anyio.streams.memory import MemoryObjectSendStream
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

RETRY_MS = 20
QUEUE = 100_000


class StubStream:
    """An application in which ``…/live`` is the test's, all else ``app``'s. The methods are for the test's own thread.

    ``asked`` has the query of each connection, ``resumed`` its ``Last-Event-ID``.
    """

    def __init__(self, app: Starlette) -> None:
        self.state = app.state
        self.asked: list[dict[str, list[str]]] = []
        self.resumed: list[str | None] = []
        self.refuse: int | None = None
        self.through = False
        """Leave the streams to the application."""
        self._app = app
        self._token: EventLoopToken | None = None
        self._open: MemoryObjectSendStream[bytes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.through or scope["type"] != "http" or not scope["path"].endswith("/live"):
            await self._app(scope, receive, send)
            return
        self._token = current_token()
        self.asked.append(parse_qs(scope["query_string"].decode()))
        self.resumed.append(dict(scope["headers"]).get(b"last-event-id", b"").decode() or None)
        if self.refuse is not None:
            await send({"type": "http.response.start", "status": self.refuse, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._stream(receive, send)

    async def _stream(self, receive: Receive, send: Send) -> None:
        sending, events = anyio.create_memory_object_stream[bytes](QUEUE)
        self._open = sending
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": f"retry: {RETRY_MS}\n\n".encode(), "more_body": True})
        async with sending, events, anyio.create_task_group() as group:

            async def until_gone() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(until_gone)
            async for chunk in events:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            group.cancel_scope.cancel()

    def push(self, kind: str, number: int, **data: Any) -> None:
        """One event; its id is ``number``."""
        self.push_raw(f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n")

    def push_raw(self, text: str) -> None:
        """Whatever a stream may carry."""
        assert self._open is not None, "nobody is connected"
        from_thread.run_sync(self._open.send_nowait, text.encode(), token=self._token)

    def cut(self) -> None:
        """End the stream that is open, as a restarting server does."""
        assert self._open is not None, "nobody is connected"
        from_thread.run_sync(self._open.close, token=self._token)

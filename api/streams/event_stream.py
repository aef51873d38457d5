"""A response that goes on until its client goes, is cut, or the server stops: the ASGI end of an event stream.

sse-starlette was tried for this. It would send these bytes as they are, but it learns of a stop by asking uvicorn's
signal handlers twice a second (ours aren't uvicorn's), leaves the body of a stopped stream unfinished, and can't drop a
connection whose client doesn't read.

    chunks ─▶ send, one at a time ─▶ the client
        ▲ ends: of themselves │ client gone │ ``cut`` set or a write stuck: connection dropped │ server stops: body ended
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.streams.connection import aborting

HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""No proxy may keep, pack or hold back what it passes on."""
STUCK = 60.0
"""Seconds that one write may take: a client that reads nothing for so long has gone without saying so."""
LAST_WORDS = 0.5
"""Seconds for the end of a body once the server stops."""


class Reader(Protocol):
    """Who reads a stream: ``cut`` is set to be rid of it, ``sending_since`` is when the write under way began."""

    cut: anyio.Event
    sending_since: float | None


class EventStream(Response):
    """Sends ``chunks`` until ``closing`` is set. ``leave`` is called once, whatever happened."""

    media_type = "text/event-stream"

    def __init__(
        self, chunks: AsyncGenerator[bytes], reader: Reader, leave: Callable[[], None], closing: anyio.Event
    ) -> None:
        self.status_code = 200
        self.background = None
        self._chunks, self._reader, self._leave, self._closing = chunks, reader, leave, closing
        self.init_headers(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._chunks):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                if scope["method"] != "HEAD":
                    await self._stream(aborting(scope), receive, send)
                else:
                    await send({"type": "http.response.body", "body": b""})
        finally:
            self._leave()

    async def _stream(self, abort: Callable[[], None], receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as sending:
                group.start_soon(self._until_gone, receive, group.cancel_scope)
                group.start_soon(self._until_cut, abort, group.cancel_scope)
                group.start_soon(self._until_closing, sending)
                await self._send_all(send)
            with anyio.move_on_after(LAST_WORDS) as ending:
                await send({"type": "http.response.body", "body": b""})
            if ending.cancelled_caught:
                abort()
            group.cancel_scope.cancel()

    async def _send_all(self, send: Send) -> None:
        reader = self._reader
        async for chunk in self._chunks:
            reader.sending_since = anyio.current_time()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            reader.sending_since = None

    async def _until_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _until_cut(self, abort: Callable[[], None], scope: anyio.CancelScope) -> None:
        await self._reader.cut.wait()
        abort()
        await anyio.sleep(LAST_WORDS)
        scope.cancel()

    async def _until_closing(self, scope: anyio.CancelScope) -> None:
        await self._closing.wait()
        scope.cancel()

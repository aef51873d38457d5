"""Lists beyond Ray's: pages, order, time ranges and columns as JSON; all rows as NDJSON or CSV, streamed.

A request without any parameter of ours goes to Ray's own answer untouched. A stream:

    choose (which rows, in which order) ─▶ make a slice ─▶ write it ─▶ send ─▶ the next slice …
     └──────── under the session's lock, in a thread ──┘   thread        └ waits for the client

The view it gives: which rows, and in which order, is settled when it begins; each row is what is known when its
slice is made, so of a session that lives a later row may know more than an earlier one. Rows never repeat, and none
that was chosen is left out.

What it holds: four bytes a task, a reference an actor, node or worker, the rows of lists that are short, and one
slice. The session stays in memory, and counted, as long as it is streamed. At most ``MAX_STREAMS`` at a time; a client
that takes nothing for ``PATIENCE`` seconds is let go, and one that goes away ends its stream with the slice under way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import structlog
from anyio import to_thread
from msgspec import Struct, structs
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from api.answers import enveloped
from api.index.session_index import SessionIndex
from api.query.paging import Beyond, Chosen, as_rows, asks_beyond, parse_beyond, whole_number
from api.query.query import BadQuery, ListOptions, parse_list_options
from api.query.schemas import Schema
from api.query.tables import MEDIA_TYPES, WRITERS, Format, csv_names, wanted
from api.routes.session import Asked, asked_of, opened, put_question, query_of
from api.session.reader import SessionReader
from api.session.sessions import Sessions
from api.views.redaction import MASKED, redacted_rows
from pipeline.errors import Full

MAX_STREAMS = 8
PATIENCE = 60.0
FIRST_SLICE, LARGEST_SLICE = 256, 8192
SLICE_BYTES = 512 << 10
"""About what one slice is written as; more than Starlette compresses on the event loop."""

Rows = list[dict[str, Any]]
View = Callable[[SessionIndex, ListOptions, Asked], dict[str, Any]]
Close = Callable[[Rows, Asked], None]
Endpoint = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger()


class Listed(Struct, frozen=True):
    """One list: its columns, what answers it, and what is done to the rows that are shown."""

    schema: Schema
    view: View
    close: Close | None = None

    def finished(self, rows: Rows, asked: Asked) -> Rows:
        """The rows as they may be shown to who asks."""
        if self.close is not None:
            self.close(rows, asked)
        return redacted_rows(rows) if asked.browser else rows


def listing(schema: Schema, view: View, close: Close | None = None) -> Endpoint:
    """The endpoint of a list."""
    listed = Listed(schema, view, close)

    async def endpoint(request: Request) -> Response:
        form = _format(request)
        if form == "json":
            return await put_question(request, lambda index, asked: _answer(listed, index, asked), {"Vary": "Accept"})
        return Export(listed, form, request, await opened(request))

    return endpoint


def _format(request: Request) -> Format:
    asked = request.query_params.get("format")
    form = wanted(asked, request.headers.get("accept", ""))
    if form is None:
        raise BadQuery(f"format {str(asked)[:80]!r} is none of {', '.join(MEDIA_TYPES)}")
    return form


def _answer(listed: Listed, index: SessionIndex, asked: Asked) -> dict[str, Any]:
    options = parse_list_options(asked.query)
    if asks_beyond(asked.query):
        beyond = parse_beyond(asked.query, listed.schema, asked.key.session, limit=options.limit)
        _check_masked(beyond, asked.browser)
        options = structs.replace(options, beyond=beyond)
    answer = listed.view(index, options, asked)
    answer["result"] = listed.finished(answer["result"], asked)
    answer["partial_failure_warning"] = answer["partial_failure_warning"] or asked.warning
    return enveloped({"result": answer})


def _stream_options(listed: Listed, asked: Asked) -> ListOptions:
    """Options of a stream, whose limit is its own: none unless told, and any number."""
    told = asked.first("limit")
    limit = None if told is None else whole_number("limit", told)
    beyond = parse_beyond(asked.query, listed.schema, asked.key.session, stream=True, limit=limit)
    _check_masked(beyond, asked.browser)
    return structs.replace(parse_list_options(pair for pair in asked.query if pair[0] != "limit"), beyond=beyond)


def _check_masked(beyond: Beyond, browser: bool) -> None:
    """What a browser isn't shown it can't sort by either: the order would tell."""
    if browser and beyond.order is not None and beyond.order.column in MASKED:
        raise BadQuery(f"sort_by {beyond.order.column}: a browser isn't shown all of it, and can't sort by it", 403)


class Export(StreamingResponse):
    """All rows of a list, written while they are sent."""

    def __init__(self, listed: Listed, form: Format, request: Request, reader: SessionReader) -> None:
        super().__init__(_nothing(), media_type=MEDIA_TYPES[form])
        self._listed = listed
        self._form: Format = form
        self._request = request
        self._key = reader.key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sessions: Sessions = self._request.app.state.sessions
        with _slot(self._request):
            async with sessions.watch(self._key) as reader:
                asked = asked_of(self._request, reader, query_of(self._request))
                options = _stream_options(self._listed, asked)
                answer = await reader.query(lambda index: self._listed.view(index, options, asked))
                chosen: Chosen[Any] = answer["result"]
                self._describe(chosen, answer["partial_failure_warning"] or asked.warning)
                whole = self._request.method != "HEAD"
                self.body_iterator = self._lines(reader, chosen, asked) if whole else _nothing()
                await self._respond(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patient(message: Message) -> None:
            with anyio.fail_after(PATIENCE):
                await send(message)

        try:
            await super().__call__(scope, receive, patient)
        except TimeoutError:  # what was sent stays unfinished, which the client can tell
            log.warning("client takes nothing, let go", session=str(self._key), resource=self._listed.schema.resource)

    def _describe(self, chosen: Chosen[Any], warning: str) -> None:
        name = f"{self._listed.schema.resource}-{self._key.session}.{self._form}"
        said = {
            "Cache-Control": "no-store",
            "Vary": "Accept",
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Ray-History-Rows": str(len(chosen)),
        }
        if warning:
            said["X-Ray-History-Warning"] = " ".join(warning[:500].split()).encode("ascii", "replace").decode()
        self.headers.update(said)

    async def _lines(self, reader: SessionReader, chosen: Chosen[Any], asked: Asked) -> AsyncIterator[bytes]:
        if self._form == "csv":
            yield csv_names(chosen.columns)
        at, size = 0, FIRST_SLICE
        while at < len(chosen):
            lines = await self._slice(reader, chosen, asked, at, at + size)
            yield lines
            at += size
            size = max(1, min(size * SLICE_BYTES // max(len(lines), 1), 4 * size, LARGEST_SLICE))

    async def _slice(self, reader: SessionReader, chosen: Chosen[Any], asked: Asked, start: int, stop: int) -> bytes:
        cells = await reader.query(lambda index: chosen.cells(start, stop))

        def write() -> bytes:
            shown = cells
            if asked.browser:
                rows = self._listed.finished(as_rows(chosen.columns, cells), asked)
                shown = [[row[name] for row in rows] for name in chosen.columns]
            return WRITERS[self._form](chosen.columns, shown)

        return await to_thread.run_sync(write)


async def _nothing() -> AsyncIterator[bytes]:
    none: tuple[bytes, ...] = ()
    for nothing in none:
        yield nothing


class _slot:  # noqa: N801  read as the phrase it makes: with _slot(request)
    """One of the streams that may run at a time. Raises ``Full`` where all do."""

    def __init__(self, request: Request) -> None:
        self._state = request.app.state

    def __enter__(self) -> None:
        taken = getattr(self._state, "streams", 0)
        if taken >= MAX_STREAMS:
            raise Full(f"{MAX_STREAMS} lists are being streamed, and no more can be; try again")
        self._state.streams = taken + 1

    def __exit__(self, *error: object) -> None:
        self._state.streams -= 1

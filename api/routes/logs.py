"""Log files over HTTP: ``/api/v0/logs``, ``/api/v0/logs/{file|stream}``, a submission's log as JSON and as a WebSocket.

A file is streamed as it is read, whatever its size, and a stream is never packed on its way: what packs waits for more.
What Ray refuses is refused with its status and words.
"""

from __future__ import annotations

import codecs
import io
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.answers import TextAnswer, enveloped, plain
from api.groups import first_error
from api.index.jobs import TERMINAL
from api.index.session_index import SessionIndex
from api.logs.log_stream import LogStreams
from api.logs.logs import LogStore
from api.routes.session import named, opened, query_of
from api.session.reader import SessionReader, UnknownSession
from api.session.sessions import Sessions
from api.views.jobs import does_not_exist, job_rest
from api.views.log_index import SessionLogIndex
from api.views.log_target import candidates
from api.views.logs import DEFAULT_GLOB, LogOptions, NoLog, asked_node, parse_log_options
from pipeline.errors import Full, RayHistoryError
from pipeline.layout import SessionKey

ONLY_SUBMISSIONS = "Can only get logs of submission type jobs"
MESSAGE_CHARS = 20_000
"""Characters of one WebSocket message, as in Ray."""
TRY_AGAIN_LATER = 1013
"""A WebSocket's close code."""
AS_IT_COMES = {"Content-Encoding": "identity", "X-Accel-Buffering": "no"}
SETTLED = 15.0
"""Seconds after a job's end by which the last of its log is in the store."""
START_EVERY = 0.25
"""Seconds between two looks whether a submission has been given a node."""


async def _list(request: Request) -> Response:
    query = dict(reversed(query_of(request)))
    reader = await opened(request)
    node_id = await reader.query(
        lambda index: asked_node(query.get("node_id"), query.get("node_ip"), SessionLogIndex(index).node_of_ip)
    )
    try:
        found = await _logs(request).list_files(reader.key, node_id, query.get("glob", DEFAULT_GLOB))
    except NoLog as exc:
        return PlainTextResponse(str(exc), 500)
    return plain(enveloped({"result": found}))


async def _file(request: Request) -> Response:
    reader = await opened(request)
    try:
        asked = parse_log_options(query_of(request), request.path_params["media_type"])
        places = await reader.query(lambda index: candidates(SessionLogIndex(index), asked))
        coming = asked.follow and bool(asked.submission_id)  # of a submission it is known where its log will be
        ended = partial(_complete, request, reader.key, asked)
        pieces = _streams(request).stream(reader.key, places, asked, ended, expected=coming)
        if asked.follow:
            pieces = _in_room(_streams(request), pieces)
        first = await anext(pieces, b"")
    except NoLog as exc:
        return PlainTextResponse(str(exc), 500)
    name = asked.download_filename.encode("utf-8", "replace").decode("latin-1")  # its bytes as they are, as from Ray
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if asked.follow:
        headers |= AS_IT_COMES
    return StreamingResponse(_joined(first, pieces), headers=headers, media_type="text/plain")


async def _job_log(request: Request) -> Response:
    """A submission's whole log as one JSON string, written while it is read."""
    reader = await opened(request)
    job_id = request.path_params["job_id"]
    submission_id = await reader.query(lambda index: _submission(index, job_id))
    texts = _texts(request, reader, submission_id, follow=False)
    first = await anext(texts, "")
    return StreamingResponse(_as_json(first, texts), media_type="application/json")


async def _follow_job_log(socket: WebSocket) -> None:
    """The same as it grows, in messages; closed at its end."""
    await socket.accept()
    with first_error():
        async with anyio.create_task_group() as group:
            group.start_soon(_until_left, socket, group.cancel_scope)
            await _send_job_log(socket)
            group.cancel_scope.cancel()


async def _until_left(socket: WebSocket, scope: anyio.CancelScope) -> None:
    """Whoever leaves while nothing is written is noticed too."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
    scope.cancel()


async def _send_job_log(socket: WebSocket) -> None:
    try:
        with _streams(socket).room():
            await _send_messages(socket)
    except WebSocketDisconnect:
        return
    except HTTPException as exc:
        await socket.close(1008, exc.detail[:100])
    except Full as exc:
        await socket.close(TRY_AGAIN_LATER, str(exc)[:100])
    except (TextAnswer, RayHistoryError, UnknownSession) as exc:
        await socket.close(1011, str(exc)[:100])
    else:
        await socket.close()


async def _send_messages(socket: WebSocket) -> None:
    sessions: Sessions = socket.app.state.sessions
    reader = await sessions.open(await sessions.resolve(*named(socket)))  # type: ignore[arg-type]
    submission_id = await reader.query(lambda index: _submission(index, socket.path_params["job_id"]))
    async with aclosing(_texts(socket, reader, submission_id, follow=True)) as texts:
        async for text in texts:
            for at in range(0, len(text), MESSAGE_CHARS):
                await socket.send_text(text[at : at + MESSAGE_CHARS])


def _submission(index: SessionIndex, job_id: str) -> str:
    """The submission that a job id or submission id means. Raises ``TextAnswer`` as Ray refuses it."""
    row = job_rest(index, job_id)
    if row is None:
        raise TextAnswer(404, does_not_exist(job_id))
    if row.get("type") != "SUBMISSION":
        raise TextAnswer(400, ONLY_SUBMISSIONS)
    return str(row["submission_id"])


async def _texts(
    connection: Request | WebSocket, reader: SessionReader, submission_id: str, *, follow: bool
) -> AsyncGenerator[str]:
    """The text of a submission's log, line ends as Python reads them; nothing where there is no log."""
    asked = LogOptions(submission_id=submission_id, lines=-1, follow=follow)
    if follow:
        reader = await _started(connection, reader, submission_id)
    places = await reader.query(lambda index: candidates(SessionLogIndex(index), asked))
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    try:
        async for piece in _streams(connection).stream(
            reader.key, places, asked, lambda: _over(connection, reader.key, submission_id), expected=True
        ):
            if text := decoder.decode(piece):
                yield text
    except NoLog:
        return
    if rest := decoder.decode(b"", final=True):
        yield rest


async def _started(connection: Request | WebSocket, reader: SessionReader, submission_id: str) -> SessionReader:
    """The session once it says which node a submission runs on, or that it never will: until then there is no log, as at Ray."""
    while True:
        row = await reader.query(lambda index: job_rest(index, submission_id)) or {}
        if row.get("driver_node_id") or row.get("status") in TERMINAL or await _ended(connection, reader.key):
            return reader
        await anyio.sleep(START_EVERY)
        reader = await _now(connection, reader.key)


async def _now(connection: Request | WebSocket, key: SessionKey) -> SessionReader:
    """The session as it is now: one that was let go from memory meanwhile doesn't grow any more."""
    sessions: Sessions = connection.app.state.sessions
    return await sessions.open(key)


async def _ended(connection: Request | WebSocket, key: SessionKey) -> bool:
    """Whether the session is over, as far as the store says now, and who is heard."""
    sessions: Sessions = connection.app.state.sessions
    metadata = (await _now(connection, key)).metadata
    live = sessions.live
    if metadata is None:  # so young that nothing of it is stored, or nobody knows
        return not live.liveness.present(key, live.now_ms())
    return live.liveness.ended_ms(metadata, live.now_ms()) is not None


async def _complete(connection: Request | WebSocket, key: SessionKey, asked: LogOptions) -> bool | None:
    """Whether nothing more will come of the log that is asked for, as ``_over``: a submission's ends with it, any other with the session."""
    if asked.submission_id:
        return await _over(connection, key, asked.submission_id)
    return await _ended(connection, key)


async def _over(connection: Request | WebSocket, key: SessionKey, submission_id: str) -> bool | None:
    """Whether nothing more will come of a submission's log; None where nothing more is written."""
    if await _ended(connection, key):
        return True
    reader = await _now(connection, key)
    row = await reader.query(lambda index: job_rest(index, submission_id)) or {}
    if row.get("status") not in TERMINAL:
        return False
    return time.time() - (row.get("end_time") or 0) / 1000 > SETTLED or None


def _logs(connection: Request | WebSocket) -> LogStore:
    logs: LogStore = connection.app.state.logs
    return logs


def _streams(connection: Request | WebSocket) -> LogStreams:
    streams: LogStreams = connection.app.state.log_streams
    return streams


async def _in_room(streams: LogStreams, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    with streams.room():
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece


async def _joined(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


async def _as_json(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield '{"logs": "' + json.dumps(first)[1:-1]
    async for text in rest:
        yield json.dumps(text)[1:-1]
    yield '"}'


ROUTES: list[BaseRoute] = [
    Route("/api/v0/logs", _list),
    Route("/api/v0/logs/{media_type}", _file),
    Route("/api/jobs/{job_id}/logs", _job_log),
    WebSocketRoute("/api/jobs/{job_id}/logs/tail", _follow_job_log),
]
"""``app.state.logs`` must be a ``LogStore``, ``app.state.log_streams`` its ``LogStreams``."""

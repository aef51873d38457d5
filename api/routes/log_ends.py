"""What was logged last by what failed, for the page that shows the failure: never refused because there is no log.

/sessions/…/v1/log_ends?task_id=…&attempt_number=…   an attempt's stdout and stderr; its worker's where Ray kept none apart
/sessions/…/v1/log_ends?submission_id=…              what a job's driver said

At most ``LINES`` lines and ``MAX_BYTES`` bytes of each; ``query`` asks ``/api/v0/logs/file`` for all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from api.answers import encode, json_bytes
from api.index.session_index import SessionIndex
from api.logs.logs import LogStore
from api.query.query import BadQuery
from api.routes.session import opened, query_of, while_connected
from api.session.reader import SessionReader
from api.views.log_index import SessionLogIndex
from api.views.log_target import Place, candidates
from api.views.logs import LogOptions, NoLog

LINES = 30
MAX_BYTES = 16 << 10
NOT_YET = "it is not in the store yet"
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class LogEnd(Struct, frozen=True):
    """``of``: whose log it is. ``whole``: nothing stands before ``text`` in it. ``query`` is None where Ray's address has no name for it."""

    of: str
    text: str
    whole: bool
    query: str | None


class LogEnds(Struct, frozen=True):
    """``why`` there is none, in Ray's words where it has some; empty where there are some. ``later``: ask again."""

    ends: list[LogEnd]
    why: str
    later: bool = False


class Wanted(Struct, frozen=True):
    """One log to look for, as ``LogEnd`` says; the first of ``places`` that has it."""

    of: str
    places: list[Place]
    query: str | None


async def log_ends(request: Request) -> Response:
    """See the module."""
    asked = _asked(dict(query_of(request)))
    reader = await opened(request)
    logs: LogStore = request.app.state.logs

    async def work() -> LogEnds:
        found, why = [], ""
        for each in asked:
            try:
                found.append(await _end(logs, reader, each))
            except NoLog as exc:
                why = why or str(exc).strip().partition("\n")[0]
        return LogEnds(found, "" if found else why, not found and why == NOT_YET)

    return json_bytes(encode(await while_connected(request, work)), headers={"Cache-Control": "no-store"})


def _asked(query: dict[str, str]) -> list[LogOptions]:
    attempt = query.get("attempt_number") or "0"
    if submission_id := query.get("submission_id"):
        return [LogOptions(submission_id=submission_id)]
    if not (task_id := query.get("task_id")):
        raise BadQuery("task_id or submission_id must say whose log")
    if not (attempt.isascii() and attempt.isdigit() and len(attempt) <= 9):
        raise BadQuery("attempt_number must be a whole number")
    return [LogOptions(task_id=task_id, attempt_number=int(attempt), suffix=suffix) for suffix in ("err", "out")]


async def _end(logs: LogStore, reader: SessionReader, asked: LogOptions) -> LogEnd:
    """Raises ``NoLog``."""
    wanted = await reader.query(lambda index: _wanted(index, asked))
    file, place = await logs.find(reader.key, wanted.places, asked)
    size = await file.size()
    end = size if place.end is None else min(place.end, size)
    begin = await file.mark_before(end) if place.marked else place.start or 0
    start = max(begin, end - MAX_BYTES)
    text = b"".join([piece async for piece in file.read(start, end)]).decode("utf-8", "replace")
    if not text and end < (place.end or 0):
        raise NoLog(NOT_YET)
    lines = _COLOURS.sub("", text).splitlines()
    return LogEnd(wanted.of, "\n".join(lines[-LINES:]), start == begin and len(lines) <= LINES, wanted.query)


def _wanted(index: SessionIndex, asked: LogOptions) -> Wanted:
    """Where Ray looks; where it has no place for the attempt, the file of the worker that ran it. Raises ``NoLog``."""
    known = SessionLogIndex(index)
    if asked.submission_id is not None:
        places = candidates(known, asked)
        named = {"node_id": places[0].node_id, "filename": places[0].filename}
        return Wanted("driver", places, _query(named, asked) if places[0].node_id is not None else None)
    try:
        attempt = {"task_id": asked.task_id, "attempt_number": asked.attempt_number}
        return Wanted(f"std{asked.suffix}", candidates(known, asked), _query(attempt, asked))
    except NoLog:
        if (worker := _worker(known, asked)) is None:
            raise
        return worker


def _worker(known: SessionLogIndex, asked: LogOptions) -> Wanted | None:
    try:
        place = known.task_place(bytes.fromhex(asked.task_id or ""), asked.attempt_number)
    except ValueError:
        return None
    if place is None or place.node_id is None or place.worker_id is None:
        return None
    query = _query({"actor_id": place.actor_id}, asked) if place.actor_id is not None else None
    return Wanted(f"std{asked.suffix} of its worker", [Place(place.node_id, worker_id=place.worker_id)], query)


def _query(named: Mapping[str, object], asked: LogOptions) -> str:
    return urlencode({**named, "suffix": asked.suffix, "lines": -1})

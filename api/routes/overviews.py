"""What the pages are made of, as JSON; anyone else may ask too. Parameters are bounded, refusals have Ray's shape.

/v1/sessions                      a page of the list: search, namespace, status, failed, sort, offset, limit
/v1/compare?a=…&b=…               two sessions, each as namespace/name/session
/sessions/…/v1/overview           one session at a glance: bins
/sessions/…/v1/summary            its line of the list, counted: load
/sessions/…/v1/log_ends           what was logged last by what failed (``log_ends.py``)
"""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

import msgspec
from anyio import to_thread
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answers import encode, json_bytes
from api.auth import check_namespace, may_see
from api.query.query import BadQuery
from api.routes.log_ends import log_ends
from api.routes.session import named, opened, query_of, while_connected
from api.session.overviews import Overviews
from api.session.reader import SessionReader
from api.session.sessions import Sessions
from api.status import Status
from api.views.compare import compare, profile
from api.views.session_list import MAX_LIMIT, MAX_OFFSET, MAX_SEARCH, SORTS, Line, ListQuery, Summary, ident, line, page
from pipeline.layout import SessionKey
from pipeline.stores.catalog import SessionMetadata, new_metadata

MAX_BINS = 500
DEFAULT_BINS = 120
NO_STORE = {"Cache-Control": "no-store"}


async def _sessions(request: Request) -> Response:
    """``search`` words, ``namespace``, ``status`` live|ended|lost, ``failed`` 1, ``sort`` (with ``-`` for descending),
    ``offset``, ``limit``.

    ``summary`` of a line is null until the session was counted, in the background or because someone asked
    (``/v1/summary`` below it); with ``too_large``, only the latter will. ``status`` is null where no end was said and
    nobody has listened of late; ``status=live`` finds those too.
    """
    query = _list_query(dict(query_of(request)))
    sessions: Sessions = request.app.state.sessions
    overviews: Overviews = request.app.state.overviews
    listed = await while_connected(request, sessions.catalog)
    listed = [known for known in listed if may_see(request, known.namespace)]
    work = partial(page, listed, overviews.known, query, overviews.now_ms(), overviews.sizes)
    return _answer(await to_thread.run_sync(lambda: encode(work())))


async def _summary(request: Request) -> Response:
    """``load=1`` loads the session whatever its size; without it ``too_large`` says how many bytes stand in the way."""
    load = dict(query_of(request)).get("load") == "1"
    sessions: Sessions = request.app.state.sessions
    overviews: Overviews = request.app.state.overviews

    async def work() -> tuple[SessionKey, dict[str, Any]]:
        key = await sessions.resolve(*named(request))
        found = await overviews.find(key, load)
        known = await _metadata(sessions, key)
        shown = line(known, found.summary, overviews.now_ms(), overviews.sizes.get(ident(known)))
        return key, {"session": shown, "too_large": found.bytes or None}

    key, answer = await while_connected(request, work)
    return _answer(encode(answer), BackgroundTask(overviews.keep, key))


async def _overview(request: Request) -> Response:
    """``bins`` of the picture. Counts, failures put together, durations by name, activity over time, nodes, jobs."""
    bins = _number(dict(query_of(request)), "bins", DEFAULT_BINS, 1, MAX_BINS)
    overviews: Overviews = request.app.state.overviews
    reader = await opened(request)
    made, summary = await overviews.overview(reader, bins)
    warning = await overviews.warning(reader)
    answer = {
        "session": _line(overviews, reader, summary),
        "completeness": {"complete": not warning, "warning": warning},
        "overview": made,
    }
    return _answer(await to_thread.run_sync(encode, answer), BackgroundTask(overviews.keep, reader.key))


async def _compare(request: Request) -> Response:
    """``a`` before and ``b`` after, each ``namespace/name/session``; ``live`` and ``latest`` are sessions too."""
    asked = dict(query_of(request))
    sides = [_side(asked, name) for name in ("a", "b")]
    for namespace, _, _ in sides:
        check_namespace(request, namespace)
    overviews: Overviews = request.app.state.overviews

    async def work() -> list[SessionReader]:
        return await _open_both(request.app.state.sessions, sides)

    readers = await while_connected(request, work)
    profiles = [await reader.query(profile) for reader in readers]
    if len({known.grouped_by for known in profiles}) > 1:
        profiles = [await reader.query(partial(profile, by_function=True)) for reader in readers]
    lines = [
        _line(overviews, reader, await overviews.remember(reader, known.counts))
        for reader, known in zip(readers, profiles, strict=True)
    ]
    compared = await to_thread.run_sync(compare, profiles[0], profiles[1])
    return _answer(encode({"a": lines[0], "b": lines[1], "comparison": compared}))


async def _open_both(sessions: Sessions, sides: list[tuple[str, str, str]]) -> list[SessionReader]:
    """One after the other: a cache that holds one of them only must not have them push each other out."""
    return [await sessions.open(await sessions.resolve(*names)) for names in sides]


def _line(overviews: Overviews, reader: SessionReader, summary: Summary) -> Line:
    shown = line(overviews.metadata(reader), summary, overviews.now_ms())
    return msgspec.structs.replace(shown, ray_version=reader.ray_version)


async def _metadata(sessions: Sessions, key: SessionKey) -> SessionMetadata:
    """As the list has it; a session that only its own folder knows is told of by its name."""
    wanted = key.namespace, key.cluster, key.session
    for known in await sessions.catalog():
        if (known.namespace, known.cluster, known.session) == wanted:
            return known
    return new_metadata(key)


def _list_query(asked: dict[str, str]) -> ListQuery:
    sort = asked.get("sort") or "-start"
    status: Any = asked.get("status") or None
    if sort.removeprefix("-") not in SORTS:
        raise BadQuery(f"sort must be one of {', '.join(SORTS)}, with - before it for descending")
    if status not in (None, *get_args(Status)):
        raise BadQuery(f"status must be one of {', '.join(get_args(Status))}")
    search = asked.get("search", "")
    if len(search) > MAX_SEARCH:
        raise BadQuery(f"search is over the limit of {MAX_SEARCH} characters")
    return ListQuery(
        search=search,
        namespace=asked.get("namespace") or None,
        status=status,
        failed=_flag(asked, "failed"),
        sort=sort.removeprefix("-"),  # type: ignore[arg-type]
        descending=sort.startswith("-"),
        offset=_number(asked, "offset", 0, 0, MAX_OFFSET),
        limit=_number(asked, "limit", ListQuery().limit, 1, MAX_LIMIT),
    )


def _number(asked: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    text = asked.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise BadQuery(f"{name} must be a whole number from {least} to {most}")
    return int(text)


def _flag(asked: dict[str, str], name: str) -> bool:
    text = asked.get(name) or "0"
    if text not in ("0", "1"):
        raise BadQuery(f"{name} must be 1 or 0")
    return text == "1"


def _side(asked: dict[str, str], name: str) -> tuple[str, str, str]:
    parts = asked.get(name, "").split("/")
    if len(parts) != 3:
        raise BadQuery(f"{name} must name a session as namespace/name/session")
    return parts[0], parts[1], parts[2]


def _answer(body: bytes, background: BackgroundTask | None = None) -> Response:
    response = json_bytes(body, headers=NO_STORE)
    response.background = background
    return response


ROUTES = [Route("/v1/sessions", _sessions), Route("/v1/compare", _compare)]
SESSION_ROUTES = [
    Route("/v1/overview", _overview),
    Route("/v1/summary", _summary),
    Route("/v1/log_ends", log_ends),
]

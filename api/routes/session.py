"""From a request to the session it asks about, and from a question to an answer.

A request names its session by its path (``/sessions/{namespace}/{cluster}/{session}/…``) or, at the root, by the
cookies that ``/enter_cluster`` sets. Waiting for a session ends when the client goes away: a load that nobody
waits for is cancelled (``shared.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.answers import encode, json_bytes
from api.auth import check_namespace
from api.groups import first_error
from api.index.session_index import SessionIndex
from api.query.query import BadQuery
from api.routes.freshness import cache_headers, not_modified, over_ms
from api.session.reader import SessionReader
from api.session.sessions import Sessions
from api.snapshots import Snapshots
from pipeline.layout import SessionKey

NAMESPACE_COOKIE, CLUSTER_COOKIE, SESSION_COOKIE = "cluster_namespace", "cluster_name", "session_name"
MAX_QUERY = 32 << 10
MAX_FILTERS = 200
CLIENT_CLOSED = 499

_BROWSER_HEADERS = (
    "referer",
    "origin",
    "sec-fetch-mode",
    "sec-fetch-dest",
    "sec-fetch-site",
    "sec-fetch-user",
    "access-control-request-method",
    "access-control-request-headers",
)

T = TypeVar("T")


class Asked(Struct, frozen=True):
    """What a view may need to know beside the index. ``query`` in order, as ``parse_list_options`` reads it.

    ``over_ms``: the last that was heard of a session that is over; 0 of one that lives.
    """

    key: SessionKey
    ray_version: str | None
    snapshots: Snapshots
    query: list[tuple[str, str]]
    path: dict[str, str]
    warning: str
    browser: bool
    over_ms: int
    now_ms: int

    @property
    def close_ms(self) -> int:
        """The end to show of what has none, 0 where none is to be shown (see ``views/closing.py``)."""
        return self.over_ms if self.browser else 0

    def first(self, name: str) -> str | None:
        """The first value of a query parameter, as Ray takes it."""
        return next((value for key, value in self.query if key == name), None)


Question = Callable[[SessionIndex, Asked], Any]


def query_of(request: Request) -> list[tuple[str, str]]:
    """The query string's pairs. Raises ``BadQuery`` for more than anyone means."""
    if len(request.scope["query_string"]) > MAX_QUERY:
        raise BadQuery(f"query string is over the limit of {MAX_QUERY} bytes")
    pairs = request.query_params.multi_items()
    if sum(name == "filter_keys" for name, _ in pairs) > MAX_FILTERS:
        raise BadQuery(f"more than {MAX_FILTERS} filters")
    return pairs


def named(request: Request) -> tuple[str, str, str]:
    """Namespace, cluster and session that the request names, by path or by cookie, if its token opens them."""
    names = _named(request)
    check_namespace(request, names[0])
    return names


def _named(request: Request) -> tuple[str, str, str]:
    path = request.path_params
    if "session" in path:
        return path["namespace"], path["cluster"], path["session"]
    names = (NAMESPACE_COOKIE, CLUSTER_COOKIE, SESSION_COOKIE)
    try:
        namespace, cluster, session = (request.cookies[name] for name in names)
    except KeyError:
        raise HTTPException(
            404 if is_proxied(request) else 400,
            "which session? This request names none: open one of those listed at /clusters with "
            "/enter_cluster/{namespace}/{name}/{session}, or put /sessions/{namespace}/{name}/{session} before the path",
        ) from None
    return namespace, cluster, session


def is_proxied(request: Request) -> bool:
    """Whether Ray's own proxy (``--proxy-server-url``) sent this on: by the header that it adds where there is no body.

    A 404 has it answer for the cluster that it runs in, as if there were no history server.
    """
    return request.scope.get("method") in ("GET", "HEAD") and request.headers.get("content-type") == "application/json"


async def opened(request: Request) -> SessionReader:
    """The session that the request names, fresh. Raises what ``Sessions`` raises, and 499 where the client has gone."""
    sessions: Sessions = request.app.state.sessions
    names = named(request)

    async def open_it() -> SessionReader:
        return await sessions.open(await sessions.resolve(*names))

    return await while_connected(request, open_it)


async def while_connected(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Do ``work``, and let it go when the client has gone."""

    async def watch(scope: anyio.CancelScope) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    with first_error():
        async with anyio.create_task_group() as group:
            group.start_soon(watch, group.cancel_scope)
            result = await work()
            group.cancel_scope.cancel()
            return result
    raise HTTPException(CLIENT_CLOSED, "the client has gone")


def from_browser(request: Request) -> bool:
    """Whether a browser asks, by the signs that Ray goes by: it isn't shown what may be a secret."""
    return request.headers.get("user-agent", "").startswith("Mozilla") or any(
        name in request.headers for name in _BROWSER_HEADERS
    )


async def put_question(request: Request, question: Question, headers: dict[str, str] | None = None) -> Response:
    """Ask the request's session, in a worker thread that also writes the JSON; not at all where the client has the answer."""
    query = query_of(request)
    reader = await opened(request)
    over, browser = over_ms(request, reader), from_browser(request)
    caching = cache_headers(request, reader, over, browser)
    if (same := not_modified(request, caching)) is not None:
        return same
    asked = asked_of(request, reader, query)
    body = await reader.query(lambda index: encode(question(index, asked)))
    return json_bytes(body, headers=caching | (headers or {}))


def asked_of(request: Request, reader: SessionReader, query: list[tuple[str, str]]) -> Asked:
    """What a view may need to know of this request."""
    return Asked(
        key=reader.key,
        ray_version=reader.ray_version,
        snapshots=reader.snapshots,
        query=query,
        path=dict(request.path_params),
        warning=reader.completeness.warning(),
        browser=from_browser(request),
        over_ms=over_ms(request, reader),
        now_ms=request.app.state.overviews.now_ms(),
    )


def answering(question: Question) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that answers with what ``question`` gives."""

    async def endpoint(request: Request) -> Response:
        return await put_question(request, question)

    return endpoint

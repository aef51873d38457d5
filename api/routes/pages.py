"""Our own pages: five HTML files and what they load, all from ``api/static``. No build step, no template.

    /                                   all sessions
    /compare?a=…&b=…                    two of them side by side
    /token                              where a browser says its token (``auth.py``)
    /sessions/…/overview, …/tail        one session, and its events as they happen
    /ui/{file}                          scripts, styles, the icon

A page is the same bytes for everyone; what it shows, its script asks for (``overviews.py``) and writes as text. So
nothing from outside ever becomes part of a page here, and the policy below lets none in: no inline script, no other
host, no HTML made from strings. All addresses are relative: the pages work behind a proxy under any path.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).resolve().parents[1] / "static"
ASSETS = frozenset({".js", ".css", ".svg"})
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

mimetypes.init()  # reads the system's tables: now, not in the first request
_files = StaticFiles(directory=FOLDER)


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await _file(name, request)

    return endpoint


async def _asset(request: Request) -> Response:
    name: str = request.path_params["name"]
    if Path(name).suffix not in ASSETS:
        raise HTTPException(404)
    return await _file(name, request)


async def _file(name: str, request: Request) -> Response:
    response = await _files.get_response(name, request.scope)
    response.headers.update(HEADERS)
    return response


ROUTES = [
    Route("/", _page("sessions.html")),
    Route("/select_cluster", _page("sessions.html")),
    Route("/compare", _page("compare.html")),
    Route("/token", _page("token.html")),
    Route("/ui/{name}", _asset),
]
SESSION_ROUTES = [Route("/overview", _page("session.html")), Route("/tail", _page("tail.html"))]

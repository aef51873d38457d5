"""The official dashboard's pages, for every session as if it were alive.

    /sessions/{ns}/{name}/{session}/           the page, of the build that suits the session's Ray
    /sessions/{ns}/{name}/{session}/static/…   what it loads; its own requests are relative, so they stay below
    /index.html, /static/…                     the same of the session that was entered (cookie)
    /                                          the page too, for a cluster started with ``--proxy-server-url``

Ray's proxy sends a browser's request for ``/`` on to us; who comes to us directly gets the list of sessions there.
The two are told apart by a header that the proxy adds to requests without a body. Where there is no build the proxy
gets a 404, by which it shows its own pages; everyone else a page that says how to get one.
"""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from api.dashboard import DashboardFiles
from api.routes.session import CLUSTER_COOKIE, NAMESPACE_COOKIE, SESSION_COOKIE, is_proxied, opened
from api.session.reader import SessionReader

POLICY = "; ".join(
    (
        "default-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)
"""Nothing is loaded from elsewhere, and what a log or a name says can't become a script."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
STYLE = "body{font:16px/1.5 system-ui,sans-serif;margin:2em auto;max-width:50em;padding:0 1em}"
LINKS = (
    ("overview", "overview"),
    ("tail", "events as they happen"),
    ("api/jobs/", "jobs"),
    ("api/v0/tasks?detail=1&limit=1000", "tasks"),
    ("api/v0/tasks/summarize", "tasks by function"),
    ("api/v0/actors?detail=1", "actors"),
    ("api/v0/nodes?detail=1", "nodes"),
    ("api/v0/workers?detail=1", "workers"),
    ("api/v0/placement_groups?detail=1", "placement groups"),
    ("events", "events"),
    ("api/v0/tasks/timeline?download=1", "timeline"),
    ("completeness", "completeness"),
)
_COOKIES = (NAMESPACE_COOKIE, CLUSTER_COOKIE, SESSION_COOKIE)


class ProxiedRoute(Route):
    """Matches only what Ray's own proxy sends on for someone who has entered a session."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.NONE:  # a web socket's scope among them, which is no request
            return match, child
        request = Request(scope)
        return (match, child) if is_proxied(request) and _entered(request) else (Match.NONE, {})


def _entered(request: Request) -> bool:
    return all(name in request.cookies for name in _COOKIES)


async def _home(request: Request) -> Response:
    reader = await opened(request)
    return await _page(request, reader) or _no_pages(reader)


async def _proxied_home(request: Request) -> Response:
    answer = await _page(request, await opened(request))
    if answer is None:
        raise HTTPException(404)
    return answer


async def _asset(request: Request) -> Response:
    return await _found(request, f"static/{request.path_params['path']}")


async def _icon(request: Request) -> Response:
    return await _found(request, "favicon.ico")


async def _found(request: Request, path: str) -> Response:
    """A file of a build; 404 too where no session is named: there is no page then that could need it."""
    if "session" not in request.path_params and not _entered(request):
        raise HTTPException(404)
    answer = await _file(request, await opened(request), path)
    if answer is None:
        raise HTTPException(404)
    return answer


async def _page(request: Request, reader: SessionReader) -> Response | None:
    return await _file(request, reader, "")


async def _file(request: Request, reader: SessionReader, path: str) -> Response | None:
    files: DashboardFiles = request.app.state.dashboard
    answer = await files.file(reader.ray_version, path, request.scope)
    if answer is not None:
        answer.headers.update(HEADERS)
    return answer


def _no_pages(reader: SessionReader) -> Response:
    """How to get the pages, and where everything is that they would show."""
    version = reader.ray_version or ""
    command = html.escape(f"ray-history dashboard install {version}".strip())
    links = "".join(f'<li><a href="{html.escape(quote(to, safe="/?=&"))}">{text}</a></li>' for to, text in LINKS)
    title = html.escape(str(reader.key))
    body = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
        "<p>The Ray dashboard's own pages can be shown here. This server has none: fetch them with</p>"
        f"<pre>{command}</pre><p>or name a folder that holds them with <code>--dashboard-dir</code>, and start the "
        f"server again. What they show can be read here already:</p><ul>{links}</ul></html>\n"
    )
    return HTMLResponse(body, headers=HEADERS | {"Cache-Control": "no-store"})


def _routes(home: str) -> list[Any]:
    return [Route(home, _home), Route("/static/{path:path}", _asset), Route("/favicon.ico", _icon)]


ROUTES = [ProxiedRoute("/", _proxied_home), *_routes("/index.html")]
SESSION_ROUTES = _routes("/")

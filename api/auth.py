"""Who may read: whoever says a token, where tokens are set; everyone, where none is. And which namespaces it opens.

    Authorization: Bearer …            programs: ``RAY_AUTH_MODE=token`` and ``RAY_AUTH_TOKEN`` have Ray's own say it
    X-Ray-Authorization: Bearer …      the same, behind a proxy that wants the first for itself
    cookie ``ray-authentication-token``  browsers, once ``/api/authenticate`` has set it

These are Ray's own names, so its command line, its Python clients and the pages' own dialog work as with a cluster that
has token authentication. A browser that comes to a page without one gets a page that asks for it.

Open to everyone: the probes, ``/metrics`` (it names no session), what the asking page loads, and what the official
pages ask before they ask for the token. Pushing has a token of its own (``push.py``).

Only digests of tokens are kept, so how long a comparison takes tells nothing about them.
"""

from __future__ import annotations

import re
from hashlib import sha256
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.metrics import READS_REFUSED
from pipeline.config import Token

COOKIE = "ray-authentication-token"
MISSING = "Unauthorized: Missing authentication token"
INVALID = "Forbidden: Invalid authentication token"
NO_STORE = {"Cache-Control": "no-store"}
MAX_BACK = 2000
_BEARER = re.compile(r"(?:bearer +)?([!-~]{1,4096})", re.IGNORECASE)
_OPEN = re.compile(
    r"/(?:livez|readyz|readz|healthz|metrics|v1/push/.*|token|ui/[^/]*)"
    r"|(?:/sessions/[^/]+/[^/]+/[^/]+)?/api/authenticat(?:e|ion_mode)"
)


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return sha256(token.encode()).digest()


class Guard:
    """Lets in who may read, and notes for which namespaces. Middleware, before everything else."""

    def __init__(self, app: ASGIApp, tokens: tuple[Token, ...]) -> None:
        self._app = app
        self._tokens = {token.digest: token for token in tokens}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not self._tokens or _OPEN.fullmatch(_path(scope)):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        said = said_token(connection)
        token = None if said is None else self._tokens.get(digest(said))
        if token is None:
            await _refuse(connection, 401 if said is None else 403)(scope, receive, send)
            return
        scope.setdefault("state", {})["namespaces"] = token.namespaces
        await self._app(scope, receive, send)


def said_token(connection: HTTPConnection) -> str | None:
    """The token that a request says, of several places the first, as Ray has it; empty where it can't be one."""
    headers = connection.headers
    text = headers.get("authorization") or headers.get("x-ray-authorization") or connection.cookies.get(COOKIE)
    if not text:
        return None
    found = _BEARER.fullmatch(text.strip())
    return "" if found is None else found[1]


def may_see(connection: HTTPConnection, namespace: str) -> bool:
    """Whether the request's token opens a namespace."""
    namespaces: frozenset[str] | None = getattr(connection.state, "namespaces", None)
    return namespaces is None or namespace in namespaces


def check_namespace(connection: HTTPConnection, namespace: str) -> None:
    """Raises 403 where the request's token doesn't open a namespace, whether or not there is one of that name."""
    if not may_see(connection, namespace):
        raise HTTPException(403, f"this token does not open namespace {namespace[:100]}")


def _refuse(connection: HTTPConnection, status: int) -> ASGIApp:
    READS_REFUSED.labels(str(status)).inc()
    if connection.scope["type"] == "websocket":
        return _close
    if "text/html" in connection.headers.get("accept", "") and connection.scope["method"] == "GET":
        return RedirectResponse(_asking_page(connection), 303, NO_STORE)
    headers = NO_STORE | ({"WWW-Authenticate": "Bearer"} if status == 401 else {})
    return PlainTextResponse(MISSING if status == 401 else INVALID, status, headers)


async def _close(scope: Scope, receive: Receive, send: Send) -> None:
    """Before it was accepted: the client gets a 403."""
    await send({"type": "websocket.close", "code": 1008})


def _asking_page(connection: HTTPConnection) -> str:
    """Where the token is asked for, from here: relative, as all our addresses are. It leads back."""
    path, query = _path(connection.scope), connection.scope["query_string"].decode("latin-1")
    back = path.lstrip("/") + (f"?{query}" if query else "")
    return f"{'../' * (path.count('/') - 1)}token?next={quote(back[:MAX_BACK], safe='')}"


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))

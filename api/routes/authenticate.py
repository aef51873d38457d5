"""Saying the token once, for a browser: ``POST /api/authenticate`` sets the cookie that the guard (``auth.py``) reads.

As Ray's head has it, so the dialog of the official pages works, below a session's address as at the root.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from api.answers import plain
from api.auth import COOKIE, INVALID, MISSING, NO_STORE, digest, said_token

COOKIE_AGE = 30 * 86400
DISABLED = "Unauthorized: Token authentication is not enabled"


async def _mode(request: Request) -> Response:
    """Asked before anything else, so it needs no session and no token."""
    mode = "token" if request.app.state.tokens else "disabled"
    answer = plain({"authentication_mode": mode}, headers=NO_STORE)
    if mode == "disabled" and COOKIE in request.cookies:
        answer.delete_cookie(COOKIE, path="/")
    return answer


async def _authenticate(request: Request) -> Response:
    """The token comes in a header, which no form of another site can send."""
    if not request.app.state.tokens:
        return PlainTextResponse(DISABLED, 401, NO_STORE)
    said = said_token(request) if "authorization" in request.headers else None
    if said is None:
        return PlainTextResponse(MISSING, 401, NO_STORE)
    if digest(said) not in {token.digest for token in request.app.state.tokens}:
        return PlainTextResponse(INVALID, 403, NO_STORE)
    answer = plain({"status": "authenticated", "message": "Token is valid"}, headers=NO_STORE)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, said, max_age=COOKIE_AGE, path="/", httponly=True, samesite="strict", secure=secure)
    return answer


ROUTES = [
    Route("/api/authentication_mode", _mode),
    Route("/api/authenticate", _authenticate, methods=["POST"]),
]

"""Where collectors push: ``POST /v1/push/{namespace}/{cluster}/{session}/{node}``.

Who may: with ``--push-token`` whoever says it (``Authorization: Bearer …``); without one only programs on this machine,
so set one wherever collectors are elsewhere or a proxy stands before the server. Browsers may not at all: no page can
make a request with this content type without being let, and nothing here lets it.

Bounded: the bytes of one message, packed and unpacked, those of all that are arriving, and how many a node has under way.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from api.answers import json_bytes, refused
from api.live.live import Live
from api.metrics import PUSHES_REFUSED
from pipeline.errors import BadKey, BadPush, Full
from pipeline.layout import SessionKey, part
from pipeline.push.pushed import MAX_PACKED, MEDIA_TYPE, Answer, Push, encode_answer, read_head

ARRIVING = 64 << 20
"""Bytes of all messages that are arriving."""
UNDER_WAY = 4
"""Messages of one node at once; its collector has one, and a few that it has given up may still be here."""
BODY_SECONDS = 30.0
RETRY = {"Retry-After": "1"}

log = structlog.get_logger()


class _Refused(Exception):
    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


class Door:
    """Lets pushes in. ``token`` None: from this machine only."""

    def __init__(self, live: Live, token: str | None) -> None:
        self._live = live
        self._token = None if token is None else token.encode()
        self._arriving = 0
        self._under_way: Counter[str] = Counter()

    async def enter(self, request: Request) -> Response:
        """One message: taken, and answered when the next is welcome."""
        try:
            self._admit(request)
            key, node = _place(request)
            with self._one_of(f"{key}/{node}"):
                answer = await self._take(request, key, node)
        except ClientDisconnect:
            return Response(status_code=400)
        except _Refused as exc:
            PUSHES_REFUSED.labels(str(exc.status)).inc()
            return refused(exc.status, str(exc), headers=exc.headers)
        return json_bytes(encode_answer(answer))

    async def _take(self, request: Request, key: SessionKey, node: str) -> Answer:
        push, data = await self._message(request)
        if (push.key, push.node) != (key, node):
            raise _Refused(400, f"the header is of {push.key}, node {push.node}")
        try:
            answer = self._live.take(key, push, data)
        except Full as exc:
            raise _Refused(503, str(exc), RETRY) from exc
        except BadPush as exc:
            raise _Refused(400, str(exc)) from exc
        if push.word in ("batch", "alive") and not answer.again:
            await self._live.hold(key, node)
        return self._live.finish(key, node, answer)

    def _admit(self, request: Request) -> None:
        if self._token is None:
            host = request.client.host if request.client is not None else ""
            if host not in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
                raise _Refused(403, "without --push-token only programs on the server's machine may push")
        else:
            said = request.headers.get("authorization", "")
            if not said.startswith("Bearer "):
                raise _Refused(401, "say the push token", {"WWW-Authenticate": "Bearer"})
            if not hmac.compare_digest(said.removeprefix("Bearer ").encode(), self._token):
                raise _Refused(403, "not the push token of this server")
        if request.headers.get("content-type") != MEDIA_TYPE or "origin" in request.headers:
            raise _Refused(415, f"a push is {MEDIA_TYPE}, and doesn't come from a page")

    async def _message(self, request: Request) -> tuple[Push, bytes]:
        size = _length(request)
        if self._arriving + size > ARRIVING:
            raise _Refused(503, "too many messages are arriving at once", RETRY)
        self._arriving += size
        try:
            with anyio.fail_after(BODY_SECONDS):
                data = await request.body()
            return read_head(data), data
        except TimeoutError as exc:
            raise _Refused(408, f"no whole message within {BODY_SECONDS:g} s") from exc
        except BadPush as exc:
            log.warning("push refused", peer=request.client.host if request.client else "", reason=str(exc))
            raise _Refused(400, str(exc)) from exc
        finally:
            self._arriving -= size

    @contextmanager
    def _one_of(self, name: str) -> Iterator[None]:
        if self._under_way[name] >= UNDER_WAY:
            raise _Refused(429, f"a node has at most {UNDER_WAY} messages under way", RETRY)
        self._under_way[name] += 1
        try:
            yield
        finally:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]


def _place(request: Request) -> tuple[SessionKey, str]:
    names = request.path_params
    try:
        return SessionKey(names["namespace"], names["cluster"], names["session"]), part(names["node"])
    except BadKey as exc:
        raise _Refused(400, str(exc)) from exc


def _length(request: Request) -> int:
    said = request.headers.get("content-length", "")
    if not (said.isascii() and said.isdigit() and len(said) < 12):
        raise _Refused(411, "a push says its length")
    if int(said) > MAX_PACKED:
        raise _Refused(413, f"{int(said)} bytes are over the limit of {MAX_PACKED}")
    return int(said)


def push_route(live: Live, token: str | None) -> Route:
    """The address of ``live``."""
    return Route(
        "/v1/push/{namespace}/{cluster}/{session}/{node}",
        Door(live, token).enter,
        methods=["POST"],
        max_body_size=MAX_PACKED,
    )

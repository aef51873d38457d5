"""Pushing over HTTP: ``POST {server}/v1/push/{namespace}/{cluster}/{session}/{node}``, connections kept.

The server answers when it wants the next message: at once while somebody watches, after a moment otherwise. The only
module that knows aiohttp.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from pipeline.errors import ConfigError, PushFailed
from pipeline.layout import SessionKey
from pipeline.push.pushed import MEDIA_TYPE, Answer, Push, decode_answer

CONNECT_SECONDS = 5.0
SECONDS = 10.0
"""For one message and its answer, the time that the server may take its time included."""
MAX_ANSWER = 1 << 20
_PASSING = (408, 425, 429)


class HttpChannel:
    """See ``push.Channel``."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session, self._base = session, base

    async def send(self, push: Push, data: bytes) -> Answer:
        names = (push.namespace, push.cluster, push.session, push.node)
        url = f"{self._base}/v1/push/{'/'.join(map(quote, names))}"
        try:
            try:
                status, body = await self._post(url, data)
            except aiohttp.ServerDisconnectedError:
                status, body = await self._post(url, data)  # a connection that was kept here and not there
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise PushFailed(f"{self._base}: {str(exc) or type(exc).__name__}") from exc
        if status != 200:
            passing = status >= 500 or status in _PASSING
            said = body[:200].decode(errors="replace")
            raise PushFailed(f"{self._base} answered {status}: {said}", refused=not passing)
        try:
            return decode_answer(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise PushFailed(f"{self._base} answered what isn't an answer to a push: {exc}", refused=True) from exc

    async def _post(self, url: str, data: bytes) -> tuple[int, bytes]:
        async with self._session.post(url, data=data, allow_redirects=False) as response:
            size = response.content_length
            if size is None or size > MAX_ANSWER:
                raise PushFailed(f"{self._base} gave an answer of {size} bytes", refused=True)
            return response.status, await response.read()

    def on_ask(self, key: SessionKey, hurry: Callable[[], None]) -> None:
        """The server asks in its answers only."""


@asynccontextmanager
async def http_channel(url: str, token: str | None) -> AsyncIterator[HttpChannel]:
    """A channel to the server at ``url``. Raises ``ConfigError`` where that isn't an address."""
    base = _base(url)
    headers = {"Content-Type": MEDIA_TYPE, "Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    timeout = aiohttp.ClientTimeout(total=SECONDS, connect=CONNECT_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)  # each session has one request under way, and none waits for another's
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
        yield HttpChannel(session, base)


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("--server must be http://host:port or https://host")
    if parts.username or parts.password:
        raise ConfigError("--server takes no password: use --push-token")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"

"""Pushing by NATS JetStream: what was acknowledged is there for every server that asks, within the limits of the stream.

Servers don't answer; they ask (``nats_link.Ask``), again every few seconds while somebody watches. Of what was sent the
position is known by JetStream's own acknowledgement, so after a failure it goes on behind that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import msgspec
import nats
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.errors import APIError, NoStreamResponseError

from pipeline.errors import PushFailed
from pipeline.layout import SessionKey
from pipeline.push.nats_link import ATTENTION, Ask, Link, linked, parse_nats, subject
from pipeline.push.push import ALIVE_EVERY
from pipeline.push.pushed import MAX_LOGS, Answer, LogAsk, LogId, Push, pack_push

PAUSE = 1.0
"""Seconds between two messages of a session that nobody watches."""
MAX_SERVERS = 32
"""Servers whose asking for logs is remembered, of one session."""

_ask = msgspec.json.Decoder(Ask)


class Asking:
    """What one server follows, by node and log, and until when that holds."""

    def __init__(self, ask: Ask) -> None:
        self.until = anyio.current_time() + ATTENTION
        self.logs = {node: {each.log: each for each in asked[:MAX_LOGS]} for node, asked in ask.logs.items()}


class _Session:
    """What is known of one session here: who asks for it, and what was acknowledged."""

    def __init__(self) -> None:
        self.acked: dict[str, int] = {}
        self.watched_until = float("-inf")
        self.seal: set[str] = set()
        self.asking: dict[str, Asking] = {}
        self.bell = anyio.Event()
        self.said = float("-inf")
        self.asks: Subscription | None = None
        self.hurry: Callable[[], None] | None = None

    @property
    def watched(self) -> bool:
        return anyio.current_time() < self.watched_until

    async def asked(self, message: Msg) -> None:
        try:
            ask = _ask.decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if ask.watched:
            self.watched_until = anyio.current_time() + ATTENTION
        self.seal.update(ask.seal[:1000])
        self._note_logs(ask)
        self.bell.set()
        if self.hurry is not None:
            self.hurry()

    def _note_logs(self, ask: Ask) -> None:
        self.asking.pop(ask.server, None)
        if ask.logs and len(self.asking) < MAX_SERVERS:
            self.asking[ask.server] = Asking(ask)

    def logs(self, node: str) -> list[LogAsk]:
        """Of each log that is followed what the server lacks that lacks most."""
        now = anyio.current_time()
        self.asking = {server: asking for server, asking in self.asking.items() if asking.until > now}
        lacking: dict[LogId, LogAsk] = {}
        for asking in self.asking.values():
            for log, each in asking.logs.get(node, {}).items():
                least = lacking.get(log)
                if least is None or (each.start, -each.check) < (least.start, -least.check):
                    lacking[log] = each
        return list(lacking.values())

    def pushed(self, push: Push) -> None:
        """What each server lacks, if it heard what was just pushed; one that didn't says so."""
        for asking in self.asking.values():
            logs = asking.logs.get(push.node, {})
            for span in push.logs:
                each = logs.get(span.log)
                if each is not None and span.start <= each.start < span.end:
                    logs[span.log] = LogAsk(each.name, each.log, span.end, span.tail, each.check)


class NatsChannel:
    """See ``push.Channel``."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sessions: dict[SessionKey, _Session] = {}
        self._has_stream = False

    async def send(self, push: Push, data: bytes) -> Answer:
        try:
            return await self._send(push, data)
        except nats.errors.MaxPayloadError as exc:
            raise PushFailed(f"larger than NATS takes (its max_payload): {len(data)} bytes", refused=True) from exc
        except (nats.errors.Error, APIError, OSError, TimeoutError) as exc:
            if isinstance(exc, NoStreamResponseError | APIError):
                self._has_stream = False
            raise PushFailed(f"{self._link.place.shown}: {str(exc) or type(exc).__name__}") from exc

    def on_ask(self, key: SessionKey, hurry: Callable[[], None]) -> None:
        self._sessions.setdefault(key, _Session()).hurry = hurry

    async def _send(self, push: Push, data: bytes) -> Answer:
        client = self._link.client
        if client is None or not client.is_connected:
            raise PushFailed(f"{self._link.place.shown}: not connected")
        session = await self._session(push.key)
        if push.word in ("batch", "sealed"):
            await self._publish(push, data)
            self._note(session, push)
        if push.word == "log":
            await client.publish(subject(self._link.place.prefix, "log", push.key, push.node), data)
            await client.flush(2)
            session.pushed(push)
        if push.word not in ("batch", "sealed", "log") or anyio.current_time() - session.said >= ALIVE_EVERY:
            await self._speak(push, session)
        if push.word == "bye":
            await client.flush(2)
            await self._forget(push.key)
            return Answer()
        if push.word in ("batch", "alive") and not session.watched:
            session.bell = anyio.Event()
            with anyio.move_on_after(PAUSE):
                await session.bell.wait()
        seal = push.node in session.seal
        session.seal.discard(push.node)
        cursor = dict(session.acked) if push.word == "hello" else {}
        return Answer(cursor=cursor, seal=seal, watched=session.watched, logs=session.logs(push.node))

    async def _publish(self, push: Push, data: bytes) -> None:
        if not self._has_stream:
            await self._link.ensure_stream()
            self._has_stream = True
        to = subject(self._link.place.prefix, "push", push.key, push.node)
        await self._link.stream.publish(to, data, stream=self._link.place.stream)

    async def _speak(self, push: Push, session: _Session) -> None:
        """A word for every server."""
        assert self._link.client is not None
        session.said = anyio.current_time()
        word = push.word if push.word in ("hello", "alive", "bye") else "alive"
        message = pack_push(msgspec.structs.replace(push, word=word, sources=[], gaps=[], logs=[]), [])
        await self._link.client.publish(subject(self._link.place.prefix, "word", push.key, push.node), message)

    def _note(self, session: _Session, push: Push) -> None:
        for span in push.sources:
            if push.word == "batch":
                session.acked[span.source] = max(span.end, session.acked.get(span.source, 0))
            elif session.acked.get(span.source, span.end + 1) <= span.end:
                del session.acked[span.source]

    async def _session(self, key: SessionKey) -> _Session:
        session = self._sessions.setdefault(key, _Session())
        if session.asks is None:
            assert self._link.client is not None
            to = subject(self._link.place.prefix, "ask", key)
            session.asks = await self._link.client.subscribe(to, cb=session.asked)
        return session

    async def _forget(self, key: SessionKey) -> None:
        session = self._sessions.pop(key, None)
        if session is not None and session.asks is not None:
            await session.asks.unsubscribe()


@asynccontextmanager
async def nats_channel(url: str) -> AsyncIterator[NatsChannel]:
    """A channel to the stream at ``url``. Raises ``ConfigError`` where that isn't an address."""
    async with linked(parse_nats(url)) as link:
        yield NatsChannel(link)

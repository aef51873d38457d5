"""One stream of a session's events, from its first byte to its last.

    session event ─▶ what lies between where it begins and now (``catch_up.py``, ``replay.py``) ─▶ what comes (``hub.py``)

It begins now, or where a position says (``Last-Event-ID``), or at a time (``since``). What is missed is said with a
``resync`` event, after which the stream goes on with what comes. It ends with a session that has ended, by a session
event whose position is the end: who comes back with that has been told everything (``over``). Who doesn't want to
follow gets what there is, and an ``end`` event behind it, by which it differs from a stream that broke off.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import anyio
import msgspec
import structlog
from msgspec import Struct

from api.metrics import STREAMS_RESYNCED
from api.query.query import BadQuery
from api.streams.catch_up import CatchUp, Missed
from api.streams.hub import Hub, Subscriber
from api.streams.hubs import Hubs, session_data
from api.streams.live_data import ResyncData
from api.streams.live_filter import EventFilter
from api.streams.positions import TOO_LONG, Position, end_text, parse, text_of
from api.streams.replay import HEARTBEAT, Pace, Replay
from api.streams.sse import START, frame, heartbeat
from pipeline.errors import StoreError

MAX_MS = 1 << 53
_AGO = re.compile(r"-(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_encode = msgspec.json.Encoder().encode
log = structlog.get_logger()


class Since(Struct, frozen=True):
    """Where a replay begins: at a time, or so long before the session's last word (now, of one that lives)."""

    ms: int
    ago: bool = False


def parse_since(text: str | None) -> Since | None:
    """Raises ``BadQuery``."""
    if text is None or text == "":
        return None
    if text.isascii() and text.isdigit() and int(text[:20]) < MAX_MS:
        return Since(int(text))
    if (found := _AGO.fullmatch(text)) is not None:
        return Since(int(float(found[1]) * _SECONDS[found[2]] * 1000), ago=True)
    raise BadQuery(f"since: {text[:50]!r} is neither a time in ms, nor so long ago (-30s, -5m, -2h), nor 0 for all")


def parse_follow(text: str | None) -> bool:
    """Raises ``BadQuery``."""
    if text not in (None, "", "0", "1"):
        raise BadQuery(f"follow: {text[:50]!r} is neither 1 nor 0")
    return text != "0"


class Stream:
    """One client's. ``chunks`` gives its bytes."""

    def __init__(
        self,
        hubs: Hubs,
        hub: Hub,
        chosen: EventFilter,
        last_id: str | None,
        since: Since | None,
        pace: Pace,
        follow: bool = True,
    ) -> None:
        self.subscriber = Subscriber(chosen)
        self._follow = follow
        self._hubs, self._hub, self._pace = hubs, hub, pace
        self._last_id, self._since = last_id, since
        self._past = self._from_the_past()

    @property
    def over(self) -> bool:
        """Whether the client was told before that there is no more."""
        return self._hub.over and self._last_id == self._end()

    def _end(self) -> str:
        return end_text(self._hub.head())

    async def chunks(self) -> AsyncGenerator[bytes]:
        """All there is to send."""
        hub, subscriber = self._hub, self.subscriber
        told = session_data(self._hubs.sessions, hub.reader)
        begin = None
        if self._last_id is None and self._since is None:
            hub.attach(subscriber)
            begin = self._end() if hub.over else text_of(hub.head()) or TOO_LONG
        yield START + frame("session", _encode(told), begin)
        try:
            async with aclosing(self._past):
                async for chunk in self._past:
                    yield chunk
                    await anyio.lowlevel.checkpoint()
        except StoreError as exc:
            log.warning("stream ended: the store can't be read", session=str(hub.reader.key), reason=str(exc))
            return
        async for chunk in self._present():
            yield chunk
            await anyio.lowlevel.checkpoint()
        last = session_data(self._hubs.sessions, hub.reader)
        if hub.over and last.status == "ended" and self._end() != begin:
            yield frame("session", _encode(last), self._end())
        if not self._follow and not subscriber.cut.is_set():
            yield frame("end", _encode(last), self._end() if hub.over else hub.position(subscriber))

    async def _from_the_past(self) -> AsyncGenerator[bytes]:
        """What lies before now; the subscriber is attached at its end."""
        hub, subscriber, last_id = self._hub, self.subscriber, self._last_id
        if last_id is None and self._since is None:
            return
        if last_id is not None and hub.attach_at(subscriber, last_id):
            return
        try:
            position = Position(since_ms=self._since_ms()) if last_id is None else parse(last_id)
            if position is None:
                raise Missed("nothing can be made of the position")
            if position.since_ms is not None:
                async with aclosing(self._replayed(position, begin=last_id is None)) as replayed:
                    async for chunk in replayed:
                        yield chunk
            catch_up = CatchUp(self._hubs.sessions, self._hubs.recall, hub, subscriber, position)
            async for chunk in catch_up.frames():
                yield chunk
        except Missed as exc:
            STREAMS_RESYNCED.inc()
            hub.attach(subscriber)
            yield frame("resync", _encode(ResyncData(str(exc))), text_of(hub.head()))

    async def _replayed(self, position: Position, *, begin: bool) -> AsyncGenerator[bytes]:
        replay = Replay(self._hubs.recall, self._hub, self.subscriber, position, self._pace)
        while not await self._a_turn():
            yield heartbeat(None)
        try:
            if begin:
                await replay.begin()
            async for chunk in replay.frames():
                yield chunk
        finally:
            self._hubs.past.release()

    async def _a_turn(self) -> bool:
        with anyio.move_on_after(HEARTBEAT):
            await self._hubs.past.acquire()
            return True
        return False

    def _since_ms(self) -> int:
        assert self._since is not None
        if not self._since.ago:
            return self._since.ms
        now = session_data(self._hubs.sessions, self._hub.reader)
        last_ms = self._hubs.sessions.live.now_ms() if now.status == "live" else now.ended_ms or now.heard_ms or 0
        return max(0, last_ms - self._since.ms)

    async def _present(self) -> AsyncIterator[bytes]:
        """What comes, until nothing more does."""
        hub, subscriber = self._hub, self.subscriber
        due = anyio.current_time() + HEARTBEAT
        while True:
            news = hub.news
            chunk = hub.take(subscriber)
            if chunk is None:
                subscriber.cut.set()
                return
            if chunk:
                yield chunk
                due = anyio.current_time() + HEARTBEAT
                continue
            if hub.over or not self._follow:
                return
            # News that nobody asked for here leaves the connection as silent as none.
            if anyio.current_time() < due:
                with anyio.move_on_after(due - anyio.current_time()):
                    await news.wait()
            else:
                yield heartbeat(hub.position(subscriber))
                due = anyio.current_time() + HEARTBEAT

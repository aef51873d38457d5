"""The hubs of one server: opened for the first who follows a session, closed a while after the last has gone.

    join(key) ─▶ a hub? ─ no ─▶ watch the session (load it, have it kept up) ─▶ publish to the hub ─▶ wake, tick
                  └ yes ─▶ at once                                                    until nobody has followed for LINGER

Waking is paced by how many are woken: each gets what came in between in one write. A tick looks whether the session's
status has changed, and who is stuck.
"""

from __future__ import annotations

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup
from msgspec import Struct

from api.metrics import STREAMS, STREAMS_CUT
from api.session.reader import SessionReader, UnknownSession
from api.session.sessions import ENDED_AGE, Sessions
from api.streams.event_stream import STUCK
from api.streams.hub import RING_BYTES, Hub, Subscriber
from api.streams.live_data import SessionData
from api.streams.recall import Recall
from pipeline.errors import Full, RayHistoryError, Unavailable
from pipeline.layout import SessionKey
from pipeline.stores.catalog import new_metadata

MAX_STREAMS = 2000
MAX_STREAMS_OF_ONE = 500
MAX_PAST = 32
"""Streams that play a session from the past at a time: each holds some tens of megabytes."""
RINGS_BYTES = 256 << 20
LINGER = 30.0
"""Seconds that a hub is kept for those who come back."""
TICK = 1.0
A_WAKE = 0.0002
LONGEST_PACE = 0.05

encode = msgspec.json.Encoder().encode
log = structlog.get_logger()


class _Open(Struct):
    """A hub and who uses it. ``ready`` is set once ``hub`` or ``error`` is there."""

    ready: anyio.Event
    scope: anyio.CancelScope
    hub: Hub | None = None
    error: Exception | None = None
    users: int = 0
    idle_since: float | None = None


class Hubs:
    """An async context manager: leaving it ends them all."""

    def __init__(self, sessions: Sessions, linger: float = LINGER) -> None:
        self.sessions = sessions
        self.recall = Recall(sessions.store)
        self.past = anyio.Semaphore(MAX_PAST)
        self._linger = linger
        self._open: dict[SessionKey, _Open] = {}
        self._streams = 0
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Hubs:
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> bool | None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(*exc)  # type: ignore[arg-type]

    async def join(self, key: SessionKey) -> Hub:
        """The session's hub; ``leave`` must follow. Raises what ``Sessions.open`` raises, and ``Full``."""
        if self._streams >= MAX_STREAMS:
            raise Full(f"{MAX_STREAMS} streams are open, and no more can be; try again")
        while (opened := self._open.get(key)) is not None and opened.scope.cancel_called:
            await opened.ready.wait()
        if opened is None:
            assert self._group is not None, "Hubs is used outside its context"
            opened = self._open[key] = _Open(anyio.Event(), anyio.CancelScope())
            self._group.start_soon(self._run, key, opened)
        if opened.users >= MAX_STREAMS_OF_ONE:
            raise Full(f"{MAX_STREAMS_OF_ONE} streams of {key} are open, and no more can be; try again")
        self._count(opened, 1)
        try:
            await opened.ready.wait()
            if opened.error is not None:
                raise opened.error
            if opened.hub is None:
                raise Unavailable("the server is shutting down")
        except BaseException:
            self._count(opened, -1)
            raise
        return opened.hub

    def leave(self, hub: Hub, subscriber: Subscriber) -> None:
        """A stream has ended."""
        hub.leave(subscriber)
        if subscriber.cut.is_set():
            STREAMS_CUT.inc()
        opened = self._open.get(hub.reader.key)
        if opened is not None and opened.hub is hub:
            self._count(opened, -1)
        else:
            self._streams -= 1
            STREAMS.set(self._streams)

    def _count(self, opened: _Open, change: int) -> None:
        self._streams += change
        STREAMS.set(self._streams)
        opened.users += change
        opened.idle_since = None if opened.users else anyio.current_time()
        if not opened.users and opened.hub is None:
            opened.scope.cancel()  # a load that nobody waits for

    def _limit(self) -> int:
        return min(RING_BYTES, RINGS_BYTES // max(1, len(self._open)))

    async def _run(self, key: SessionKey, opened: _Open) -> None:
        try:
            with opened.scope:
                async with self.sessions.watch(key) as reader:
                    hub = Hub(reader, self._limit)
                    reader.on_applied = hub.publish
                    try:
                        await self._keep(key, opened, hub)
                    finally:
                        if reader.on_applied == hub.publish:  # not that of one who came since
                            reader.on_applied = None
        except RayHistoryError as exc:
            opened.error = exc
        except Exception as exc:  # whatever it is: other sessions go on, and so does the server
            log.exception("a session can't be followed", session=str(key))
            opened.error = exc
        finally:
            self._close(key, opened)
            opened.ready.set()
            if opened.hub is not None:
                opened.hub.over = True
                opened.hub.wake()

    def _close(self, key: SessionKey, opened: _Open) -> None:
        if self._open.get(key) is opened:
            del self._open[key]

    async def _keep(self, key: SessionKey, opened: _Open, hub: Hub) -> None:
        follower = _Follower(self.sessions, hub)
        await follower.tick()
        opened.hub = hub
        opened.ready.set()
        async with anyio.create_task_group() as group:
            group.start_soon(self._wake, hub)
            while not follower.again and (
                opened.idle_since is None or anyio.current_time() - opened.idle_since < self._linger
            ):
                await anyio.sleep(TICK)
                await follower.tick()
                _cut_stuck(hub)
            self._close(key, opened)
            group.cancel_scope.cancel()

    async def _wake(self, hub: Hub) -> None:
        while True:
            await hub.published.wait()
            hub.wake()
            await anyio.sleep(min(LONGEST_PACE, len(hub.subscribers) * A_WAKE))


def _cut_stuck(hub: Hub) -> None:
    for subscriber in hub.subscribers:
        since = subscriber.sending_since
        if since is not None and anyio.current_time() - since > STUCK:
            subscriber.cut.set()


class _Follower:
    """Tells a hub what becomes of its session."""

    def __init__(self, sessions: Sessions, hub: Hub) -> None:
        self._sessions, self._hub = sessions, hub
        self._told = session_data(sessions, hub.reader)
        self.again = False
        """The session lives on after its end: whoever comes back needs another hub."""

    async def tick(self) -> None:
        now = session_data(self._sessions, self._hub.reader)
        if now.status != self._told.status:
            self._told = now
            self._hub.tell("session", encode(now))
        self.again = self._hub.over and now.status != "ended"
        if now.status == "ended" and not self._hub.over:
            await self._settle(now)

    async def _settle(self, now: SessionData) -> None:
        """Read on for a while after the end: the last segments of workers come after the head's."""
        settled = self._sessions.live.now_ms() - (now.ended_ms or 0) >= ENDED_AGE * 1000
        try:
            await self._sessions.look(self._hub.reader.key)
        except UnknownSession:
            settled = True
        except RayHistoryError as exc:
            log.warning("the end of a session can't be read", session=str(self._hub.reader.key), reason=str(exc))
            return
        if settled:
            self._hub.over = True
            self._hub.wake()


def session_data(sessions: Sessions, reader: SessionReader) -> SessionData:
    """What a session event says."""
    metadata = reader.metadata or new_metadata(reader.key)
    live = sessions.live
    ended_ms = live.liveness.ended_ms(metadata, live.now_ms())
    heard = [reader.completeness.sealed_ms, live.liveness.heard_ms(reader.key) or 0]
    return SessionData(
        namespace=reader.key.namespace,
        name=reader.key.cluster,
        session=reader.key.session,
        status=sessions.status(metadata) or "lost",
        created_ms=metadata.created_ms,
        ended_ms=ended_ms,
        heard_ms=max(heard) or None,
    )

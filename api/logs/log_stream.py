"""A log as it is answered: its last lines, or those of a part of it, and, to follow, what comes until it has ended.

    stored ─▶ position ─▶ pushed bytes that continue there (log_tails.py), as they come
                 │          └ none: what the store has behind it by now, looked at every ``interval`` seconds
                 └ its name is another log's: the rest of this one, then the other from its beginning, as ``tail -F``

Each byte is sent once and none is left out, by whichever way it comes: a position is a log's identity and an offset. The
store is looked at beside what is pushed, so a slow one holds up nobody who doesn't need it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from types import TracebackType
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup
from msgspec import Struct

from api.live.live import Live
from api.live.log_tails import Follower
from api.logs.log_file import LogFile, LogPlace
from api.logs.logs import LogStore
from api.views.log_target import Place
from api.views.logs import ColourFilter, LogOptions, NoLog
from pipeline.errors import Full, StoreError
from pipeline.layout import SessionKey
from pipeline.logs.logfiles import encode_path
from pipeline.push.pushed import LogId

Ended = Callable[[], Awaitable[bool | None]]
"""Whether nothing more will come of a log. None: nothing more is written, and it may not be in the store as a whole."""
MAX_FOLLOWED = 1000
"""Logs sent on as they grow at once, WebSockets among them: each holds a connection for as long as its client likes."""
log = structlog.get_logger()


class Seen(Struct, frozen=True):
    """What a look at the store found of a log that had been sent up to ``at``. ``over``: nothing more will come."""

    at: int
    file: LogFile
    size: int
    over: bool
    heir: LogId | None


class LogStreams:
    """All that are sent. An async context manager: leaving it ends the looks under way."""

    def __init__(self, logs: LogStore, live: Live) -> None:
        self.logs = logs
        self._live = live
        self._followers: set[Follower] = set()
        self._followed = 0
        self._closing = False
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> LogStreams:
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(kind, error, trace)

    def close(self) -> None:
        """What is followed ends here: the server stops."""
        self._closing = True
        for each in self._followers:
            each.ring()

    @contextmanager
    def room(self) -> Iterator[None]:
        """For one whose log is sent on as it grows, until the context is left. Raises ``Full``."""
        if self._followed >= MAX_FOLLOWED:
            raise Full(f"{MAX_FOLLOWED} logs are being followed, and no more can be; try again")
        self._followed += 1
        try:
            yield
        finally:
            self._followed -= 1

    async def stream(
        self,
        session: SessionKey,
        places: list[Place],
        asked: LogOptions,
        ended: Ended | None = None,
        *,
        expected: bool = False,
    ) -> AsyncGenerator[bytes]:
        """The answer to a request. ``ended`` is only asked to follow.

        Raises ``NoLog`` or ``StoreError`` before the first piece where there is no such file, unless it is ``expected`` to come.
        """
        colours = ColourFilter() if asked.filter_ansi_code else None
        async with aclosing(self._pieces(session, places, asked, ended, expected)) as pieces:
            async for piece in pieces:
                shown = colours.feed(piece) if colours is not None else piece
                if shown:
                    yield shown
        if colours is not None and (rest := colours.flush()):
            yield rest

    async def _pieces(
        self, session: SessionKey, places: list[Place], asked: LogOptions, ended: Ended | None, expected: bool
    ) -> AsyncGenerator[bytes]:
        follow = asked.follow and ended is not None
        try:
            file, place = await self.logs.find(session, places, asked)
        except NoLog:
            coming = _coming(session, places) if expected else None
            if coming is None or not follow or ended is None or await ended():
                raise
            file, place = await self.logs.again(coming), places[0]
        size = await file.size()
        end = size if place.end is None else min(place.end, size)
        start = await file.mark_before(end) if place.marked else place.start or 0
        if asked.lines != -1:
            start = max(start, await file.tail_start(asked.lines, end))
        async for piece in file.read(start, None if asked.follow else end):
            yield piece
        if follow and ended is not None:
            with self._live.watching(session):
                async with aclosing(self._follow(file, session, places, asked, ended)) as more:
                    async for piece in more:
                        yield piece

    async def _follow(
        self, file: LogFile, session: SessionKey, places: list[Place], asked: LogOptions, ended: Ended
    ) -> AsyncGenerator[bytes]:
        """What comes behind a file as it was opened."""
        at, place = await file.size(), file.place
        passed: set[LogId] = set()

        async def again(over: bool) -> LogFile:
            """Of a file of records there is no name but the one that was asked for."""
            if place is not None:
                return await self.logs.again(place, fresh=over)
            return (await self.logs.find(session, places, asked))[0]

        while True:
            tailed = (place.node, place.name, place.log) if place is not None else None
            if place is not None:
                passed.add(place.log)
            with self._live.tails.following(session, tailed, at) as follower:
                self._followers.add(follower)
                looks = _Looks(self, follower, place, passed, again, ended, asked.interval)
                try:
                    async with aclosing(self._of_one(follower, looks)) as pieces:
                        async for piece in pieces:
                            yield piece
                finally:
                    looks.cancel()
                    self._followers.discard(follower)
                heir = looks.heir
            if heir is None or place is None:
                return
            place, at = LogPlace(session, place.node, place.name, heir), 0

    async def _of_one(self, follower: Follower, looks: _Looks) -> AsyncGenerator[bytes]:
        """What comes of one log, until all of it was sent that will ever come."""
        while not self._closing:
            while piece := follower.take():
                yield piece
            looks.heir = looks.new(follower.heir)
            if looks.heir is not None:
                return
            seen = looks.take()
            if seen is None:
                await follower.wait(looks.pause())
            elif seen.size > follower.at:
                async for piece in seen.file.read(follower.at, seen.size):
                    yield piece
                follower.at = seen.size
            elif seen.at == follower.at and (seen.heir is not None or seen.over):
                looks.heir = seen.heir
                return

    def begin(self, look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have the store looked at beside what is sent."""
        assert self._group is not None, "used outside its context"
        self._group.start_soon(look)


class _Looks:
    """One after another at the store, for one follower, ``interval`` seconds apart."""

    def __init__(
        self,
        streams: LogStreams,
        follower: Follower,
        place: LogPlace | None,
        passed: set[LogId],
        again: Callable[[bool], Awaitable[LogFile]],
        ended: Ended,
        interval: float,
    ) -> None:
        self.heir: LogId | None = None
        self._streams, self._follower, self._place, self._passed = streams, follower, place, passed
        self._again, self._ended, self._interval = again, ended, interval
        self._seen: Seen | Exception | None = None
        self._scope: anyio.CancelScope | None = None
        self._due = float("-inf")
        self._complained = False

    def take(self) -> Seen | None:
        """What the last look saw, once. Raises what it raised."""
        seen, self._seen = self._seen, None
        if isinstance(seen, Exception):
            raise seen
        return seen

    def new(self, heir: LogId | None) -> LogId | None:
        """A log that has the name now, unless it had it before: a list may be older than what was pushed."""
        return None if heir in self._passed else heir

    def pause(self) -> float:
        """Begin another look where one is due; seconds until the next is."""
        now = anyio.current_time()
        if now >= self._due and self._scope is None:
            self._scope, self._due = anyio.CancelScope(), now + self._interval
            self._streams.begin(self._look)
        return max(self._due - now, 0.0) if self._scope is None else self._interval

    def cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def _look(self) -> None:
        assert self._scope is not None
        with self._scope:
            try:
                self._seen = await self._look_at_all()
            except StoreError as exc:
                if not self._complained:
                    log.warning("followed log can't be read, trying again", log=str(self._place), reason=str(exc))
                self._complained = True
            except Exception as exc:  # whatever it is: it is the follower's, not the server's
                self._seen = exc
        self._scope = None
        self._follower.ring()

    async def _look_at_all(self) -> Seen:
        ended = await self._ended()
        over = self._follower.has_all() if ended is None else ended
        at = self._follower.at
        file = await self._again(over)
        size = await file.size()
        heir = None
        if self._place is not None and size <= at:
            heir = self.new(await self._streams.logs.heir(self._place, at))
        return Seen(at, file, size, over, heir)


def _coming(session: SessionKey, places: list[Place]) -> LogPlace | None:
    """Where the first log of a name will be stored."""
    first = places[0]
    if first.node_id is None or first.filename is None or first.filename.startswith("/"):
        return None
    name = encode_path(first.filename.split("/"))
    return LogPlace(session, first.node_id, name, LogId(name))

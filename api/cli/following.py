"""A session's event stream over all its connections: each event once, however often the server goes.

    connect ─▶ events ─▶ broken off ─▶ wait (the server's hint, doubled each time, with jitter) ─▶ connect, Last-Event-ID

An event that carries no position is held until one comes that does: only then is it sure not to be told again. What
refuses (a token, a session that isn't there) ends it, at once or when it was on its way; so does a server that can't be
reached at the first try. Of a session that has ended what is left is read, and no more waited for.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec

from api.cli.asking import NO_CONTENT, Lost, Refused, Session
from api.streams.live_data import SessionData
from api.streams.positions import TOO_LONG as NO_POSITION
from api.streams.sse_reader import EventReader, ServerEvent, TooLong

SILENT = 45.0
"""Seconds without a word, of three heartbeats, after which a connection is taken to be dead."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
LAST_RECORDS = 2.0
"""Seconds that the last records of other nodes have to come after the head has said that the session ended."""
MAX_HELD = 20_000
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

_session = msgspec.json.Decoder(SessionData).decode


class Follower:
    """One stream. ``say`` is told, once each time, that the connection was lost and that it is back."""

    def __init__(
        self,
        session: Session,
        query: Mapping[str, object],
        say: Callable[[str], None],
        *,
        follow: bool = True,
        timeout: float = SILENT,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.told: SessionData | None = None
        """What was said last of the session."""
        self._session, self._query, self._say = session, dict(query), say
        self._follow, self._timeout = follow, max(timeout, SILENT)
        self._sleep, self._jitter = sleep, jitter
        self._reader = EventReader()
        self._held: list[ServerEvent] = []
        self._tries = 0
        self._begun = self._lost = self._over = False

    def events(self) -> Iterator[ServerEvent]:
        """Until there are no more. Session events only where the status has changed. Raises ``Refused``."""
        while not self._over:
            followed = self._follow
            try:
                yield from self._connection()
            except TooLong as exc:
                raise Refused(f"{self._session.address} sends {exc}") from exc
            except Refused as exc:
                if exc.status == NO_CONTENT:
                    return
                if not self._begun or not (isinstance(exc, Lost) or exc.status in TRY_AGAIN):
                    raise
            if not self._over and followed == self._follow:
                self._wait()

    def _connection(self) -> Iterator[ServerEvent]:
        reader = self._reader
        reader.restart()
        self._held.clear()
        query = self._query if self._follow else {**self._query, "follow": 0}
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": reader.last_id} if reader.last_id else {})
        for piece in self._session.pieces("/live", query, self._timeout, headers):
            for event in reader.feed(piece):
                self._came()
                if event.kind == "session":
                    yield from self._session_event(event)
                    if self._ends_here():
                        return
                elif event.kind == "end":
                    yield from self._let_go()
                    self._over = True
                    return
                else:
                    self._held.append(event)
                if event.placed or reader.last_id == NO_POSITION or len(self._held) > MAX_HELD:
                    yield from self._let_go()

    def _let_go(self) -> list[ServerEvent]:
        held, self._held = self._held, []
        return held

    def _session_event(self, event: ServerEvent) -> Iterator[ServerEvent]:
        try:
            said = _session(event.data)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise Refused(f"{self._session.address} doesn't say of which session its events are") from exc
        if event.placed:
            yield from self._let_go()
        before, self.told = self.told, said
        if before is None or before.status != said.status:
            yield event

    def _ends_here(self) -> bool:
        """Whether the session has ended while it was followed: what is left comes by another connection, which ends."""
        if not self._follow or self.told is None or self.told.status != "ended":
            return False
        self._follow = False
        if self._reader.last_id:
            self._sleep(LAST_RECORDS)
        return True

    def _came(self) -> None:
        self._begun, self._tries = True, 0
        if self._lost:
            self._lost = False
            self._say("back")

    def _wait(self) -> None:
        if not self._lost:
            self._lost = True
            self._say("connection lost, trying again")
        hint = self._reader.retry_ms
        first = FIRST_WAIT if hint is None else hint / 1000
        wait = min(LONGEST_WAIT, first * 2 ** min(self._tries, 10))
        self._tries += 1
        self._sleep(wait * (0.5 + self._jitter() / 2))

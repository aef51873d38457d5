"""The push channel as the server sees it: every message comes through ``take``, however it came.

    HTTP or NATS ─▶ take ─┬▶ liveness    who was heard
                          ├▶ ring        what isn't sealed yet, of all sessions, bounded
                          ├▶ on_news     whoever has that session in memory (``feed.py``)
                          └▶ tails       of logs, for those who follow one (``log_tails.py``)
                    hold ◀── want        a sender waits for its answer until somebody wants its session

Nobody's session is decoded here. How often the collectors of sessions that nobody watches speak is decided by how
many there are: together about ``RATE`` messages a second. Those that somebody watches speak at once when they have
news. Without any all of them speak as often as that allows, to hear soon what is wanted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import structlog

from api.live.liveness import FORGET_MS, Liveness
from api.live.log_tails import LogTails
from api.live.ring import Batch, Ring
from api.metrics import LIVE_BYTES, LIVE_DROPPED, PUSHES_TAKEN
from pipeline.errors import Full
from pipeline.layout import SessionKey
from pipeline.push.pushed import Answer, Push

RATE = 200.0
"""Messages a second from collectors that nobody waits for."""
LEAST_HOLD, LONGEST_HOLD = 0.2, 4.0
LEAST_WITHIN, LEAST_IDLE = 0.5, 1.0
"""Seconds in which a collector without news says something, where somebody watches its session and where nobody does."""
COUNT_EVERY = 1.0
WANTED_SECONDS = 30.0
"""A session that was asked for is likely to be asked for again."""
FORGET_EVERY = 60.0

News = Callable[[SessionKey, Push, Batch | None], None]
log = structlog.get_logger()


def wall_ms() -> int:
    """Now."""
    return int(time.time() * 1000)


class Live:
    """One server's. ``on_news`` is told of every message of a session, after it was noted."""

    def __init__(
        self, limit: int, clock: Callable[[], float] = time.monotonic, now_ms: Callable[[], int] = wall_ms
    ) -> None:
        self.liveness = Liveness()
        self.ring = Ring(limit)
        self.on_news: News | None = None
        self.on_want: Callable[[SessionKey], None] | None = None
        """Told where somebody begins to want a session, or wants a segment closed."""
        self._behind: dict[SessionKey, float] = {}
        self.now_ms = now_ms
        self.clock = clock
        self._asked: dict[SessionKey, float] = {}
        self._watchers: Counter[SessionKey] = Counter()
        self._seal: dict[SessionKey, set[str]] = {}
        self._bells: dict[SessionKey, anyio.Event] = {}
        self._said: dict[SessionKey, anyio.Event] = {}
        self._held: Counter[tuple[SessionKey, str]] = Counter()
        self._asked_by_nats: set[tuple[SessionKey, str]] = set()
        self._closing = False
        self.tails = LogTails(self._call)
        self._speaking, self._counted = 0, float("-inf")
        self._forgot = clock()

    # what comes in

    def take(
        self, key: SessionKey, push: Push, data: bytes, *, durable: bool = False, at_ms: int | None = None
    ) -> Answer:
        """Note a message whose head was checked. Raises ``Full``, and ``BadPush`` where the rest of it can't be taken.

        ``durable``: it came by a way that keeps what it was given. ``at_ms``: when it was said, where that isn't now.
        """
        self._forget()
        if not self.liveness.hear(key, push, self.now_ms() if at_ms is None else at_ms):
            raise Full("too many nodes are pushing to this server")
        PUSHES_TAKEN.labels(push.word).inc()
        dropped = self.ring.dropped
        answer = self._note(key, push, data, durable)
        LIVE_BYTES.set(self.ring.nbytes)
        LIVE_DROPPED.inc(self.ring.dropped - dropped)
        if durable:
            self._asked_by_nats.add((key, push.node))
        self._speak(key)
        return answer

    def _speak(self, key: SessionKey) -> None:
        if (said := self._said.pop(key, None)) is not None:
            said.set()

    def _note(self, key: SessionKey, push: Push, data: bytes, durable: bool) -> Answer:
        batch, cursor = None, {}
        if push.word == "hello" or (durable and not self.ring.knows(push, key)):
            cursor = self.ring.hello(key, push)
        elif push.word == "bye":
            self.ring.forget(key, push.node)
        elif not self.ring.knows(push, key):
            return Answer(again=True)
        if push.word == "log":
            if not self.tails.take(key, push, data) and durable:
                self._call(key)
            return Answer()
        if push.word == "batch":
            batch = self.ring.add(key, push, data)
            cursor = self.ring.ends(key, push)
        elif push.word == "sealed":
            self.ring.sealed(key, push.node, push.sources)
        if self.on_news is not None:
            self.on_news(key, push, batch)
        return Answer(cursor=cursor)

    async def hold(self, key: SessionKey, node: str) -> None:
        """Return when the next message of a session's node is welcome."""
        if self.wanted(key) or self._closing:
            return
        bell = self._bells.setdefault(key, anyio.Event())
        self._held[key, node] += 1
        try:
            with anyio.move_on_after(min(max(len(self._held) / RATE, LEAST_HOLD), LONGEST_HOLD)):
                await bell.wait()
        finally:
            self._held[key, node] -= 1
            if not self._held[key, node]:
                del self._held[key, node]

    def finish(self, key: SessionKey, node: str, answer: Answer) -> Answer:
        """The answer as it is when it goes out."""
        seal = node in self._seal.get(key, ())
        if seal:
            self._seal[key].discard(node)
        watched = self.wanted(key)
        return Answer(
            cursor=answer.cursor,
            again=answer.again,
            seal=seal,
            watched=watched,
            logs=self.tails.asks(key, node),
            within=self._within(watched),
        )

    def _within(self, watched: bool) -> float:
        """Seconds in which a collector should say something: those of watched sessions, and all, together about ``RATE`` times a second."""
        if not watched:
            return min(max(self.liveness.nodes / RATE, LEAST_IDLE), LONGEST_HOLD)
        now = self.clock()
        if now - self._counted >= COUNT_EVERY:
            heard = map(self.liveness.get, self.wanted_keys())
            self._speaking, self._counted = sum(len(each.nodes) for each in heard if each is not None), now
        return min(max(self._speaking / RATE, LEAST_WITHIN), LONGEST_HOLD)

    # what is wanted

    def wanted(self, key: SessionKey) -> bool:
        """Whether somebody waits for what comes next of a session."""
        if self._watchers.get(key):
            return True
        asked = self._asked.get(key)
        return asked is not None and self.clock() - asked < WANTED_SECONDS

    @contextmanager
    def watching(self, key: SessionKey) -> Iterator[None]:
        self._watchers[key] += 1
        self._call(key)
        try:
            yield
        finally:
            self._watchers[key] -= 1
            if not self._watchers[key]:
                del self._watchers[key]

    def want(self, key: SessionKey) -> dict[str, int]:
        """Somebody asks for a session. Where that is news to those who push it: what each has said so far who will answer (see ``hear``)."""
        before = self.wanted(key)
        self._asked[key] = self.clock()
        if before:
            return {}
        words = {
            name: count
            for name, count in self.words(key).items()
            if (key, name) in self._held or (key, name) in self._asked_by_nats
        }
        self._call(key)
        return words

    def words(self, key: SessionKey) -> dict[str, int]:
        """How many words each node has said that is there."""
        return {name: self._words(key, name) for name in self.liveness.present(key, self.now_ms())}

    def fell_behind(self, key: SessionKey) -> None:
        """A session's records begin to come, and aren't all here yet."""
        self._behind.setdefault(key, self.clock())

    def caught_up(self, key: SessionKey) -> None:
        """All of a session's records that were on their way are here."""
        self._behind.pop(key, None)
        self._speak(key)

    async def hear(self, key: SessionKey, words: dict[str, int], within: float) -> None:
        """Return when each of these nodes has said another word, or after ``within`` seconds."""
        with anyio.move_on_after(within):
            while any(self._words(key, name) == count for name, count in words.items()):
                await self._said.setdefault(key, anyio.Event()).wait()

    async def catch_up(self, key: SessionKey, within: float) -> None:
        """Return when all is here that was on its way, or ``within`` seconds after it began to come."""
        with anyio.move_on_after(self._behind.get(key, 0.0) + within - self.clock()):
            while key in self._behind:
                await self._said.setdefault(key, anyio.Event()).wait()

    def ask_seal(self, key: SessionKey, node: str) -> None:
        """Have a node's collector close its segment; asked in its next answer, which goes out now."""
        self._seal.setdefault(key, set()).add(node)
        self._call(key)

    def take_seals(self, key: SessionKey) -> list[str]:
        """The nodes that are to be asked, for whoever asks them."""
        return sorted(self._seal.pop(key, ()))

    def wanted_keys(self) -> list[SessionKey]:
        """The sessions that somebody wants."""
        return [key for key in {*self._watchers, *self._asked} if self.wanted(key)]

    def let_go(self, key: SessionKey) -> None:
        """What was pushed of a session is not followed any more: what is held of it gets old."""
        for node in self.ring.nodes(key):
            self.ring.forget(key, node)

    def told(self, key: SessionKey, nodes: list[str]) -> bool:
        """Whether all that these nodes had to tell so far has come by push."""
        return key not in self._behind and self.liveness.told(key, nodes, self.now_ms())

    def close(self) -> None:
        """Hold nobody any more: the server stops."""
        self._closing = True
        for key in list(self._bells):
            self._ring_bell(key)

    def _words(self, key: SessionKey, name: str) -> int:
        heard = self.liveness.get(key)
        node = heard.nodes.get(name) if heard is not None else None
        return -1 if node is None or node.gone else node.words

    def _call(self, key: SessionKey) -> None:
        self._ring_bell(key)
        if self.on_want is not None:
            self.on_want(key)

    def _ring_bell(self, key: SessionKey) -> None:
        if (bell := self._bells.pop(key, None)) is not None:
            bell.set()

    def _forget(self) -> None:
        now = self.clock()
        if now - self._forgot < FORGET_EVERY:
            return
        self._forgot = now
        before_ms = self.now_ms() - FORGET_MS
        for key, node in self.liveness.forget(before_ms):
            self.ring.forget(key, node)
            self._asked_by_nats.discard((key, node))
        self._asked = {key: at for key, at in self._asked.items() if now - at < WANTED_SECONDS}
        for waited_for in (self._bells, self._said):
            for key in [key for key in waited_for if self.liveness.get(key) is None]:
                del waited_for[key]
        self._seal = {key: nodes for key, nodes in self._seal.items() if nodes and self.wanted(key)}

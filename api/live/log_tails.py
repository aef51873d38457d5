"""The ends of logs that somebody follows here, as their collectors push them. No I/O; bounded in logs and bytes.

    a follower's position ─▶ asks ─▶ the next answer to its collector
    a push ─▶ follows on what is held? ─▶ held (≤ LOG_BYTES a log, ≤ ALL_BYTES) ─▶ every follower
                     └ no, or nobody follows: dropped, and asked for again from where it lacks

A byte is what it is by its log and its offset: what is held is one unbroken range, which a follower takes from its own
position on. What lies before it, or after a hole, comes from the store. When the last follower leaves, all of it goes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from api.metrics import LOG_TAIL_BYTES, LOG_TAILS
from pipeline.layout import SessionKey
from pipeline.push.pushed import MAX_LOGS, LogAsk, LogId, LogSpan, Push, unpack_push

LOG_BYTES = 4 << 20
ALL_BYTES = 64 << 20
ALL_LOGS = 2000


class Follower:
    """Somebody's position in a log. ``tail`` is None where no more logs can be followed this way."""

    def __init__(self, tail: Tail | None, at: int, ask: Callable[[], None]) -> None:
        self.tail = tail
        self.at = at
        self._ask = ask
        self._check = 0
        self._bell = anyio.Event()

    def take(self) -> bytes:
        """What was pushed and comes next; it counts as taken."""
        found = self.tail.after(self.at) if self.tail is not None else b""
        self.at += len(found)
        return found

    @property
    def heir(self) -> LogId | None:
        """The log that has the name now, where nothing comes behind this position any more."""
        tail = self.tail
        return tail.then if tail is not None and self.at == tail.end else None

    def has_all(self) -> bool:
        """Whether its collector, asked since this was asked first, found nothing behind what was taken."""
        tail = self.tail
        if tail is None:
            return False
        if not self._check:
            tail.check += 1
            self._check = tail.check
            self._ask()
        return tail.checked >= self._check and self.at == tail.end

    def ring(self) -> None:
        """There may be something to take."""
        self._bell.set()

    async def wait(self, seconds: float) -> None:
        """Return when it rang since the last wait, or after so long."""
        with anyio.move_on_after(max(0.0, seconds)):
            await self._bell.wait()
        self._bell = anyio.Event()


class Tail:
    """One log's. ``then``: behind ``end`` nothing comes, and which log has its name now."""

    def __init__(self, name: str, log: LogId, start: int) -> None:
        self.name, self.log = name, log
        self.start = self.end = start
        self.tail = 0  # as its collector said it: a checksum of the last bytes before ``end``
        self.check = self.checked = 0  # the last question whether that is all, and the last that was answered
        self.then: LogId | None = None
        self.followers: set[Follower] = set()
        self._parts: deque[bytes] = deque()

    @property
    def nbytes(self) -> int:
        return self.end - self.start

    def add(self, span: LogSpan, content: bytes) -> bool:
        """Hold what follows on what is held; False where something is missing between."""
        if span.start > self.end:
            return False
        fresh = content[self.end - span.start :]
        if fresh:
            self._parts.append(fresh)
            self.end += len(fresh)
            self.tail = span.tail
        if span.then is not None and span.end == self.end and span.then != self.log:
            self.then = span.then
        if span.end == self.end and span.checked <= self.check:
            self.checked = max(self.checked, span.checked)
        for each in self.followers:
            each.ring()
        return True

    def after(self, at: int) -> bytes:
        """What is held from that offset on; nothing where what is held begins later."""
        if not self.start <= at < self.end:
            return b""
        found, end = [], self.end
        for part in reversed(self._parts):
            begin = end - len(part)
            found.append(part[max(0, at - begin) :])
            if begin <= at:
                break
            end = begin
        return b"".join(reversed(found))

    def drop_oldest(self) -> int:
        gone = len(self._parts.popleft())
        self.start += gone
        return gone

    def restart(self, at: int) -> None:
        """Every follower is further by now: the store had it first."""
        self._parts.clear()
        self.start = self.end = at
        self.tail, self.then = 0, None


class LogTails:
    """One server's. ``on_ask`` is told of a session of which something else is lacked than before."""

    def __init__(self, on_ask: Callable[[SessionKey], None]) -> None:
        self.nbytes = 0
        self.count = 0
        self._on_ask = on_ask
        self._tails: dict[SessionKey, dict[str, dict[LogId, Tail]]] = {}

    @contextmanager
    def following(self, key: SessionKey, of: tuple[str, str, LogId] | None, at: int) -> Iterator[Follower]:
        """Follow a log (its node, the encoded name it was found under, the log) from an offset on, until the context is left."""
        tail = self._tail(key, *of, at) if of is not None else None
        follower = Follower(tail, at, lambda: self._on_ask(key))
        if of is None or tail is None:
            yield follower
            return
        tail.followers.add(follower)
        try:
            yield follower
        finally:
            tail.followers.discard(follower)
            if not tail.followers:
                self._let_go(key, of[0], tail)

    def asks(self, key: SessionKey, node: str) -> list[LogAsk]:
        """What is lacked of a node's logs."""
        return [self._ask(tail) for tail in self._tails.get(key, {}).get(node, {}).values()]

    def asks_of(self, key: SessionKey) -> dict[str, list[LogAsk]]:
        """The same of all nodes."""
        return {node: self.asks(key, node) for node in self._tails.get(key, {})}

    def take(self, key: SessionKey, push: Push, data: bytes) -> bool:
        """Hold what somebody follows of a message; False where something is missing before it. Raises ``BadPush``."""
        wanted = self._tails.get(key, {}).get(push.node, {})
        if not any(span.log in wanted for span in push.logs):
            return True
        head, body = unpack_push(data)
        whole, at = True, 0
        for span in head.logs:
            content = bytes(body[at : at + span.end - span.start])
            at += len(content)
            tail = wanted.get(span.log)
            if tail is not None:
                before = tail.nbytes
                whole = tail.add(span, content) and whole
                self._count_bytes(tail.nbytes - before)
                while tail.nbytes > LOG_BYTES:
                    self._count_bytes(-tail.drop_oldest())
        while self.nbytes > ALL_BYTES:
            self._count_bytes(-self._largest().drop_oldest())
        return whole

    def _tail(self, key: SessionKey, node: str, name: str, log: LogId, at: int) -> Tail | None:
        logs = self._tails.get(key, {}).get(node, {})
        tail = logs.get(log)
        if tail is not None:
            return tail
        if self.count >= ALL_LOGS or sum(map(len, self._tails.get(key, {}).values())) >= MAX_LOGS:
            return None
        tail = self._tails.setdefault(key, {}).setdefault(node, {})[log] = Tail(name, log, at)
        self._count(1)
        self._on_ask(key)
        return tail

    def _ask(self, tail: Tail) -> LogAsk:
        nearest = min((follower.at for follower in tail.followers), default=tail.end)
        if nearest > tail.end:
            self._count_bytes(-tail.nbytes)
            tail.restart(nearest)
        return LogAsk(tail.name, tail.log, tail.end, tail.tail, tail.check)

    def _let_go(self, key: SessionKey, node: str, tail: Tail) -> None:
        nodes = self._tails[key]
        del nodes[node][tail.log]
        if not nodes[node]:
            del nodes[node]
        if not nodes:
            del self._tails[key]
        self._count(-1)
        self._count_bytes(-tail.nbytes)
        self._on_ask(key)

    def _largest(self) -> Tail:
        tails = (tail for nodes in self._tails.values() for logs in nodes.values() for tail in logs.values())
        return max(tails, key=lambda tail: tail.nbytes)

    def _count(self, more: int) -> None:
        self.count += more
        LOG_TAILS.set(self.count)

    def _count_bytes(self, more: int) -> None:
        self.nbytes += more
        LOG_TAIL_BYTES.set(self.nbytes)

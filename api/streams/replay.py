"""A session played again from a time on: its events in the order of their times, as fast as asked for.

    per node: segments from ``since`` on ─▶ by time ─┐
                                                      ├▶ merged ─▶ paced ─▶ frames
    per node: …                                      ─┘

Two segments of a node are played at a time, so that what was told late, after the first was sealed, comes in its time;
those of different nodes beside each other. That holds as far as ``OPEN_BYTES`` allow; beyond them the order is that of
the segments. Where the stream was in a segment is how many of its events, by time, it has passed (``within`` and
``beside`` of a position): the same for whoever plays it again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import NamedTuple

import anyio
from msgspec import Struct

from api.groups import first_error
from api.query.query import BadQuery
from api.streams.hub import EVENT_BYTES, Hub, Subscriber
from api.streams.live_data import Event
from api.streams.positions import Position, head_text, node_code, text_of
from api.streams.recall import Recall, Run, Stored
from api.streams.sse import frame, heartbeat

OPEN_BYTES = 16 << 20
"""Bytes of events of one replay that are in memory, one segment whatever its size."""
NODES_AT_ONCE = 8
BESIDE = 2
"""Segments of a node that are played at a time."""
WRITE = 64 << 10
HEARTBEAT = 15.0
MAX_SPEED = 1e6

Sleep = Callable[[float], Awaitable[None]]


class Pace:
    """When an event is due: its distance from the first one, ``speed`` times faster. ``speed`` 0: at once."""

    def __init__(
        self, speed: float, clock: Callable[[], float] = anyio.current_time, sleep: Sleep = anyio.sleep
    ) -> None:
        self.sleep = sleep
        self._speed, self._clock = speed, clock
        self._begun: tuple[float, int] | None = None

    def wait(self, time_ms: int) -> float:
        """Seconds until an event of this time is due."""
        if not self._speed or not time_ms:
            return 0.0
        if self._begun is None:
            self._begun = self._clock(), time_ms
        began, first_ms = self._begun
        return max(0.0, began + (time_ms - first_ms) / 1000 / self._speed - self._clock())


def parse_speed(text: str | None) -> float:
    """Raises ``BadQuery``. 0 where nothing is asked for."""
    try:
        speed = float(text or "0")
    except ValueError:
        speed = math.nan
    if not 0 <= speed <= MAX_SPEED:
        raise BadQuery(f"speed: {(text or '')[:50]!r} is not a number from 0 (as fast as it goes) to {MAX_SPEED:g}")
    return speed


class _Open(Struct):
    """A segment being played: what is left of it, and what it takes."""

    stored: Stored
    told: list[Run]
    events: list[tuple[int, int, Event]]  # time, number by time, event
    nbytes: int
    at: int = 0

    @property
    def time_ms(self) -> int:
        return self.events[self.at][0]

    @property
    def over(self) -> bool:
        return self.at == len(self.events)


class _Turn(NamedTuple):
    """What comes next by time: of a node, or of one of its segments."""

    time_ms: int
    node: str
    seq: int = 0


class Replay:
    """One stream's. ``position`` moves on with what was given; it says from when on (``since_ms``)."""

    def __init__(self, recall: Recall, hub: Hub, subscriber: Subscriber, position: Position, pace: Pace) -> None:
        self.position = position
        self._recall, self._subscriber, self._pace = recall, subscriber, pace
        self._reader = hub.reader
        self._since_ms = position.since_ms or 0
        self._open: dict[str, list[_Open]] = {}
        self._in_line: set[str] = set()
        self._next: dict[str, list[Stored]] = {}
        self._head: tuple[str, str] | None = None

    async def begin(self) -> None:
        """Find the first segments that may hold something from ``since`` on. Raises ``StoreError``."""
        if not self._since_ms:
            return
        await self._of_every_node(self._find)

    async def _of_every_node(self, work: Callable[[str], Awaitable[None]]) -> None:
        slots = anyio.Semaphore(NODES_AT_ONCE)

        async def one(name: str) -> None:
            async with slots:
                await work(name)

        with first_error():
            async with anyio.create_task_group() as group:
                for name in list(self._reader.completeness.nodes):
                    group.start_soon(one, name)

    async def _find(self, node: str) -> None:
        """Pass the segments that were sealed before: those up to the last of them hold nothing later."""
        found = await self._recall.after(self._reader.key, node, 0, self._reader.completeness.nodes[node].last_seq)
        low, high = 0, len(found)
        while low < high:
            middle = (low + high) // 2
            header = await self._recall.header(found[middle])
            early = header is not None and 0 < header.created_ns < self._since_ms * 1_000_000
            low, high = (middle + 1, high) if early else (low, middle)
        self.position.seqs[node_code(node)] = found[low - 1].seq if low else 0

    async def frames(self) -> AsyncIterator[bytes]:
        """Everything that is sealed by the time it ends. Raises ``StoreError``."""
        pending: list[bytes] = []
        size = 0
        async for event, node, number, first in self._merged():
            while (seconds := self._pace.wait(event.time_ms)) > 0:
                if pending:
                    yield b"".join(pending)
                    pending, size = [], 0
                await self._pace.sleep(min(seconds, HEARTBEAT))
                if seconds > HEARTBEAT:
                    yield heartbeat(None)
            pending.append(self._frame(event, node, number, first))
            size += len(pending[-1])
            if size >= WRITE:
                yield b"".join(pending)
                pending, size = [], 0
                await anyio.lowlevel.checkpoint()
        if pending:
            yield b"".join(pending)

    def _frame(self, event: Event, node: str, number: int, first: bool) -> bytes:
        code = node_code(node)
        if self._head is None or self._head[0] != node:
            self._head = node, head_text(self.position.head())
        counts = self.position.within if first else self.position.beside
        counts[code] = number + 1
        position = text_of(self._head[1], self.position.within_records(code))
        return frame(event.kind, event.data, position)

    async def _merged(self) -> AsyncIterator[tuple[Event, str, int, bool]]:
        """The events that are wanted, by time: with their nodes, their numbers, and whether their segment is its node's first."""
        waiting: list[_Turn] = []
        turns: list[_Turn] = []
        await self._of_every_node(partial(self._line_up, waiting=waiting))
        while waiting or turns:
            while waiting and self._may_open(waiting[0], turns):
                await self._open_next(heapq.heappop(waiting).node, turns, waiting)
            if not turns:
                continue
            turn = turns[0]
            opened = next(each for each in self._open[turn.node] if each.stored.seq == turn.seq)
            _, number, event = opened.events[opened.at]
            opened.at += 1
            if opened.over:
                heapq.heappop(turns)
            else:
                heapq.heapreplace(turns, turn._replace(time_ms=opened.time_ms))
            yield event, turn.node, number, opened is self._open[turn.node][0]
            if opened.over:
                await self._go_on(turn.node, waiting)

    def _may_open(self, turn: _Turn, turns: list[_Turn]) -> bool:
        if not turns:
            return True
        room = sum(opened.nbytes for each in self._open.values() for opened in each) < OPEN_BYTES
        return room and turn.time_ms <= turns[0].time_ms

    async def _line_up(self, name: str, waiting: list[_Turn]) -> None:
        """Put a node's next segment in line, by the time it begins; of one node alone, time doesn't matter."""
        code = node_code(name)
        opened = self._open.setdefault(name, [])
        if not self._next.get(name):
            last = self._reader.completeness.nodes[name].last_seq
            seq = opened[-1].stored.seq if opened else self.position.seqs.get(code, 0)
            self._next[name] = (await self._recall.after(self._reader.key, name, seq, last))[::-1]
            if not self._next[name]:
                if not opened:
                    self.position.seqs[code] = max(seq, last)
                    self.position.within.pop(code, None)
                return
        header = None
        if len(self._reader.completeness.nodes) > 1:
            header = await self._recall.header(self._next[name][-1])
        self._in_line.add(name)
        heapq.heappush(waiting, _Turn(header.min_time_ns // 1_000_000 if header is not None else 0, name))

    async def _open_next(self, name: str, turns: list[_Turn], waiting: list[_Turn]) -> None:
        """Begin with a node's next segment, whatever of it is wanted."""
        self._in_line.discard(name)
        stored = self._next[name].pop()
        told = await self._recall.segment(self._reader, stored)
        opened = self._open[name]
        counts = self.position.beside if opened else self.position.within
        events = self._wanted(told, counts.get(node_code(name), 0))
        opened.append(_Open(stored, told, events, sum(EVENT_BYTES + len(event.data) for _, _, event in events)))
        if events:
            heapq.heappush(turns, _Turn(opened[-1].time_ms, name, stored.seq))
        await self._go_on(name, waiting)

    def _wanted(self, told: list[Run], passed: int) -> list[tuple[int, int, Event]]:
        """What is to be told of a segment of which so many events were passed, by time."""
        places = self.position.places
        everything = sorted(
            (
                (event.time_ms, event, (event.offset, event.nth) < places.get(run.code, (0, 0)))
                for run in told
                for event in run.events
            ),
            key=lambda each: each[0],
        )
        return [
            (time_ms, number, event)
            for number, (time_ms, event, was_told) in enumerate(everything)
            if number >= passed and not was_told and time_ms >= self._since_ms and self._subscriber.chosen.fits(event)
        ]

    async def _go_on(self, name: str, waiting: list[_Turn]) -> None:
        """Let go of a node's segments that are over, and put the next one in line."""
        opened = self._open[name]
        while opened and opened[0].over:
            self._close(name, opened.pop(0))
        if len(opened) < BESIDE and name not in self._in_line:
            await self._line_up(name, waiting)

    def _close(self, name: str, done: _Open) -> None:
        code, position = node_code(name), self.position
        position.seqs[code] = done.stored.seq
        position.within.pop(code, None)
        if code in position.beside:
            position.within[code] = position.beside.pop(code)
        for run in done.told:
            if position.places.get(run.code, (0, 0)) <= (run.end, 0):
                position.places.pop(run.code, None)
        self._head = None

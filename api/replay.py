"""A session played again from a time on: its events in the order of their times, as fast as asked for.

    per node: segments from ``since`` on ─▶ by time ─┐
                                                      ├▶ merged ─▶ paced ─▶ frames
    per node: …                                      ─┘

A node's segments are opened one after the other, those of different nodes beside each other as far as ``OPEN_BYTES``
allow; beyond that the order is that of the segments. Where the stream was in a segment is how many of its events,
by time, it has passed (``within`` of a position): the same for whoever plays it again.
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
from api.hub import EVENT_BYTES, Hub, Subscriber
from api.live_data import Event
from api.positions import Position, head_text, node_code, text_of, within_record
from api.query import BadQuery
from api.recall import Recall, Run, Stored
from api.sse import frame, heartbeat

OPEN_BYTES = 16 << 20
"""Bytes of events of one replay that are in memory, one segment whatever its size."""
NODES_AT_ONCE = 8
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
    at: int
    nbytes: int


class _Turn(NamedTuple):
    """What comes next of a node, by time."""

    time_ms: int
    node: str


class Replay:
    """One stream's. ``position`` moves on with what was given; it says from when on (``since_ms``)."""

    def __init__(self, recall: Recall, hub: Hub, subscriber: Subscriber, position: Position, pace: Pace) -> None:
        self.position = position
        self._recall, self._subscriber, self._pace = recall, subscriber, pace
        self._reader = hub.reader
        self._since_ms = position.since_ms or 0
        self._open: dict[str, _Open] = {}
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
        async for event, node, number in self._merged():
            while (seconds := self._pace.wait(event.time_ms)) > 0:
                if pending:
                    yield b"".join(pending)
                    pending, size = [], 0
                await self._pace.sleep(min(seconds, HEARTBEAT))
                if seconds > HEARTBEAT:
                    yield heartbeat(None)
            pending.append(self._frame(event, node, number))
            size += len(pending[-1])
            if size >= WRITE:
                yield b"".join(pending)
                pending, size = [], 0
                await anyio.lowlevel.checkpoint()
        if pending:
            yield b"".join(pending)

    def _frame(self, event: Event, node: str, number: int) -> bytes:
        code = node_code(node)
        if self._head is None or self._head[0] != node:
            self._head = node, head_text(self.position.head())
        position = text_of(self._head[1], within_record(code, number + 1))
        self.position.within[code] = number + 1
        return frame(event.kind, event.data, position)

    async def _merged(self) -> AsyncIterator[tuple[Event, str, int]]:
        """The events that are wanted, by time, with their nodes and their numbers."""
        waiting: list[_Turn] = []
        turns: list[_Turn] = []
        await self._of_every_node(partial(self._line_up, waiting=waiting))
        while waiting or turns:
            while waiting and self._may_open(waiting[0], turns):
                turn = heapq.heappop(waiting)
                if await self._open_next(turn.node):
                    heapq.heappush(turns, _Turn(self._time(turn.node), turn.node))
                else:
                    await self._line_up(turn.node, waiting)
            if not turns:
                continue
            name = turns[0].node
            opened = self._open[name]
            _, number, event = opened.events[opened.at]
            opened.at += 1
            if opened.at < len(opened.events):
                heapq.heapreplace(turns, _Turn(self._time(name), name))
                yield event, name, number
            else:
                heapq.heappop(turns)
                yield event, name, number
                self._close(name, opened.stored, opened.told)
                del self._open[name]
                await self._line_up(name, waiting)

    def _time(self, name: str) -> int:
        opened = self._open[name]
        return opened.events[opened.at][0]

    def _may_open(self, turn: _Turn, turns: list[_Turn]) -> bool:
        if not turns:
            return True
        room = sum(opened.nbytes for opened in self._open.values()) < OPEN_BYTES
        return room and turn.time_ms <= turns[0].time_ms

    async def _line_up(self, name: str, waiting: list[_Turn]) -> None:
        """Put a node's next segment in line, by the time it begins; of one node alone, time doesn't matter."""
        code = node_code(name)
        if not self._next.get(name):
            last = self._reader.completeness.nodes[name].last_seq
            seq = self.position.seqs.get(code, 0)
            self._next[name] = (await self._recall.after(self._reader.key, name, seq, last))[::-1]
            if not self._next[name]:
                self.position.seqs[code] = max(seq, last)
                self.position.within.pop(code, None)
                return
        header = None
        if len(self._reader.completeness.nodes) > 1:
            header = await self._recall.header(self._next[name][-1])
        heapq.heappush(waiting, _Turn(header.min_time_ns // 1_000_000 if header is not None else 0, name))

    async def _open_next(self, name: str) -> bool:
        """Whether the node's next segment has anything that is wanted; it is passed if not."""
        stored = self._next[name].pop()
        told = await self._recall.segment(self._reader, stored)
        places = self.position.places
        everything = sorted(
            (
                (event.time_ms, event, (event.offset, event.nth) < places.get(run.code, (0, 0)))
                for run in told
                for event in run.events
            ),
            key=lambda each: each[0],
        )
        passed = self.position.within.get(node_code(name), 0)
        events = [
            (time_ms, number, event)
            for number, (time_ms, event, was_told) in enumerate(everything)
            if number >= passed and not was_told and time_ms >= self._since_ms and self._subscriber.chosen.fits(event)
        ]
        if not events:
            self._close(name, stored, told)
            return False
        nbytes = sum(EVENT_BYTES + len(event.data) for _, _, event in events)
        self._open[name] = _Open(stored, told, events, 0, nbytes)
        return True

    def _close(self, name: str, stored: Stored, told: list[Run]) -> None:
        code, places = node_code(name), self.position.places
        self.position.seqs[code] = stored.seq
        self.position.within.pop(code, None)
        for run in told:
            if places.get(run.code, (0, 0)) <= (run.end, 0):
                places.pop(run.code, None)
        self._head = None

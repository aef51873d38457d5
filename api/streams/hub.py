"""What was told lately of one session, and who is being told: a ring of batches that all subscribers read from.

    applied slice ─▶ events ─▶ batch ─▶ ring (bounded in bytes) ─▶ each subscriber's place in it ─▶ its connection
                                          └ the oldest goes; a subscriber whose place went with it is cut

The ring is every subscriber's queue: one that reads slowly falls behind in it and is cut when it has fallen out, and
nobody else notices, nor is any memory spent on it. Whoever was cut, or comes back for another reason, goes on from its
position (``positions.py``): out of the ring where that is still there, else out of the store (``catch_up.py``).

A batch's frames are made once for all subscribers of one filter. Sync and without I/O; ``hubs.py`` runs it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import anyio

from api.session.completeness import SourceSeen
from api.session.reader import Applied, SessionReader
from api.streams.live_data import Event
from api.streams.live_events import events_of
from api.streams.live_filter import EventFilter
from api.streams.positions import (
    Place,
    Position,
    head_text,
    node_code,
    node_record,
    place_record,
    places_text,
    records_text,
    source_code,
    split,
)
from api.streams.sse import frame, frames

RING_BYTES = 16 << 20
RING_BATCHES = 20_000
EVENT_BYTES = 250
"""About what an event takes beside its JSON."""
BATCH_BYTES = 1000
WARM = 64
"""Batches whose frames are kept; those who read further back have theirs made again."""
WRITE = 256 << 10
"""Bytes of one write."""

SourceKey = tuple[str, str]


class Batch:
    """The events of one slice of a source. ``head``: the position before it, as text; ``end``: of the slice."""

    __slots__ = ("_made", "code", "end", "events", "head", "key", "nbytes")

    def __init__(self, key: SourceKey, code: bytes, end: int, events: list[Event], head: str) -> None:
        self.key, self.code, self.end, self.events, self.head = key, code, end, events, head
        self.nbytes = BATCH_BYTES + len(head) + sum(len(event.data) + EVENT_BYTES for event in events)
        self._made: dict[EventFilter, bytes] = {}

    def written(self, chosen: EventFilter, keep: bool) -> bytes:
        """Its frames for a filter."""
        made = self._made.get(chosen)
        if made is None:
            made = frames(self.fitting(chosen), self.head, self.code)
            if keep:
                self._made[chosen] = made
        return made

    def fitting(self, chosen: EventFilter) -> list[Event]:
        return self.events if chosen.everything else [event for event in self.events if chosen.fits(event)]

    def cool(self) -> None:
        self._made = {}


class Notice:
    """Something about the session itself, for everybody."""

    __slots__ = ("data", "nbytes")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.nbytes = BATCH_BYTES + len(data)


class Subscriber:
    """Somebody's place in the ring.

    ``passed``: where, of a source, the events begin that it hasn't been told; ``beyond``: those of them that are
    further than the hub itself. Up to ``joined`` the ring's own positions may lie before its own, which is ``came``.
    """

    def __init__(self, chosen: EventFilter) -> None:
        self.chosen = chosen
        self.at = 0
        self.joined = 0
        self.came = ""
        self.passed: dict[bytes, Place] = {}
        self.beyond: dict[bytes, Place] = {}
        self.sending_since: float | None = None
        self.cut = anyio.Event()


class Hub:
    """One session's. ``publish`` is its reader's ``on_applied``."""

    def __init__(self, reader: SessionReader, limit: Callable[[], int] = lambda: RING_BYTES) -> None:
        self.reader = reader
        self.news = anyio.Event()
        """Set, and another put in its place, whenever there is something to take."""
        self.published = anyio.Event()
        self.over = False
        """Nothing more will come: the session has ended."""
        self.subscribers: set[Subscriber] = set()
        self.nbytes = 0
        self._limit = limit
        self._ring: dict[int, Batch | Notice] = {}
        self._warm: deque[Batch] = deque()
        self._first = self._next = 0
        self._ahead: dict[SourceKey, tuple[bytes, int]] = {}
        self._gone: dict[SourceKey, int] = {}
        """How far each source was told by what is in the ring no more, where segments don't reach as far."""
        self._heads: dict[str, int] = {}
        self._seals = -1
        self._nodes = b""
        for seen in reader.completeness.sources.values():
            if seen.end > seen.sealed:
                key = seen.node, seen.source
                self._ahead[key] = source_code(*key), seen.end
                self._gone[key] = seen.end

    # what comes in

    def publish(self, applied: Applied) -> None:
        """Take in a slice that was applied."""
        key = applied.node, applied.source
        code = source_code(*key)
        events = events_of(self.reader.index, applied.decoded)
        if events:
            batch = Batch(key, code, applied.end, events, self.head())
            self._heads.setdefault(batch.head, self._next)
            self._append(batch)
            self._warm.append(batch)
            if len(self._warm) > WARM:
                self._warm.popleft().cool()
        self._ahead[key] = code, applied.end

    def tell(self, kind: str, data: bytes) -> None:
        """Tell everybody something that isn't a record."""
        self._append(Notice(frame(kind, data)))

    def _append(self, item: Batch | Notice) -> None:
        self._ring[self._next] = item
        self._next += 1
        self.nbytes += item.nbytes
        limit = self._limit()
        while (self.nbytes > limit or len(self._ring) > RING_BATCHES) and len(self._ring) > 1:
            self._drop_oldest()
        for subscriber in self.subscribers:
            if subscriber.at < self._first:
                subscriber.cut.set()
        self.published.set()

    def _drop_oldest(self) -> None:
        oldest = self._ring.pop(self._first)
        self.nbytes -= oldest.nbytes
        if isinstance(oldest, Batch):
            self._gone[oldest.key] = oldest.end
            if self._heads.get(oldest.head) == self._first:
                del self._heads[oldest.head]
        self._first += 1

    def wake(self) -> None:
        """Let all who wait look."""
        self.published = anyio.Event()
        waiting, self.news = self.news, anyio.Event()
        waiting.set()

    # where it stands

    def head(self) -> str:
        """The position of all that was told, as text."""
        seen = self.reader.completeness
        if seen.seals != self._seals:
            self._seals = seen.seals
            self._nodes = b"".join(node_record(node_code(name), node.last_seq) for name, node in seen.nodes.items())
            self._ahead = {key: ahead for key, ahead in self._ahead.items() if ahead[1] > self._sealed(key)}
            self._gone = {key: end for key, end in self._gone.items() if end > self._sealed(key)}
        return head_text(self._nodes + b"".join(place_record(code, end, 0) for code, end in self._ahead.values()))

    def _seen(self, key: SourceKey) -> SourceSeen | None:
        return self.reader.completeness.sources.get(key)

    def _sealed(self, key: SourceKey) -> int:
        seen = self._seen(key)
        return seen.sealed if seen is not None else 0

    # who comes and goes

    def attach(self, subscriber: Subscriber) -> None:
        """From now on."""
        subscriber.at = self._next
        self.subscribers.add(subscriber)

    def attach_at(self, subscriber: Subscriber, text: str) -> bool:
        """From a position that this hub sent, where what follows on it is still in the ring. False otherwise."""
        found = split(text)
        if found is None:
            return False
        head, passed = found
        number = self._heads.get(head)
        if number is None:
            if passed or head != self.head():
                return False
            number = self._next
        elif any(self._batch(number).code != code for code in passed):
            return False
        subscriber.at, subscriber.passed = number, passed
        self.subscribers.add(subscriber)
        return True

    def _batch(self, number: int) -> Batch:
        batch = self._ring[number]
        assert isinstance(batch, Batch)
        return batch

    def attach_after(self, subscriber: Subscriber, position: Position) -> bool:
        """From a position that knows every segment that the reader knows. False where ``lacking`` says there is a hole."""
        if any(True for _ in self.lacking(position)):
            return False
        keys = {item.key for item in self._ring.values() if isinstance(item, Batch)}
        passed = {source_code(*key): (self._sealed(key), 0) for key in keys}
        for code, place in position.places.items():
            passed[code] = max(place, passed.get(code, (0, 0)))
        ends = {source_code(seen.node, seen.source): seen.end for seen in self.reader.completeness.sources.values()}
        subscriber.passed = passed
        subscriber.beyond = {code: place for code, place in position.places.items() if place > (ends.get(code, 0), 0)}
        subscriber.came = records_text(position.head())
        subscriber.at, subscriber.joined = self._first, self._next
        self.subscribers.add(subscriber)
        return True

    def lacking(self, position: Position) -> Iterator[tuple[SourceKey, int, int]]:
        """The parts of sources after a position that the ring has no more: source, from, to.

        The position must know the same segments as the reader.
        """
        for key, end in self._gone.items():
            start = position.places.get(source_code(*key), (self._sealed(key), 0))[0]
            if max(start, self._sealed(key)) < end:
                yield key, max(start, self._sealed(key)), end

    def leave(self, subscriber: Subscriber) -> None:
        self.subscribers.discard(subscriber)

    # what goes out

    def behind(self, subscriber: Subscriber) -> bool:
        """Whether there is something to take."""
        return subscriber.at < self._next

    def take(self, subscriber: Subscriber) -> bytes | None:
        """The next bytes for a subscriber, empty for none that fit; None where it has fallen out of the ring."""
        parts: list[bytes] = []
        size = 0
        while subscriber.at < self._next and size < WRITE:
            if subscriber.at < self._first:
                return None
            part = self._written(subscriber, self._ring[subscriber.at])
            subscriber.at += 1
            if part:
                parts.append(part)
                size += len(part)
        return b"".join(parts)

    def _written(self, subscriber: Subscriber, item: Batch | Notice) -> bytes:
        if isinstance(item, Notice):
            return item.data
        before = subscriber.at < subscriber.joined
        if not before and not subscriber.beyond and item.code not in subscriber.passed:
            return item.written(subscriber.chosen, keep=self._next - subscriber.at <= WARM)
        events = item.fitting(subscriber.chosen)
        if (place := subscriber.passed.get(item.code)) is not None:
            events = [event for event in events if (event.offset, event.nth) >= place]
            if item.end > place[0]:
                del subscriber.passed[item.code]
                subscriber.beyond.pop(item.code, None)
        return frames(events, item.head, item.code, subscriber.came if before else places_text(subscriber.beyond))

    def position(self, subscriber: Subscriber) -> str | None:
        """Where a subscriber stands that has taken everything; None where that can't be said shortly."""
        return None if subscriber.beyond or self.behind(subscriber) else self.head()

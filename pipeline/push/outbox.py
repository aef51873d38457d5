"""What one session has for the server: read, and not yet known to be in the store. Pure, bounded in bytes.

    add ─▶ [ kept: sent before │ new: not sent yet ] ─▶ take
            ▲ the oldest goes where there is no room (the server reads it from the store)
            ▲ what a segment holds goes (the server reads that from the store, too)

What was sent is kept until it is sealed: a server that was restarted gets it again (``resume``). Of what had to go the
end is told, by a range without bytes: so a server sees that it lacks something even where nothing follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from pipeline.push.pushed import MAX_BODY, MAX_SPANS
from pipeline.segments.batch import Chunk
from pipeline.segments.segment import Header, Span

OVERHEAD = 512
"""What a chunk takes beside its bytes."""
BATCH = 1 << 20
"""Bytes that go out together, a longer line apart."""


class Outbox:
    """Chunks in the order in which they were read."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._kept: deque[Chunk] = deque()
        self._new: deque[Chunk] = deque()
        self._gone: dict[str, Chunk] = {}  # by source: the end of what had to go
        self._untold: set[str] = set()
        self._ends: dict[str, int] = {}

    @property
    def unsent(self) -> bool:
        return bool(self._new or self._untold)

    def add(self, chunks: list[Chunk]) -> int:
        """Take chunks in; returns the bytes that had to go for them, sent or not."""
        for chunk in chunks:
            if chunk.start < self._ends.get(chunk.source, 0):
                self._read_again(chunk)
            self._ends[chunk.source] = chunk.end
            self._new.append(chunk)
            self.nbytes += _size(chunk)
        dropped = 0
        while self.nbytes > self.limit:
            oldest = (self._kept or self._new).popleft()
            self.nbytes -= _size(oldest)
            dropped += len(oldest.data)
            end = Chunk(oldest.source, oldest.dialect, oldest.end, oldest.end, b"", oldest.tail)
            self._gone[oldest.source] = end
            self._untold.add(oldest.source)
        return dropped

    def _read_again(self, chunk: Chunk) -> None:
        """Its source is read again from there (somebody else stored segments): so is what followed."""
        self._keep(lambda held: held.source != chunk.source or held.end <= chunk.start)
        gone = self._gone.get(chunk.source)
        if gone is not None and gone.end > chunk.start:
            del self._gone[chunk.source]
            self._untold.discard(chunk.source)

    def take(self) -> list[Chunk]:
        """The next that were not sent; they count as sent from now on."""
        ends = [self._gone[source] for source in list(self._untold)[: MAX_SPANS // 2]]
        self._untold.difference_update(end.source for end in ends)
        taken: list[Chunk] = []
        size = 0
        while self._new and len(taken) < MAX_SPANS // 2:
            size += len(self._new[0].data)
            if taken and size > BATCH:
                break
            taken.append(self._new.popleft())
        self._kept.extend(taken)
        return ends + [chunk for chunk in taken if len(chunk.data) <= MAX_BODY]

    def resume(self, cursor: Mapping[str, int]) -> None:
        """Only what lies before ``cursor`` has arrived; the rest is to be sent, again or not."""
        everything = [*self._kept, *self._new]
        self._kept = deque(chunk for chunk in everything if chunk.end <= cursor.get(chunk.source, -1))
        self._new = deque(chunk for chunk in everything if chunk.end > cursor.get(chunk.source, -1))
        self._untold = {source for source, end in self._gone.items() if end.end > cursor.get(source, -1)}

    def sealed(self, header: Header) -> None:
        """A segment with these spans is in the store."""
        ends: dict[str, int] = {}
        for span in header.sources:
            ends[span.source] = max(span.end, ends.get(span.source, 0))
        self._keep(lambda chunk: chunk.end > ends.get(chunk.source, -1))
        self._gone = {source: end for source, end in self._gone.items() if end.end > ends.get(source, -1)}
        self._untold.intersection_update(self._gone)
        self._ends = {source: end for source, end in self._ends.items() if end > ends.get(source, -1)}

    def drop(self, chunks: list[Chunk]) -> None:
        """These won't be taken."""
        gone = set(map(id, chunks))
        self._keep(lambda chunk: id(chunk) not in gone)

    def _keep(self, wanted: Callable[[Chunk], bool]) -> None:
        self._kept = deque(filter(wanted, self._kept))
        self._new = deque(filter(wanted, self._new))
        self.nbytes = sum(map(_size, self._kept)) + sum(map(_size, self._new))


def spans(chunks: list[Chunk]) -> list[Span]:
    """The ranges that chunks make, those that follow on one another joined; in order."""
    found: list[Span] = []
    for chunk in chunks:
        start, records = chunk.start, chunk.records
        if found and found[-1].source == chunk.source and found[-1].end == chunk.start:
            before = found.pop()
            start, records = before.start, before.records + records
        found.append(Span(chunk.source, chunk.dialect, start, chunk.end, records, chunk.tail))
    return found


def _size(chunk: Chunk) -> int:
    return OVERHEAD + len(chunk.data)

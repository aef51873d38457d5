"""What one session has for the server: read, and not yet known to be in the store. Pure, bounded in bytes.

    add ─▶ [ kept: sent before │ new: not sent yet ] ─▶ take
            ▲ the oldest goes where there is no room (the server reads it from the store)
            ▲ what a segment holds goes (the server reads that from the store, too)

What was sent is kept until it is sealed: a server that was restarted gets it again (``resume``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from pipeline.batch import Chunk
from pipeline.pushed import MAX_BODY, MAX_SPANS
from pipeline.segment import Header, Span

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

    @property
    def unsent(self) -> bool:
        return bool(self._new)

    def add(self, chunks: list[Chunk]) -> int:
        """Take chunks in; returns the bytes that had to go for them, sent or not."""
        self._new.extend(chunks)
        self.nbytes += sum(map(_size, chunks))
        dropped = 0
        while self.nbytes > self.limit:
            oldest = (self._kept or self._new).popleft()
            self.nbytes -= _size(oldest)
            dropped += len(oldest.data)
        return dropped

    def take(self) -> list[Chunk]:
        """The next that were not sent; they count as sent from now on."""
        taken: list[Chunk] = []
        size = 0
        while self._new and len(taken) < MAX_SPANS:
            size += len(self._new[0].data)
            if taken and size > BATCH:
                break
            taken.append(self._new.popleft())
        self._kept.extend(taken)
        return [chunk for chunk in taken if len(chunk.data) <= MAX_BODY]

    def resume(self, cursor: Mapping[str, int]) -> None:
        """Only what lies before ``cursor`` has arrived; the rest is to be sent, again or not."""
        everything = [*self._kept, *self._new]
        self._kept = deque(chunk for chunk in everything if chunk.end <= cursor.get(chunk.source, -1))
        self._new = deque(chunk for chunk in everything if chunk.end > cursor.get(chunk.source, -1))

    def sealed(self, header: Header) -> None:
        """A segment with these spans is in the store."""
        ends: dict[str, int] = {}
        for span in header.sources:
            ends[span.source] = max(span.end, ends.get(span.source, 0))
        self._keep(lambda chunk: chunk.end > ends.get(chunk.source, -1))

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

"""How far each source of one node has been stored: the state that makes a record stored exactly once.

Pure. A cursor is the sum of the headers of a node's segments, so it can be kept in a checkpoint and,
without one, be added up again from the store. ``Cursor.commit`` is for a segment that was made from
this very cursor: it must begin where the cursor stands, or ``HoleError``. ``Cursor.adopt`` is for what
the store holds already, whoever wrote it: the store is right, overlap changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from pipeline.errors import HoleError
from pipeline.segments.segment import Header, Span

FIRST_SEQ = 1


class Position(Struct, frozen=True, array_like=True):
    """The end of what has been taken from a source, and the checksum of the bytes before it."""

    end: int
    tail: int


START = Position(0, 0)


class Cursor(Struct):
    """The last segment's number (0: none) and where each source ended. ``sources`` is replaced, not changed, but by ``adopt``."""

    seq: int = 0
    sources: dict[str, Position] = {}

    def end(self, source: str) -> int:
        return self.sources.get(source, START).end

    def commit(self, header: Header) -> None:
        """Move past a segment made from this cursor. Raises ``HoleError`` (and moves nothing) where they don't meet."""
        if header.seq != self.seq + 1:
            raise HoleError(f"segment {header.seq} can't follow segment {self.seq}")
        self.sources = {**self.sources, **self._ends(header)}
        self.seq = header.seq

    def adopt(self, header: Header) -> list[str]:
        """Move past a segment found in the store; the sources in which it left a hole are returned, never raised."""
        holes = []
        for span in header.sources:
            if span.start > self.end(span.source) and not declared(header.gaps, span, self.end(span.source)):
                holes.append(span.source)
            if span.end > self.end(span.source):
                self.sources[span.source] = Position(span.end, span.tail)
        self.seq = max(self.seq, header.seq)
        return holes

    def forget(self, sources: Iterable[str]) -> None:
        """Drop sources that can never come back (spool files that were deleted)."""
        gone = set(sources)
        self.sources = {source: position for source, position in self.sources.items() if source not in gone}

    def copy(self) -> Cursor:
        return Cursor(self.seq, dict(self.sources))

    def _ends(self, header: Header) -> dict[str, Position]:
        ends: dict[str, Position] = {}
        for span in header.sources:
            at = ends.get(span.source, self.sources.get(span.source, START)).end
            if span.start < at or not declared(header.gaps, span, at):
                raise HoleError(f"{span.source}: segment begins at {span.start}, the cursor stands at {at}")
            ends[span.source] = Position(span.end, span.tail)
        return ends


def declared(gaps: Iterable[Mapping[str, object]], span: Span, at: int) -> bool:
    """Whether every byte between ``at`` and the span was left out knowingly: the header's gaps cover them."""
    for start, end in sorted(_intervals(gaps, span.source)):
        if start <= at:
            at = max(at, end)
    return at >= span.start


def _intervals(gaps: Iterable[Mapping[str, object]], source: str) -> Iterator[tuple[int, int]]:
    for gap in gaps:
        start, end = gap.get("start"), gap.get("end")
        if gap.get("source") == source and isinstance(start, int) and isinstance(end, int):
            yield start, end

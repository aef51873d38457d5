"""From chunks to segment bodies: what is gathered, and when it is closed (``full | age | idle | shutdown | asked``).

Pure. A chunk is an interval of one source with its bytes; one that doesn't follow on what was gathered
of that source raises ``HoleError``, so a body without a sound position can't be built. A body keeps
each source's bytes together, in the order in which the sources first appeared.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from pipeline.errors import HoleError
from pipeline.segments.segment import CloseReason, Dialect, Span

IDLE_SHARE = 0.25  # of the age: a burst that is over goes out at a quarter of the time a trickle may wait


class Gap(Struct, frozen=True):
    """Bytes of a source that no segment holds, and why: ``too_long | deleted | truncated``."""

    source: str
    start: int
    end: int
    why: str


class Chunk(Struct, frozen=True):
    """Whole lines of one source, ``[start, end)``. After a line that was left out it is empty and has the gap before it."""

    source: str
    dialect: Dialect
    start: int
    end: int
    data: bytes
    tail: int
    records: int = 0
    min_time_ns: int = 0
    max_time_ns: int = 0
    gap: Gap | None = None


class Body(Struct, frozen=True):
    """What a segment will hold, all but its number."""

    sources: list[Span]
    chunks: list[bytes]
    gaps: list[dict[str, Any]]
    min_time_ns: int
    max_time_ns: int
    reason: CloseReason

    @property
    def size(self) -> int:
        return sum(span.length for span in self.sources)


class SegmentBuilder:
    """Gathers chunks until the body is full or old enough. ``now`` is any clock in seconds that only grows."""

    def __init__(self, limit: int, age: float) -> None:
        self.limit = limit
        self.age = age
        self.idle = age * IDLE_SHARE
        self._clear()

    def _clear(self) -> None:
        self.size = 0
        self._runs: dict[str, list[list[Chunk]]] = {}
        self._gaps: list[Gap] = []
        self._opened = 0.0
        self._touched = 0.0

    @property
    def empty(self) -> bool:
        return not self._runs and not self._gaps

    def add(self, chunk: Chunk, now: float) -> None:
        """Take a chunk; raises ``HoleError`` if it doesn't begin where the last one of its source ended."""
        self._touch(now)
        runs = self._runs.setdefault(chunk.source, [])
        if chunk.gap is not None:
            self._gaps.append(chunk.gap)
        before = runs[-1][-1].end if runs else None
        if before is not None and chunk.gap is None and chunk.start != before:
            raise HoleError(f"{chunk.source}: chunk begins at {chunk.start}, the one before ended at {before}")
        if before is not None and chunk.start == before:
            runs[-1].append(chunk)
        else:
            runs.append([chunk])
        self.size += len(chunk.data)

    def lost(self, gap: Gap, now: float) -> None:
        """Note bytes that are gone for good; they are said in the header of the next segment."""
        self._touch(now)
        self._gaps.append(gap)

    def due(self, now: float) -> CloseReason | None:
        """Why to close now, if it is time to."""
        if self.empty:
            return None
        if self.size >= self.limit:
            return "full"
        if now >= self._opened + self.age:
            return "age"
        if now >= self._touched + self.idle:
            return "idle"
        return None

    def due_at(self) -> float:
        """When the segment will be due if nothing more comes."""
        return float("inf") if self.empty else min(self._opened + self.age, self._touched + self.idle)

    def close(self, reason: CloseReason) -> Body:
        """The body gathered so far; the builder is empty after that."""
        spans: list[Span] = []
        parts: list[bytes] = []
        for runs in self._runs.values():
            for run in runs:
                spans.append(_span(run))
                parts.extend(chunk.data for chunk in run)
        chunks = [chunk for runs in self._runs.values() for run in runs for chunk in run]
        body = Body(
            sources=spans,
            chunks=parts,
            gaps=[{"source": gap.source, "start": gap.start, "end": gap.end, "why": gap.why} for gap in self._gaps],
            min_time_ns=min((chunk.min_time_ns for chunk in chunks if chunk.min_time_ns), default=0),
            max_time_ns=max((chunk.max_time_ns for chunk in chunks), default=0),
            reason=reason,
        )
        self._clear()
        return body

    def _touch(self, now: float) -> None:
        if self.empty:
            self._opened = now
        self._touched = now


def _span(run: list[Chunk]) -> Span:
    return Span(
        source=run[0].source,
        dialect=run[0].dialect,
        start=run[0].start,
        end=run[-1].end,
        records=sum(chunk.records for chunk in run),
        tail=run[-1].tail,
    )

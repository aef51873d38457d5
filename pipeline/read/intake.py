"""From files to chunks: read, mask what may not leave, measure. Each line is decoded once here, and not kept.

A line that is too long is stored in pieces in the session's ``quarantine/`` before its place is passed, so
its bytes are somewhere before any cursor says that they were taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import anyio
import structlog
from msgspec import Struct

from pipeline import metrics
from pipeline.decoding.decode import decode_block
from pipeline.read.places import Place
from pipeline.read.source import LINE_LIMIT
from pipeline.read.tail import Lines, Long, Tailer
from pipeline.redact import redact_block
from pipeline.segments.batch import Chunk, Gap
from pipeline.segments.cursor import Position

ROUND = 4 << 20
"""Bytes read at a time, about."""

Keep = Callable[[str, bytes], Awaitable[object]]
"""Stores bytes that can't be a record under a name, for good."""

log = structlog.get_logger()


class Taken(Struct, frozen=True):
    """What was read at a time: chunks in the order of each source, what is gone for good, and whether there is more."""

    chunks: list[Chunk]
    lost: list[Gap]
    more: bool


class Intake:
    """Reads one session's sources from ``positions`` on. Used by one task at a time."""

    def __init__(self, places: list[Place], positions: Mapping[str, Position], keep: Keep, *, redact: bool) -> None:
        self.tailer = Tailer(places, positions)
        self._keep = keep
        self._redact: Callable[[bytes], bytes] = redact_block if redact else bytes

    async def take(self) -> Taken:
        """What is new, about ``ROUND`` bytes of it."""
        found, lost, more = await anyio.to_thread.run_sync(self._round)
        chunks = [each if isinstance(each, Chunk) else await self._keep_aside(each) for each in found]
        for gap in lost:
            metrics.BYTES_LOST.labels(gap.why).inc(gap.end - gap.start)
            log.error("bytes gone before they were read", source=gap.source, why=gap.why, bytes=gap.end - gap.start)
        return Taken(chunks, lost, more)

    def _round(self) -> tuple[list[Chunk | Long], list[Gap], bool]:
        """Blocking, and mostly computing."""
        round_ = self.tailer.read(ROUND)
        found: list[Chunk | Long] = []
        lost = []
        for item in round_.items:
            match item:
                case Lines():
                    found.append(_measured(item, self._redact(item.data)))
                case Long():
                    found.append(item)
                case Gap():
                    lost.append(item)
        return found, lost, round_.more

    async def _keep_aside(self, long: Long) -> Chunk:
        metrics.LINES_TOO_LONG.inc()
        log.error("line too long, kept aside", source=long.source, start=long.start, bytes=long.end - long.start)
        for number, start in enumerate(range(long.start, long.end, LINE_LIMIT)):
            data = await anyio.to_thread.run_sync(self._piece, long, start)
            name = f"too_long.{long.source.replace('/', '+')[:180]}.{long.start:016d}.{number:04d}".replace("..", ".")
            await self._keep(name, data)
        gap = Gap(long.source, long.start, long.end, "too_long")
        return Chunk(long.source, long.dialect, long.end, long.end, b"", long.tail, gap=gap)

    def _piece(self, long: Long, start: int) -> bytes:
        return self._redact(self.tailer.slice(long.source, start, min(start + LINE_LIMIT, long.end)))


def _measured(lines: Lines, data: bytes) -> Chunk:
    decoded = decode_block(data, lines.dialect, lines.start)
    metrics.LINES_READ.labels(lines.dialect).inc(decoded.lines)
    metrics.BYTES_READ.labels(lines.dialect).inc(len(lines.data))
    for rejected in decoded.rejected:
        metrics.LINES_NOT_UNDERSTOOD.labels(rejected.why).inc()
    if decoded.unknown:
        metrics.LINES_NOT_UNDERSTOOD.labels("unknown_type").inc(sum(decoded.unknown.values()))
    return Chunk(
        source=lines.source,
        dialect=lines.dialect,
        start=lines.start,
        end=lines.end,
        data=data,
        tail=lines.tail,
        records=decoded.lines,
        min_time_ns=decoded.min_time_ns,
        max_time_ns=decoded.max_time_ns,
    )

"""Bytes to lines to records: the one way into the typed model, for the collector and the server alike.

Never raises, whatever the bytes: a line that can't be read is a value (``Rejected``), a type this
program doesn't know is counted by name, and their neighbours flow. Positions travel with the records:
what a record is called is where its line began. Pure: no file, no clock, no log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from pipeline.decoding.dialects import export, log_event, posted
from pipeline.decoding.dialects.wire import UnknownType
from pipeline.events import Record
from pipeline.segments.segment import Dialect

MAX_LINE = (8 << 20) - 1
"""Bytes a line may have, its end not counted. Ray's own stay below its gRPC limits of a few MiB a message."""
_MAX_DETAIL = 200
_MAX_UNKNOWN = 100  # names counted one by one; a bound, since anyone can make up names
_MAX_NAME = 80
_OTHER = "(other)"

Why = Literal["malformed", "too_long"]


class Rejected(Struct, frozen=True):
    """A line that can't be read: where it stands in its source, and why it can't."""

    offset: int
    length: int
    why: Why
    detail: str


class Decoded(Struct):
    """One block of whole lines. ``positions`` runs parallel to ``records``: the source offset of each one's line."""

    records: list[Record]
    positions: list[int]
    lines: int = 0
    rejected: list[Rejected] = []
    unknown: dict[str, int] = {}
    min_time_ns: int = 0
    max_time_ns: int = 0


DecodeLine = Callable[[bytes | memoryview, list[Record]], int]
_DIALECTS: dict[Dialect, DecodeLine] = {
    "ray_event": posted.decode_line,
    "export_api": export.decode_line,
    "log_event": log_event.decode_line,
}


def decode_block(block: bytes | memoryview, dialect: Dialect, offset: int = 0) -> Decoded:
    """Decode a block of lines that begins at ``offset`` of its source.

    Lines end in 0x0A and nothing else; blank ones are skipped; a last one without its end counts as a line.
    One line may give several records. ``min_time_ns`` and ``max_time_ns`` span the times of the events that
    carry one, 0 if none does.
    """
    decode = _DIALECTS[dialect]
    done = Decoded([], [])
    records, positions = done.records, done.positions
    low, high = 1 << 63, 0
    for line in bytes(block).split(b"\n"):
        start, offset = offset, offset + len(line) + 1
        if not line or line.isspace():
            continue
        done.lines += 1
        before = len(records)
        try:
            time_ns = decode(line, records) if len(line) <= MAX_LINE else _too_long(len(line))
        except Exception as exc:  # whatever it is: one line that we can't read must not stop its source for ever
            del records[before:]
            _note(done, start, len(line), exc)
            continue
        for _ in range(len(records) - before):
            positions.append(start)
        if time_ns:
            low, high = min(low, time_ns), max(high, time_ns)
    if high:
        done.min_time_ns, done.max_time_ns = low, high
    return done


class _TooLong(ValueError):
    pass


def _too_long(length: int) -> int:
    raise _TooLong(f"{length} bytes, the limit is {MAX_LINE}")


def _note(done: Decoded, offset: int, length: int, exc: Exception) -> None:
    if isinstance(exc, UnknownType):
        name = exc.name[:_MAX_NAME]
        if name not in done.unknown and len(done.unknown) >= _MAX_UNKNOWN:
            name = _OTHER
        done.unknown[name] = done.unknown.get(name, 0) + 1
    else:
        why: Why = "too_long" if isinstance(exc, _TooLong) else "malformed"
        done.rejected.append(Rejected(offset, length, why, describe(exc)))


def describe(exc: Exception) -> str:
    """What is wrong, in one bounded line."""
    text = "nested too deeply" if isinstance(exc, RecursionError) else str(exc) or type(exc).__name__
    return text.encode("utf-8", "backslashreplace").decode()[:_MAX_DETAIL].replace("\n", " ")

"""How far a stream of events has come, as text short enough for ``Last-Event-ID``. Pure.

A position says of each node which segment was told last as a whole, and of each source that was told beyond that
up to which line, and how many of that line's events. It counts nothing and names no server, so every server that
has the store (and the same pushes) can go on from it, after any restart.

    position ─▶ records (kind, code of a node or source, numbers) ─▶ base64, "head.tail"

Nodes and sources stand in it by the first bytes of a hash of their names. What many events share is the head; the tail
is the event's own. Of two records of one source the further one counts.

A replay (``since_ms``) tells a segment's events in the order of their times: there ``within`` says how many of a
node's next segment were told, and ``beside`` how many of the one after it, which is played at the same time.

Positions come back from clients: ``parse`` takes any text, bounded, and gives None for what isn't a position.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from hashlib import blake2b

from msgspec import Struct, field

NODE_BYTES, SOURCE_BYTES = 5, 6
MAX_TEXT = 6 << 10
"""Characters of a position: a header line that common proxies still let through."""
TOO_LONG = "!"
"""Begins a stream whose positions don't fit: whoever comes back with it is told that he missed something."""
_MAX_NUMBER = 1 << 63
_VERSION = b"\x01"
_NODE, _PLACE, _WITHIN, _SINCE, _END, _BESIDE = range(6)
_WIDTHS = (NODE_BYTES, SOURCE_BYTES, NODE_BYTES, 0, 0, NODE_BYTES)

Place = tuple[int, int]
"""The offset of a line, and how many of its events were told; all lines before it were told."""


class Position(Struct):
    """See the module. ``seqs``, ``within`` and ``beside`` by node code, ``places`` by source code."""

    seqs: dict[bytes, int] = field(default_factory=dict)
    places: dict[bytes, Place] = field(default_factory=dict)
    within: dict[bytes, int] = field(default_factory=dict)
    beside: dict[bytes, int] = field(default_factory=dict)
    since_ms: int | None = None

    def head(self) -> bytes:
        """All of it as records."""
        parts = [] if self.since_ms is None else [_record(_SINCE, b"", self.since_ms)]
        parts += [node_record(code, seq) for code, seq in self.seqs.items()]
        parts += [place_record(code, *place) for code, place in self.places.items()]
        parts += [self.within_records(code) for code in self.within.keys() | self.beside.keys()]
        return b"".join(parts)

    def within_records(self, code: bytes) -> bytes:
        """How many were told of a node's segments that are being played."""
        records = _record(_WITHIN, code, self.within.get(code, 0))
        return records + _record(_BESIDE, code, self.beside[code]) if code in self.beside else records


@lru_cache(maxsize=1 << 16)
def node_code(node: str) -> bytes:
    """What a node is called in a position."""
    return blake2b(node.encode(), digest_size=NODE_BYTES).digest()


@lru_cache(maxsize=1 << 16)
def source_code(node: str, source: str) -> bytes:
    """What a source is called in a position."""
    return blake2b(f"{node}/{source}".encode(), digest_size=SOURCE_BYTES).digest()


def node_record(code: bytes, seq: int) -> bytes:
    return _record(_NODE, code, seq)


def place_record(code: bytes, offset: int, told: int) -> bytes:
    return _record(_PLACE, code, offset, told)


def text_of(head: str, tail: bytes = b"", beyond: str = "") -> str | None:
    """A whole position: its head as text, the records of its tail, and what else is to count (as text).

    None where it is too long to be sent: whoever comes back then comes back to an earlier one.
    """
    text = f"{head}.{_encode(tail)}" if tail else head
    if beyond:
        text = f"{text}.{beyond}"
    return text if len(text) <= MAX_TEXT else None


def end_text(head: str) -> str:
    """The position at the end of a session that has ended: behind it nothing comes."""
    return text_of(head, _record(_END, b"", 0)) or TOO_LONG


def head_text(records: bytes) -> str:
    """The head as text."""
    return _encode(_VERSION + records)


def records_text(records: bytes) -> str:
    """Records as text, to be put behind a position."""
    return _encode(records)


def places_text(places: dict[bytes, Place]) -> str:
    """Places as text, to be put behind a position."""
    return _encode(b"".join(place_record(code, *place) for code, place in places.items()))


def parse(text: str) -> Position | None:
    """The position that a text stands for; None where it is none."""
    if len(text) > MAX_TEXT:
        return None
    position = Position()
    try:
        head, *others = [_decode(part) for part in text.split(".")]
        if not head.startswith(_VERSION):
            return None
        for records in (head[1:], *others):
            _read(records, position)
    except (ValueError, IndexError):
        return None
    return position


def split(text: str) -> tuple[str, dict[bytes, Place]] | None:
    """The head of a position as text, and the places of its tail; None where there is more to it, or less."""
    head, _, tail = text.partition(".")
    position = Position()
    try:
        _read(_decode(tail), position)
    except (ValueError, IndexError):
        return None
    return (head, position.places) if position == Position(places=position.places) else None


def _read(records: bytes, position: Position) -> None:
    at = 0
    while at < len(records):
        kind = records[at]
        width = _WIDTHS[kind]
        code = records[at + 1 : at + 1 + width]
        if len(code) < width:
            raise ValueError("cut off")
        number, at = _number(records, at + 1 + width)
        if kind == _NODE:
            position.seqs[code] = max(number, position.seqs.get(code, 0))
        elif kind == _WITHIN:
            position.within[code] = number
        elif kind == _BESIDE:
            position.beside[code] = number
        elif kind == _SINCE:
            position.since_ms = number
        elif kind == _PLACE:
            told, at = _number(records, at)
            position.places[code] = max((number, told), position.places.get(code, (0, 0)))


def _record(kind: int, code: bytes, *numbers: int) -> bytes:
    return bytes([kind]) + code + b"".join(map(_varint, numbers))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(records: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = records[at]
        number |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if number >= _MAX_NUMBER:
            raise ValueError("number out of range")
        if byte < 0x80:
            return number, at


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    raw = text.encode("ascii")
    return base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)

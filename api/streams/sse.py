"""Server-sent events as bytes: one frame an event. Pure.

id: {position}
event: {kind}
data: {one line of JSON}
"""

from __future__ import annotations

from collections.abc import Sequence

from api.streams.live_data import Event
from api.streams.positions import place_record, text_of

RETRY_MS = 2000
START = f"retry: {RETRY_MS}\n\n".encode()
EVERY_ID = 1024
"""Characters of a position up to which each event carries one; of longer ones only the last of a write does."""


def frame(kind: str, data: bytes, position: str | None = None) -> bytes:
    """One event. ``data`` is JSON as msgspec writes it, so it holds no line break."""
    named = b"" if position is None else b"id: %s\n" % position.encode()
    return b"%sevent: %s\ndata: %s\n\n" % (named, kind.encode(), data)


def heartbeat(position: str | None) -> bytes:
    """Nothing for a page; keeps the connection open, and whoever comes back comes back here."""
    return b":\n\n" if position is None else b":\nid: %s\n\n" % position.encode()


def frames(events: Sequence[Event], head: str, code: bytes, beyond: str = "") -> bytes:
    """Events of one source, each with the position after it. ``beyond`` is put behind every position."""
    every = len(head) + len(beyond) <= EVERY_ID
    last = len(events) - 1
    parts = []
    for number, event in enumerate(events):
        position = None
        if every or number == last:
            position = text_of(head, place_record(code, event.offset, event.nth + 1), beyond)
        parts.append(frame(event.kind, event.data, position))
    return b"".join(parts)

"""One posted body to the records in it: which session each belongs to, and which ones can't be taken.

A record stays the bytes that were posted, on one line. A bad record is a value, never an error: Ray
repeats a refused post for ever, so the post is taken and the bad record is kept aside. Pure.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from pipeline.decoding.decode import MAX_LINE, Why, describe
from pipeline.decoding.dialects import posted
from pipeline.decoding.dialects.wire import UnknownType
from pipeline.errors import BadKey
from pipeline.events import Record
from pipeline.layout import part

MAX_COMMAS = 4 << 20
"""Commas one body may hold. A real record is some thirty bytes a comma; a body of nothing but commas would
become an object in memory for every two of its bytes."""
SESSION_PREFIX = "session_"
MAX_SESSION = 200
"""Characters of a session's name: it becomes a folder's. Ray's have some forty."""


MAX_ID = 256
"""Characters of an event's id: many are held in memory. Ray's have forty."""


class PostRecord(Struct, frozen=True, gc=False):
    """A record to keep: ``line`` as it was posted, without a line end. ``event_id`` is ``""`` where it has none."""

    session: str
    event_id: str
    node_id: bytes
    line: bytes


class BadRecord(Struct, frozen=True, gc=False):
    """A record to keep aside. ``session`` is ``""`` where it doesn't say a usable one."""

    raw: bytes
    why: Why
    detail: str
    session: str = ""


class Post(Struct, frozen=True):
    """One body, taken apart."""

    records: list[PostRecord]
    bad: list[BadRecord]


_array = msgspec.json.Decoder(list[msgspec.Raw])
_value = msgspec.json.Decoder(msgspec.Raw)


def split_post(body: bytes) -> Post:
    """Take apart a JSON array of records (as Ray posts them), a single one, or one a line. Never raises."""
    if not body or body.isspace():
        return Post([], [])
    if body.count(b",") > MAX_COMMAS:
        return Post([], [BadRecord(body, "too_long", f"more than {MAX_COMMAS} values in one post")])
    try:
        return _sort(_elements(body))
    except (ValueError, RecursionError) as exc:
        return Post([], [BadRecord(body, "malformed", describe(exc))])


def _elements(body: bytes) -> list[bytes]:
    """The records' own bytes. Raises where the body as a whole is nothing that can be taken apart."""
    if body.lstrip()[:1] == b"[":
        return [bytes(raw) for raw in _array.decode(body)]
    try:
        return [bytes(_value.decode(body))]
    except (ValueError, RecursionError):
        lines = [line for line in body.split(b"\n") if line and not line.isspace()]
        if len(lines) < 2 or not any(map(_is_json, lines)):
            raise
        return lines


def _is_json(line: bytes) -> bool:
    try:
        _value.decode(line)
    except (ValueError, RecursionError):
        return False
    return True


def _sort(lines: list[bytes]) -> Post:
    post = Post([], [])
    for line in lines:
        record = _record(line)
        if isinstance(record, PostRecord):
            post.records.append(record)
        else:
            post.bad.append(record)
    return post


def _record(raw: bytes) -> PostRecord | BadRecord:
    if len(raw) > MAX_LINE:
        return BadRecord(raw, "too_long", f"{len(raw)} bytes, the limit is {MAX_LINE}")
    session = ""
    try:
        line = msgspec.json.format(raw, indent=-1) if b"\n" in raw else raw
        envelope = posted.envelope(line)
        session = _session(envelope.session_name)
        if len(envelope.event_id or "") > MAX_ID:
            raise ValueError(f"an event id of {len(envelope.event_id or '')} characters")
        _decodable(line)
    except (ValueError, RecursionError, BadKey) as exc:
        return BadRecord(raw, "malformed", describe(exc), session)
    return PostRecord(session, envelope.event_id or "", envelope.node_id or b"", line)


def _session(name: str | None) -> str:
    if name is None or not name.startswith(SESSION_PREFIX) or len(name) > MAX_SESSION:
        raise BadKey(f"not a session name: {(name or '')[:80]!r}")
    return part(name)


def _decodable(line: bytes) -> None:
    made: list[Record] = []
    try:
        posted.decode_line(line, made)
    except UnknownType:
        return  # a newer Ray's event: kept as it came

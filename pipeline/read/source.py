"""What a source is: which files are followed, how a file gets its id, and how a position is checked.

A source is one file of lines that only grows. Its id is what it contains, not where it lies: the folder,
the canonical name (without a rotation suffix) and a fingerprint of the first line, so a renamed file
keeps its id. A file that was truncated and begins again with the same first line gets the next
``.{generation}``. Spool files are ours and their names never come twice: their name is their id.

    events/event_GCS~1f0c2d3e4a5b6c7d         logs/events/event_GCS.log, and event_GCS.1.log after rotation
    export_events/event_EXPORT_TASK_17~….1    the same first line, begun again
    spool/01J….jsonl                          a spool file

A position (offset, checksum of the bytes before it) is only used on a file whose bytes match. Pure:
``tail.py`` does the reading.
"""

from __future__ import annotations

import re
import zlib
from hashlib import blake2b

from msgspec import Struct

from pipeline.segments.segment import Dialect

LINE_LIMIT = 8 << 20
"""Bytes of the longest line that is stored as a record, its newline included."""
TAIL = 256
"""Bytes before an offset that its checksum covers."""
FIRST = 64 << 10
"""Bytes of the first line that its fingerprint covers."""

_LOG = re.compile(r"([A-Za-z0-9][A-Za-z0-9_@=+~-]{0,199})(?:\.\d{1,6})?\.log(?:\.\d{1,6})?")
_EVENT = re.compile(r"(event_[A-Za-z0-9_@=+~-]{1,194})(?:\.\d{1,6})?\.log(?:\.\d{1,6})?")
_SPOOL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._@=+~-]{0,199}\.jsonl)")


class Folder(Struct, frozen=True):
    """A folder of sources: its name in ids, the dialect of its lines, and which names in it are followed."""

    name: str
    dialect: Dialect
    names: re.Pattern[str]
    by_content: bool = True

    def stem(self, filename: str) -> str | None:
        """The canonical name of a file, or None where it isn't followed."""
        found = self.names.fullmatch(filename)
        return found[1] if found else None


EXPORT_EVENTS = Folder("export_events", "export_api", _LOG)
EVENTS = Folder("events", "log_event", _EVENT)
SPOOL = Folder("spool", "ray_event", _SPOOL, by_content=False)


def tail_checksum(before: bytes) -> int:
    """Checksum of the last ``TAIL`` bytes before an offset, or of all where there are fewer."""
    return zlib.crc32(before[-TAIL:])


def first_line(head: bytes) -> bytes | None:
    """The first line of a file whose first bytes are ``head``, cut at ``FIRST``; None until it is all there."""
    end = head.find(b"\n", 0, FIRST) + 1 or FIRST
    return head[:end] if len(head) >= end else None


def fingerprint(first: bytes) -> str:
    """16 hex digits for a first line."""
    return blake2b(first, digest_size=8).hexdigest()


def source_id(folder: Folder, stem: str, first: bytes) -> str:
    """The id of the first source of that name and first line; ``generation`` makes the later ones' of it."""
    return f"{folder.name}/{stem}~{fingerprint(first)}"


def generation(base: str, number: int) -> str:
    return f"{base}.{number}" if number else base


def begins(source: str, first: bytes) -> bool:
    """Whether a file with this first line can be the source."""
    return family(source)[0].endswith(f"~{fingerprint(first)}")


def family(source: str) -> tuple[str, int]:
    """A source id without its generation, and the generation."""
    base, _, number = source.rpartition(".")
    if base and number.isdigit() and "~" in base:
        return base, int(number)
    return source, 0

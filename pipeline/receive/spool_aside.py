"""Bad posted records, kept aside on disk until they are in the store's quarantine.

    {data_dir}/quarantine/{session or _unknown}/{time_ns:020d}-{pid}.jsonl

One line a record: why it was refused, in words too, when it came, and what it was. A file is there whole
and durable or not at all, so whoever ships it may read it as soon as it is seen, and deletes it then.
Blocking and not thread-safe: ``spool`` calls it in a thread, under its lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

import msgspec
from msgspec import Struct

from pipeline.receive.post import BadRecord
from pipeline.receive.spool_files import folders, sizes, write_whole
from pipeline.receive.spool_session import Window

UNKNOWN = "_unknown"
FILE_BYTES = 8 << 20
"""Bytes of records in one file; a longer record is kept in parts, so that no file is hard to ship."""


class Kept(Struct, frozen=True):
    """A bad record and the file, relative to the data folder, that it was written to."""

    record: BadRecord
    file: str


class QuarantineLine(Struct, frozen=True):
    """A bad record, or the ``part``th part of one, as it stands in its file; what is no UTF-8 shows as U+FFFD."""

    why: str
    detail: str
    raw: str
    received_ns: int
    part: int = 0


class Aside:
    """``limit_bytes``: over it the oldest file goes, for a store that is away must not stop the good records."""

    def __init__(self, root: Path, limit_bytes: int, window: int) -> None:
        self._root, self._limit = root, limit_bytes
        self._seen = Window(window)
        self.files: dict[Path, int] = {}
        self.dropped = 0

    def scan(self) -> None:
        """See what is on disk: what was shipped has been deleted."""
        self.files = {folder / name: size for folder in folders(self._root) for name, size in sizes(folder).items()}

    def write(self, bad: list[BadRecord], stamp: Callable[[], int]) -> list[Kept]:
        """Keep those that weren't kept lately: a post may come again. ``stamp`` is unique. Raises ``OSError``."""
        marks = {blake2b(one.raw, digest_size=16).hexdigest(): one for one in bad}
        new = {mark: one for mark, one in marks.items() if mark not in self._seen}
        kept: list[Kept] = []
        for (session, _), group in groupby(_numbered(new.values()), key=lambda each: each[:2]):
            kept += self._file(self._root / (session or UNKNOWN), [each[2:] for each in group], stamp())
        self._seen.add(list(new))
        return kept

    def _file(self, folder: Path, parts: list[tuple[BadRecord, int]], stamp: int) -> list[Kept]:
        path = folder / f"{stamp:020d}-{os.getpid()}.jsonl"
        data = b"".join(msgspec.json.encode(_line(bad, part, stamp)) + b"\n" for bad, part in parts)
        self._trim(len(data))
        write_whole(path, data)
        self.files[path] = len(data)
        return [Kept(bad, str(path.relative_to(self._root.parent))) for bad, part in parts if part == 0]

    def _trim(self, need: int) -> None:
        while self.files and sum(self.files.values()) + need > self._limit:
            oldest = min(self.files, key=lambda path: path.name)
            del self.files[oldest]
            with suppress(FileNotFoundError):
                oldest.unlink()
                self.dropped += 1


def _numbered(bad: Iterable[BadRecord]) -> Iterator[tuple[str, int, BadRecord, int]]:
    """Session, number of the file in this session, record, part: in that order."""
    for session, group in groupby(sorted(bad, key=lambda one: one.session), key=lambda one: one.session):
        file = size = 0
        for one in group:
            for part in range(-(-len(one.raw) // FILE_BYTES) or 1):
                length = min(len(one.raw) - part * FILE_BYTES, FILE_BYTES)
                if size + length > FILE_BYTES:
                    file, size = file + 1, 0
                size += length
                yield session, file, one, part


def _line(bad: BadRecord, part: int, stamp: int) -> QuarantineLine:
    raw = bad.raw[part * FILE_BYTES : (part + 1) * FILE_BYTES]
    return QuarantineLine(bad.why, bad.detail, raw.decode(errors="replace"), stamp, part)

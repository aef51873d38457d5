"""Bad posted records, kept aside on disk until they are in the store's quarantine.

    {data_dir}/quarantine/{session or _unknown}/{time_ns:020d}-{pid}.jsonl

One line a record: why it was refused, in words too, when it came, and what it was. A file is there whole
and durable or not at all, so whoever ships it may read it as soon as it is seen, and deletes it then.
Blocking and not thread-safe: ``spool`` calls it in a thread, under its lock.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec import Struct

from pipeline.post import BadRecord
from pipeline.spool_files import folders, sizes, write_whole
from pipeline.spool_session import Window

UNKNOWN = "_unknown"


class Kept(Struct, frozen=True):
    """A bad record and the file, relative to the data folder, that it was written to."""

    record: BadRecord
    file: str


class QuarantineLine(Struct, frozen=True):
    """A bad record as it stands in its file; bytes that are no UTF-8 show as U+FFFD."""

    why: str
    detail: str
    raw: str
    received_ns: int


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

    def write(self, bad: list[BadRecord], stamp: int) -> list[Kept]:
        """Keep those that weren't kept lately: a post may come again. Raises ``OSError``."""
        marks = {blake2b(one.raw, digest_size=16).hexdigest(): one for one in bad}
        new = {mark: one for mark, one in marks.items() if mark not in self._seen}
        kept: list[Kept] = []
        for session in {one.session: None for one in new.values()}:
            records = [one for one in new.values() if one.session == session]
            file = self._file(self._root / (session or UNKNOWN), records, stamp)
            kept += [Kept(one, file) for one in records]
        self._seen.add(list(new))
        return kept

    def _file(self, folder: Path, records: list[BadRecord], stamp: int) -> str:
        path = folder / f"{stamp:020d}-{os.getpid()}.jsonl"
        lines = [QuarantineLine(one.why, one.detail, one.raw.decode(errors="replace"), stamp) for one in records]
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        self._trim(len(data))
        write_whole(path, data)
        self.files[path] = len(data)
        return str(path.relative_to(self._root.parent))

    def _trim(self, need: int) -> None:
        while self.files and sum(self.files.values()) + need > self._limit:
            oldest = min(self.files, key=lambda path: path.name)
            del self.files[oldest]
            with suppress(FileNotFoundError):
                oldest.unlink()
                self.dropped += 1

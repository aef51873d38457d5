"""The folder of a node's logs on disk: which files there are, and their bytes. Blocking; run it in a thread.

Only regular files in real folders below the root are seen: links, pipes, sockets and devices never, since
whoever runs a task can write here. Bounded in depth and in the number of files.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from msgspec import Struct

from pipeline.files import folder, regular
from pipeline.logs.logfiles import RecordEntry, encode_path
from pipeline.read.source import EVENTS, EXPORT_EVENTS, FIRST, Folder, first_line, source_id

MAX_DEPTH = 32

_RECORDS: dict[str, Folder] = {each.name: each for each in (EVENTS, EXPORT_EVENTS)}


class Found(Struct, frozen=True):
    """A file on disk: its parts below the root, its encoded path, and what ``stat`` says."""

    parts: tuple[str, ...]
    name: str
    device: int
    inode: int
    size: int
    mtime_ns: int


class Scan(Struct):
    """What stands below the root, and when that was looked at; ``truncated`` if there was more than may be."""

    at_ns: int = 0
    files: dict[str, Found] = {}
    folders: list[str] = []
    records: list[Found] = []
    truncated: bool = False


class LogFolder(Struct, frozen=True):
    """A node's logs: ``root/below…``. Only ``root`` may be a link."""

    root: Path
    below: tuple[str, ...]
    path_limit: int = 700
    """Characters of the longest encoded path."""

    def __str__(self) -> str:
        return str(self.root.joinpath(*self.below))

    def scan(self, limit: int) -> Scan | None:
        """Look at everything in it; None where it isn't there."""
        found = Scan(time.time_ns(), {}, [], [])
        with folder(self.root, *self.below) as fd:
            if fd is None:
                return None
            _Walk(found, limit, self.path_limit).folder(fd, ())
        return found

    def read(self, file: Found, *ranges: tuple[int, int]) -> list[bytes] | None:
        """The bytes ``[start, end)`` of each range, fewer where the file ends; None if it isn't that file any more."""
        with folder(self.root, *self.below, *file.parts[:-1]) as dir_fd:
            if dir_fd is None:
                return None
            with regular(file.parts[-1], dir_fd=dir_fd) as fd:
                if fd is None:
                    return None
                info = os.fstat(fd)
                if (info.st_dev, info.st_ino) != (file.device, file.inode):
                    return None
                try:
                    return [_pread(fd, start, end) for start, end in ranges]
                except OSError:
                    return None

    def record_entry(self, file: Found) -> RecordEntry:
        """A file of records with the source that its lines have in segments; without one until its first line is there."""
        head = self.read(file, (0, FIRST))
        first = first_line(head[0]) if head else None
        place = _RECORDS[file.parts[0]]
        stem = place.stem(file.parts[-1])
        return RecordEntry(file.name, source_id(place, stem, first) if first and stem else "", file.size)


class _Walk:
    """One scan under way."""

    def __init__(self, found: Scan, limit: int, path_limit: int) -> None:
        self._found = found
        self._limit = limit
        self._path_limit = path_limit

    def folder(self, fd: int, above: tuple[str, ...]) -> None:
        try:
            with os.scandir(fd) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            return
        for entry in listed:
            if len(self._found.files) + len(self._found.folders) + len(self._found.records) >= self._limit:
                self._found.truncated = True
                return
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            parts = (*above, entry.name)
            if stat.S_ISDIR(info.st_mode):
                self._found.folders.append(encode_path(parts, self._path_limit))
                if len(parts) < MAX_DEPTH:
                    self._enter(fd, parts)
            elif stat.S_ISREG(info.st_mode):
                self._file(parts, info)

    def _enter(self, fd: int, parts: tuple[str, ...]) -> None:
        try:
            deeper = os.open(parts[-1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        except OSError:
            return
        try:
            self.folder(deeper, parts)
        finally:
            os.close(deeper)

    def _file(self, parts: tuple[str, ...], info: os.stat_result) -> None:
        name = encode_path(parts, self._path_limit)
        file = Found(parts, name, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)
        records = _RECORDS.get(parts[0]) if len(parts) == 2 else None
        if records is not None and records.stem(parts[1]) is not None:
            self._found.records.append(file)
        else:
            self._found.files[name] = file


def _pread(fd: int, start: int, end: int) -> bytes:
    parts = []
    while start < end:
        piece = os.pread(fd, end - start, start)
        if not piece:
            break
        parts.append(piece)
        start += len(piece)
    return b"".join(parts)

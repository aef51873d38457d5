"""The spool's files: one that is being appended to, and what earlier ones hold.

A ``SpoolFile`` promises that what ``append`` returned from is durable, and that after an error the file
holds whole lines only, each of them durable, and is never appended to again. Blocking: runs in a thread.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path

import msgspec

from pipeline.decoding.dialects import posted

REMEMBERED = "ids.json"
"""Beside a session's files: the ids of those that were deleted."""


class CutOff(Exception):
    """An append failed: its first ``lines`` are durable, the rest is not there."""

    def __init__(self, lines: int, cause: OSError) -> None:
        super().__init__(cause.strerror or str(cause))
        self.lines = lines


class SpoolFile:
    """A new file; raises ``FileExistsError`` rather than append to one that is there."""

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self.path = path
        self.size = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            sync_folder(path.parent)
        except OSError:
            self.close()
            raise

    def append(self, data: bytes) -> None:
        """Write whole lines and return when they are durable. Raises ``CutOff``; the file is closed then."""
        written = 0
        try:
            with memoryview(data) as view:
                while written < len(view):
                    written += os.write(self._fd, view[written:])
        except OSError as exc:
            raise self._cut_off(data[: data.rfind(b"\n", 0, written) + 1], exc) from exc
        try:
            os.fsync(self._fd)
        except OSError as exc:  # what a failed fsync has written is unknown, and asking again says nothing
            raise self._cut_off(b"", exc) from exc
        self.size += len(data)

    def _cut_off(self, kept: bytes, cause: OSError) -> CutOff:
        """Drop what is torn or not durable, and give the file up.

        Whole lines are kept where they can be: whoever follows the file may have read them already.
        """
        try:
            os.ftruncate(self._fd, self.size + len(kept))
            if kept:
                os.fsync(self._fd)
        except OSError:
            kept = b""
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
        self.size += len(kept)
        self.close()
        return CutOff(kept.count(b"\n"), cause)

    def close(self) -> None:
        """Give the file up; one that holds nothing is removed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if not self.size:
                with suppress(OSError):
                    self.path.unlink()


def write_whole(path: Path, data: bytes) -> None:
    """A file that is there whole and durable, or not at all. Raises ``OSError``."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def make_folder(folder: Path) -> None:
    """A durable folder, its parents too."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def folders(root: Path) -> list[Path]:
    """What stands below ``root``; nothing where there is no root."""
    try:
        return [Path(entry.path) for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def sizes(folder: Path) -> dict[str, int]:
    """The spool files of a folder, oldest first, and their bytes. Half-written temporary ones are removed."""
    found: dict[str, int] = {}
    with suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if entry.name.endswith(".tmp"):
                os.unlink(entry.path)
            elif entry.name.endswith(".jsonl") and entry.is_file(follow_symlinks=False):
                found[entry.name] = entry.stat(follow_symlinks=False).st_size
    return dict(sorted(found.items()))


def recent_ids(folder: Path, names: list[str], limit: int) -> list[str]:
    """The event ids of the last ``limit`` whole lines of ``names`` (oldest first) and of files deleted before, oldest first.

    The lines are durable when this returns: an earlier process may have been killed before it had said so
    to anybody, and whoever posts them again is about to be told that we have them.
    """
    ids: deque[str] = deque()
    for name in reversed(names):
        if len(ids) < limit:
            ids.extendleft(reversed(_ids(folder / name, limit - len(ids))))
    return [*_remembered(folder)[: limit - len(ids)], *ids]


def remember_ids(folder: Path, ids: list[str]) -> int:
    """Keep ids beyond the files that they are in; the bytes it takes. Raises ``OSError``."""
    data = msgspec.json.encode(ids)
    write_whole(folder / REMEMBERED, data)
    return len(data)


def _remembered(folder: Path) -> list[str]:
    try:
        return msgspec.json.decode((folder / REMEMBERED).read_bytes(), type=list[str])
    except (FileNotFoundError, ValueError, RecursionError):
        return []


def remembered_bytes(folder: Path) -> int:
    try:
        return (folder / REMEMBERED).stat().st_size
    except FileNotFoundError:
        return 0


def _ids(path: Path, limit: int) -> deque[str]:
    ids: deque[str] = deque(maxlen=limit)
    with suppress(FileNotFoundError), path.open("rb") as file:
        os.fsync(file.fileno())
        for line in file:
            if line.endswith(b"\n"):
                with suppress(ValueError, RecursionError):
                    ids.append(posted.envelope(line).event_id or "")
    return ids

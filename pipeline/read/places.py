"""Folders on this machine that hold sources, and which files stand in them now."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from pipeline.files import Inode
from pipeline.read.source import Folder


class Place(Struct, frozen=True):
    """A folder on this machine: ``root/below…``; only ``root`` may be a link.

    ``readable`` says how much of a file may be read, where that is less than there is (None: nothing).
    """

    folder: Folder
    root: Path
    below: tuple[str, ...]
    readable: Callable[[str], int | None] | None = None

    @property
    def path(self) -> Path:
        return self.root.joinpath(*self.below)

    def limit(self, name: str, size: int) -> int:
        """How much of a file of ``size`` bytes may be read."""
        return size if self.readable is None else min(size, self.readable(name) or 0)


def denied(places: list[Place]) -> list[str]:
    """The folders on the way to these places that are there but can't be looked into by this user. Blocking."""
    found = set()
    for place in places:
        for depth in range(len(place.below) + 1):
            path = place.root.joinpath(*place.below[:depth])
            if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
                found.add(str(path))
                break
    return sorted(found)


class Entry(Struct, frozen=True):
    """A file as a look at its folder shows it. ``size`` is what may be read of it."""

    name: str
    stem: str
    size: int
    mtime_ns: int


def entries(place: Place, dir_fd: int) -> dict[Inode, Entry]:
    """The followed files of a folder; links, pipes and other names are none."""
    found: dict[Inode, Entry] = {}
    with contextlib.suppress(OSError), os.scandir(dir_fd) as there:
        for each in there:
            stem = place.folder.stem(each.name)
            if stem is None:
                continue
            with contextlib.suppress(OSError):
                is_ = each.stat(follow_symlinks=False)
                if stat.S_ISREG(is_.st_mode):
                    size = place.limit(each.name, is_.st_size)
                    found[is_.st_dev, is_.st_ino] = Entry(each.name, stem, size, is_.st_mtime_ns)
    return found

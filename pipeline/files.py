"""Opening files that others wrote: only real files in real folders, never through a link, never blocking on a pipe.

Anybody who runs a Ray task can write into Ray's session folder, so a link in it may point anywhere.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

Inode = tuple[int, int]
"""Device and number."""


@contextlib.contextmanager
def folder(root: Path, *below: str) -> Iterator[int | None]:
    """A descriptor of ``root/below…``, or None where it isn't there. Links below ``root`` are not followed."""
    fd: int | None = None
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in below:
            deeper = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = deeper
    except OSError:
        if fd is not None:
            os.close(fd)
        fd = None
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


@contextlib.contextmanager
def regular(name: str | Path, *, dir_fd: int | None = None) -> Iterator[int | None]:
    """A descriptor to read a regular file, or None where there is none (gone, a link, a pipe, not ours to read)."""
    fd: int | None = None
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
        usable = stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        usable = False
    try:
        yield fd if usable else None
    finally:
        if fd is not None:
            os.close(fd)


@contextlib.contextmanager
def same(name: str, inode: Inode, dir_fd: int | None) -> Iterator[int | None]:
    """A descriptor of the file of that name if it still is that inode."""
    if dir_fd is None:
        yield None
        return
    with regular(name, dir_fd=dir_fd) as fd:
        yield fd if fd is not None and inode_of(os.fstat(fd)) == inode else None


def inode_of(is_: os.stat_result) -> Inode:
    return is_.st_dev, is_.st_ino


def size_of(fd: int) -> int:
    return os.fstat(fd).st_size


def pread(fd: int, size: int, offset: int) -> bytes:
    """Up to ``size`` bytes; a disk error reads like the end of the file, and is tried again with the next scan."""
    try:
        return os.pread(fd, size, offset)
    except OSError:
        return b""

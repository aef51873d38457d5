"""Reads what is new in one session's sources: scan, recognise, check, read whole lines. Blocking; run it in a thread.

Promises: a position only ever moves over whole lines, of a file whose bytes before the position are
those that were read (``source.py``), so what comes out of a source is one unbroken sequence, whatever is
renamed, copied, truncated or deleted. Memory is bounded by the budget of a call plus one line of at most
``LINE_LIMIT``. What can't be had:

* bytes that were truncated or deleted before they were read: said as a ``Gap`` where they had been seen;
* a file whose whole content so far is also the beginning of another file of the same name is taken for a
  copy of it (``copytruncate``) and waits until it differs.

``read`` moves the positions in memory only. Whoever takes the items owns them: after a failure, make
a new ``Tailer`` from the committed cursor.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from pipeline.files import Inode, folder, pread, same, size_of
from pipeline.read.places import Entry, Place, entries
from pipeline.read.source import (
    FIRST,
    LINE_LIMIT,
    TAIL,
    begins,
    family,
    first_line,
    generation,
    source_id,
    tail_checksum,
)
from pipeline.segments.batch import Gap
from pipeline.segments.cursor import START, Position
from pipeline.segments.segment import Dialect

CHUNK = 1 << 20
SEARCH = 64 << 20
MAX_FILES = 20_000
_COMPARE = 4096
_SETTLED_NS = 2_000_000_000  # a file changed more recently than this may change again without a new mtime


class Lines(Struct, frozen=True):
    """Whole lines, ``[start, end)`` of a source."""

    source: str
    dialect: Dialect
    start: int
    end: int
    data: bytes
    tail: int


class Long(Struct, frozen=True):
    """A line too long to be a record; its bytes stay in the file, see ``Tailer.slice``."""

    source: str
    dialect: Dialect
    start: int
    end: int
    tail: int


class Round(Struct, frozen=True):
    """What a call found, in the order of each source; ``more`` if its budget ended before the files did."""

    items: list[Lines | Long | Gap]
    more: bool


class _File(Struct):
    """A file on disk, held to be a source."""

    source: str
    place: Place
    name: str
    stem: str
    first: int
    size: int
    mtime_ns: int
    checked_ns: int = 0
    drained: int = -1
    searched: int = 0


class Tailer:
    """All sources of one session. ``positions`` is where reading begins; not safe for two threads at once."""

    def __init__(
        self, places: list[Place], positions: Mapping[str, Position], *, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.places = places
        self.positions = dict(positions)
        self._now_ns = now_ns
        self._files: dict[Inode, _File] = {}
        self._generations: dict[str, int] = {}
        self._searching = False
        self.look_seconds = 0.0
        for source in positions:
            base, number = family(source)
            self._generations[base] = max(self._generations.get(base, 0), number + 1)

    def read(self, budget: int) -> Round:
        """Look at every folder, then read about ``budget`` bytes of what is new, a chunk of each file in turn."""
        items: list[Lines | Long | Gap] = []
        with contextlib.ExitStack() as stack:
            began = time.monotonic()
            folders = {place: stack.enter_context(folder(place.root, *place.below)) for place in self.places}
            items.extend(self._look(folders))
            self.look_seconds = time.monotonic() - began
            self._searching = False
            ready = deque(inode for inode, file in self._files.items() if self._unread(file))
            while ready and budget > 0:
                inode = ready.popleft()
                file = self._files[inode] = self._files.pop(inode)  # the last to have another turn
                item = self._read_one(folders[file.place], inode, file)
                if item is not None:
                    items.append(item)
                    budget -= item.end - item.start if isinstance(item, Lines) else 0
                    if self._unread(file):
                        ready.append(inode)
            return Round(items, more=bool(ready) or self._searching)

    def slice(self, source: str, start: int, end: int) -> bytes:
        """Bytes of a source's file as it lies there now; fewer, or none, where it is gone."""
        for inode, file in self._files.items():
            if file.source == source:
                with folder(file.place.root, *file.place.below) as dir_fd, same(file.name, inode, dir_fd) as fd:
                    return b"" if fd is None else pread(fd, end - start, start)
        return b""

    def drained(self, source: str) -> bool:
        """Whether a source's file is there and has no whole line left to read, as far as was seen."""
        return any(file.source == source and not self._unread(file) for file in self._files.values())

    def unread(self) -> int:
        """Bytes that were seen and not read yet."""
        return sum(file.size - self.positions[file.source].end for file in self._files.values() if self._unread(file))

    def sizes(self) -> dict[str, int]:
        """The size of each source that was found, as last seen."""
        return {file.source: file.size for file in self._files.values()}

    # recognising files

    def _look(self, folders: Mapping[Place, int | None]) -> Iterator[Gap]:
        for place, dir_fd in folders.items():
            there = {} if dir_fd is None else entries(place, dir_fd)
            lost: dict[str, Gap] = {}
            for inode, file in [(inode, file) for inode, file in self._files.items() if file.place == place]:
                entry = there.get(inode)
                if entry is not None and self._still(dir_fd, inode, file, entry):
                    file.name, file.size, file.mtime_ns = entry.name, entry.size, entry.mtime_ns
                    continue
                del self._files[inode]
                if self._unread(file):
                    why = "deleted" if entry is None else "truncated"
                    lost[file.source] = Gap(file.source, self.positions[file.source].end, file.size, why)
            found = [(inode, entry) for inode, entry in there.items() if inode not in self._files]
            for inode, entry in sorted(found, key=lambda each: (-each[1].size, each[1].name)):
                if dir_fd is not None and len(self._files) < MAX_FILES:
                    source = self._recognise(place, dir_fd, inode, entry)
                    lost.pop(source or "", None)
            yield from lost.values()

    def _still(self, dir_fd: int | None, inode: Inode, file: _File, entry: Entry) -> bool:
        """Whether the file is what it was: the same name, and the same bytes up to where it was read."""
        if entry.stem != file.stem:
            return False
        if not file.place.folder.by_content:
            return True
        unchanged = (entry.size, entry.mtime_ns) == (file.size, file.mtime_ns)
        if unchanged and file.checked_ns - file.mtime_ns > _SETTLED_NS:
            return True
        file.checked_ns = self._now_ns()
        with same(entry.name, inode, dir_fd) as fd:
            return fd is not None and begins(file.source, pread(fd, file.first, 0)) and self._matches(fd, file.source)

    def _matches(self, fd: int, source: str) -> bool:
        position = self.positions[source]
        before = _before(fd, position.end)
        return len(before) == min(TAIL, position.end) and tail_checksum(before) == position.tail

    def _recognise(self, place: Place, dir_fd: int, inode: Inode, entry: Entry) -> str | None:
        """Find or make the source that a file is; None while that can't be told."""
        if not place.folder.by_content:
            source = f"{place.folder.name}/{entry.name}"
            self.positions.setdefault(source, START)
            return self._bind(source, place, inode, entry, 0)
        with same(entry.name, inode, dir_fd) as fd:
            first = None if fd is None else first_line(pread(fd, FIRST, 0))
            if fd is None or first is None:
                return None
            base = source_id(place.folder, entry.stem, first)
            holders = {file.source: (other, file) for other, file in self._files.items()}
            family_ = [generation(base, number) for number in range(self._generations.get(base, 0))]
            free = [s for s in family_ if s in self.positions and s not in holders and self._matches(fd, s)]
            if free:
                return self._bind(max(free, key=lambda s: self.positions[s].end), place, inode, entry, len(first))
            for source in family_:
                if source in holders and _same_beginning(dir_fd, fd, *holders[source]):
                    other, holder = holders[source]
                    if size_of(fd) <= holder.size or not self._matches(fd, source):
                        return None
                    del self._files[other]
                    return self._bind(source, place, inode, entry, len(first))
        source = generation(base, self._generations.get(base, 0))
        self._generations[base] = self._generations.get(base, 0) + 1
        self.positions[source] = START
        return self._bind(source, place, inode, entry, len(first))

    def _bind(self, source: str, place: Place, inode: Inode, entry: Entry, first: int) -> str:
        file = _File(source, place, entry.name, entry.stem, first, entry.size, entry.mtime_ns, self._now_ns())
        self._files[inode] = file
        return source

    # reading

    def _unread(self, file: _File) -> bool:
        return file.size > max(self.positions[file.source].end, file.drained)

    def _read_one(self, dir_fd: int | None, inode: Inode, file: _File) -> Lines | Long | None:
        with same(file.name, inode, dir_fd) as fd:
            if fd is None:
                return None
            file.size = max(file.size, file.place.limit(file.name, size_of(fd)))
            position = self.positions[file.source]
            block = self._block(fd, file, position, CHUNK)
            if b"\n" not in block and len(block) >= CHUNK:
                block = self._block(fd, file, position, LINE_LIMIT)
            end = block.rfind(b"\n") + 1
            if not end and len(block) >= LINE_LIMIT:
                return self._long(fd, file, position)
            if not end:
                file.drained = position.end + len(block)
                return None
            data = block if end == len(block) else block[:end]
            tail = tail_checksum(data if end >= TAIL else _before(fd, position.end) + data)
            self.positions[file.source] = Position(position.end + end, tail)
            return Lines(file.source, file.place.folder.dialect, position.end, position.end + end, data, tail)

    def _block(self, fd: int, file: _File, position: Position, size: int) -> bytes:
        """Bytes after the position, read together with those before it, which must be the ones that were read."""
        back = min(TAIL, position.end)
        block = pread(fd, back + min(size, file.size - position.end), position.end - back)
        if not file.place.folder.by_content:
            return block[back:]
        if position.end:
            good = tail_checksum(block[:back]) == position.tail
        else:
            good = begins(file.source, pread(fd, file.first, 0))
        return block[back:] if good else b""

    def _long(self, fd: int, file: _File, position: Position) -> Long | None:
        """Find the end of a line that is too long, without holding it."""
        at = max(position.end + LINE_LIMIT, file.searched)
        limit = at + SEARCH
        while at < limit and (block := pread(fd, CHUNK, at)):
            newline = block.find(b"\n")
            if newline >= 0:
                end = at + newline + 1
                tail = tail_checksum(_before(fd, end))
                self.positions[file.source] = Position(end, tail)
                return Long(file.source, file.place.folder.dialect, position.end, end, tail)
            at += len(block)
            file.searched = at
        if at < limit:
            file.drained = at
        else:
            self._searching = True
        return None


def _same_beginning(dir_fd: int, fd: int, inode: Inode, holder: _File) -> bool:
    """Whether one file is, as far as both go, the same as the other."""
    with same(holder.name, inode, dir_fd) as other:
        if other is None:
            return False
        both = min(size_of(fd), size_of(other))
        start = max(0, both - _COMPARE)
        return pread(fd, both - start, start) == pread(other, both - start, start)


def _before(fd: int, offset: int) -> bytes:
    """The bytes before an offset that its checksum covers."""
    back = min(TAIL, offset)
    return pread(fd, back, offset - back)

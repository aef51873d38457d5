"""One log file in the store, read in ranges and from its end: only the pieces that are needed.

A file is a row of pieces: chunks of a plain log, or the parts of segments that hold a file of records. What a
listing says of them (offset, object, its size) is all that is read to know where a byte stands; the length
of the last piece is known once it, or the beginning of it, was read.

Bounded: a window of pieces (``WINDOW`` bytes of content) is in memory at once, whatever the file's size. What
is missing or damaged is said in its place, and the rest is read.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from typing import Generic, TypeVar

import anyio
import numpy as np
import structlog
from anyio import to_thread
from msgspec import Struct

from api.groups import first_error
from pipeline.errors import FormatError, NotFound
from pipeline.layout import SessionKey
from pipeline.logs.logfiles import FRAME_HEADER, MAX_CHUNK, BadLog, chunk_length, unpack_chunk
from pipeline.push.pushed import LogId
from pipeline.segments.segment import unpack
from pipeline.stores.store import ObjectStore

WINDOW = 16 << 20
"""Bytes of content that one reader fetches ahead of what it has passed on."""
AT_ONCE = 8
CHUNK_GUESS = 4 << 20
MAX_SEGMENT = 256 << 20
MARK_REACH = 1 << 20
MARK_LINE = 4096
_IN_THREAD = 256 << 10
_NEWLINE = 10

_MARK = re.compile(rb"(?:\A|(?<=\n)):(?:task_name|actor_name|job_id):[^\n]*\n")

T = TypeVar("T")
log = structlog.get_logger()


class SizedCache(Generic[T]):
    """What was used last, as far as it fits into ``limit`` (of whatever ``size`` counts)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: T, size: int) -> None:
        self.drop(key)
        if size > self.limit:
            return
        self._kept[key] = value, size
        self.size += size
        while self.size > self.limit:
            _, (_, gone) = self._kept.popitem(last=False)
            self.size -= gone

    def drop(self, key: Hashable) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self.size -= found[1]


class Piece(Struct, frozen=True):
    """Bytes of a file from ``start`` on (to ``end``, where that is known): a chunk, or in a segment's body from ``body`` on."""

    start: int
    end: int | None
    key: str
    stored: int
    body: int | None = None


class LogPlace(Struct, frozen=True):
    """A log, and the (encoded) name on its node that it was found under."""

    session: SessionKey
    node: str
    name: str
    log: LogId


class LogFile:
    """A file as it was when it was opened. Pieces are in order of their start. ``place`` is None of a file of records."""

    def __init__(
        self, store: ObjectStore, cache: SizedCache[bytes], pieces: list[Piece], place: LogPlace | None = None
    ) -> None:
        self.place = place
        self._store = store
        self._cache = cache
        self._pieces = pieces
        self._starts = [piece.start for piece in pieces]
        self._size: int | None = None

    @property
    def stored(self) -> bool:
        """Whether there is anything of it."""
        return bool(self._pieces)

    async def size(self) -> int:
        """Where the file ends."""
        if self._size is None:
            last = self._pieces[-1] if self._pieces else None
            if last is None:
                self._size = 0
            elif last.end is not None:
                self._size = last.end
            else:
                self._size = last.start + await self._length(last)
        return self._size

    async def read(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from ``start`` to ``end`` (the file's own without one), piece by piece. Raises ``StoreError``."""
        at = max(0, start)
        size = await self.size()
        end = size if end is None else min(end, size)
        number = max(0, bisect_right(self._starts, at) - 1)
        while at < end and number < len(self._pieces):
            window = self._window(number, end)
            for piece, content in zip(window, await self._contents(window), strict=True):
                number += 1
                if content is None:
                    continue
                if piece.start > at:
                    yield _missing(min(piece.start, end) - at)
                    at = piece.start
                part = content[at - piece.start : end - piece.start] if at < end else b""
                if part:
                    yield part
                    at += len(part)
        if at < end:
            yield _missing(end - at)

    async def tail_start(self, lines: int, end: int) -> int:
        """Where the last ``lines`` lines before ``end`` begin, counted as ``tail`` does: a last one without end counts."""
        if lines < 0:
            return end
        if lines >= end:
            return 0
        left: int | None = None
        number, width = bisect_right(self._starts, end - 1), 1
        while number > 0:
            first = max(0, number - width)
            window = self._pieces[first:number]
            for piece, content in zip(reversed(window), reversed(await self._contents(window)), strict=True):
                text = (content or b"")[: max(0, end - piece.start)]
                if left is None and text:
                    left = lines if text.endswith(b"\n") else lines - 1
                found = text.count(b"\n")
                if left is not None and found > left:
                    return piece.start + _after(text, found - left)
                left = None if left is None else left - found
            number, width = first, self._wider(first, width)
        return 0

    async def mark_before(self, end: int) -> int:
        """Where the last part before ``end`` begins: behind the line with which a worker begins a task."""
        reach = end
        while reach > 0:
            start = max(0, reach - MARK_REACH)
            text = b"".join([piece async for piece in self.read(start, min(end, reach + MARK_LINE))])
            marks = list(_MARK.finditer(text, 0 if not start else 1))
            if marks:
                return start + marks[-1].end()
            reach = start
        return 0

    def _wider(self, before: int, width: int) -> int:
        """How many pieces to read next: twice as many each time, as far as they fit into a window."""
        wanted, size = 0, 0
        for number in range(before - 1, max(-1, before - 1 - 2 * width), -1):
            size += self._guess(number)
            if wanted and (size > WINDOW or wanted >= AT_ONCE * 4):
                break
            wanted += 1
        return max(1, wanted)

    def _window(self, number: int, end: int) -> list[Piece]:
        """The pieces to fetch next for reading up to ``end``."""
        size, last = 0, number
        while last < len(self._pieces) and self._starts[last] < end:
            size += self._guess(last)
            if last > number and (size > WINDOW or last - number >= AT_ONCE * 4):
                break
            last += 1
        return self._pieces[number : max(last, number + 1)]

    def _guess(self, number: int) -> int:
        piece = self._pieces[number]
        if piece.end is not None:
            return piece.end - piece.start
        return self._starts[number + 1] - piece.start if number + 1 < len(self._pieces) else CHUNK_GUESS

    async def _contents(self, window: list[Piece]) -> list[bytes | None]:
        """The content of each piece; None of one that is gone or damaged."""
        contents: dict[int, bytes | None] = {}
        waiting = iter(enumerate(window))

        async def work() -> None:
            for number, piece in waiting:
                contents[number] = await self._content(piece)

        with first_error():
            async with anyio.create_task_group() as tasks:
                for _ in range(min(AT_ONCE, len(window))):
                    tasks.start_soon(work)
        return [contents[number] for number in range(len(window))]

    async def _content(self, piece: Piece) -> bytes | None:
        known = self._cache.get((piece.key, piece.body))
        if known is not None:
            return known
        try:
            content = await self._fetch(piece)
        except (FormatError, NotFound) as exc:
            log.warning("part of a log can't be read", key=piece.key, reason=str(exc))
            return None
        self._cache.put((piece.key, piece.body), content, len(content))
        return content

    async def _fetch(self, piece: Piece) -> bytes:
        if piece.body is None:
            if piece.stored > MAX_CHUNK:
                raise BadLog(f"a chunk of {piece.stored} bytes")
            data = await self._store.get(piece.key, end=MAX_CHUNK)
            return await to_thread.run_sync(unpack_chunk, data) if len(data) > _IN_THREAD else unpack_chunk(data)
        if piece.stored > MAX_SEGMENT or piece.end is None:
            raise BadLog(f"a segment of {piece.stored} bytes")
        data = await self._store.get(piece.key, end=MAX_SEGMENT)
        return await to_thread.run_sync(_of_segment, data, piece.body, piece.end - piece.start)

    async def _length(self, piece: Piece) -> int:
        known = self._cache.get((piece.key, piece.body))
        if known is not None:
            return len(known)
        try:
            return chunk_length(await self._store.get(piece.key, end=FRAME_HEADER))
        except (FormatError, NotFound) as exc:
            log.warning("end of a log can't be read", key=piece.key, reason=str(exc))
            return 0


def _of_segment(data: bytes, start: int, length: int) -> bytes:
    _, body = unpack(data)
    return bytes(body[start : start + length])


def _missing(count: int) -> bytes:
    return b"\n[ray-history: %d bytes of this file are missing]\n" % count


def _after(text: bytes, count: int) -> int:
    """Where in ``text`` its ``count`` first lines end."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == _NEWLINE)
    return int(ends[count - 1]) + 1

"""What stored segments told, as events again: for streams that begin in the past.

Read and decoded once for all who go back at the same time: the last ones are kept, bounded in bytes, and of those not
kept at most ``AT_ONCE`` are being read. An object that can't be read gives no events; the session says so itself.
"""

from __future__ import annotations

from functools import partial

import anyio
from anyio import to_thread
from msgspec import Struct

from api.logs.log_file import SizedCache
from api.session.reader import MAX_OBJECT, SessionReader, decode_slice
from api.streams.hub import EVENT_BYTES, SourceKey
from api.streams.live_data import Event
from api.streams.live_events import events_of
from api.streams.positions import source_code
from pipeline.errors import BadSegment, NotFound
from pipeline.layout import SessionKey, segment_seq
from pipeline.segments.segment import Header, Span, TruncatedHeader, read_header, runs, unpack
from pipeline.stores.store import ObjectStore

KEPT_BYTES = 64 << 20
AT_ONCE = 2
PEEK = 64 << 10
MAX_PEEK = 4 << 20
_RUN_BYTES = 500


class Run(Struct, frozen=True):
    """The events of ``[start, end)`` of a source."""

    key: SourceKey
    code: bytes
    start: int
    end: int
    events: list[Event]


class Stored(Struct, frozen=True):
    """One segment in the store."""

    key: str
    node: str
    seq: int
    size: int


class Recall:
    """Of all sessions of one server."""

    def __init__(self, store: ObjectStore, kept_bytes: int = KEPT_BYTES) -> None:
        self._store = store
        self._kept: SizedCache[list[Run]] = SizedCache(kept_bytes)
        self._slots = anyio.CapacityLimiter(AT_ONCE)
        self._reading: dict[str, anyio.Event] = {}

    async def after(self, key: SessionKey, node: str, seq: int, last: int) -> list[Stored]:
        """The segments of a node from behind ``seq`` up to ``last``, in order. Raises ``StoreError``."""
        if seq >= last:
            return []
        found = await self._store.list(key.node_events(node), after=key.segment(node, seq), limit=last - seq)
        named = [(info, segment_seq(info.key)) for info in found]
        return [
            Stored(info.key, node, number, info.size)
            for info, number in named
            if number is not None and seq < number <= last and info.key == key.segment(node, number)
        ]

    async def header(self, stored: Stored) -> Header | None:
        """A segment's header alone; None where it can't be read. Raises ``StoreError``."""
        try:
            try:
                return read_header(await self._store.get(stored.key, end=PEEK))
            except TruncatedHeader:
                return read_header(await self._store.get(stored.key, end=MAX_PEEK))
        except (BadSegment, NotFound):
            return None

    async def segment(self, reader: SessionReader, stored: Stored) -> list[Run]:
        """The events of a segment, source by source in the order of its bytes. Raises ``StoreError``."""
        while (known := self._kept.get(stored.key)) is None and (reading := self._reading.get(stored.key)) is not None:
            await reading.wait()
        if known is not None:
            return known
        done = self._reading[stored.key] = anyio.Event()
        try:
            async with self._slots:
                found = await self._read(reader, stored)
            size = sum(_RUN_BYTES + sum(EVENT_BYTES + len(event.data) for event in run.events) for run in found)
            self._kept.put(stored.key, found, size)
            return found
        finally:
            del self._reading[stored.key]
            done.set()

    async def _read(self, reader: SessionReader, stored: Stored) -> list[Run]:
        if stored.size > MAX_OBJECT:
            return []
        try:
            data = await self._store.get(stored.key, end=MAX_OBJECT)
            header, body = await to_thread.run_sync(unpack, data)
        except (BadSegment, NotFound):
            return []
        return [run for span, chunk in runs(header, body) for run in await self.span(reader, stored.node, span, chunk)]

    async def span(self, reader: SessionReader, node: str, span: Span, chunk: memoryview, start: int = 0) -> list[Run]:
        """The events of a source's bytes, from ``start`` on."""
        at = max(start, span.start)
        key = node, span.source
        found = []
        while at < span.end:
            decoded, size = await to_thread.run_sync(partial(decode_slice, chunk[at - span.start :], span, at))
            events = await reader.query(lambda index, decoded=decoded: events_of(index, decoded))  # type: ignore[misc]
            found.append(Run(key, source_code(*key), at, at + size, events))
            at += size
        return found

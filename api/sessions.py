"""Which sessions there are, which are in memory, and how fresh they are.

Owns the cache of loaded sessions (bounded in bytes, the one not asked for longest goes first), the names
``live`` and ``latest``, and the promise that of any session at most one look at the store is under way:

    open(key) ─▶ looked at within ``refresh``? ─ yes ─▶ at once
                              │ no
                              ▼
                  a look under way? ─ no ─▶ begin one ─▶ wait for it (see ``shared.py``)

A look that fails is an error for all who wait for it, and the next request tries again. Memory is counted
while a session loads: one that doesn't fit is refused (``Full``), and what was read of it let go.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Literal

import anyio
import structlog
from anyio import CancelScope, CapacityLimiter
from anyio.abc import TaskGroup

from api.listing import Listing
from api.metrics import CACHE_BYTES, LOAD_SECONDS, SESSIONS_CACHED, SESSIONS_DROPPED
from api.reader import Progress, SessionReader, UnknownSession
from api.shared import SharedWork
from pipeline.catalog import SessionMetadata
from pipeline.config import ServerConfig
from pipeline.errors import BadKey, Full, RayHistoryError
from pipeline.layout import SessionKey
from pipeline.store import ObjectStore

ENDED_AGE = 60.0
"""Seconds after which an ended session is looked at again: its workers' last segments may come after its head's."""
REFUSAL_AGE = 30.0
"""Seconds for which a session that was too large is refused unread."""
MAX_REFUSALS = 1000
MAX_WATCHED = 1000
OVERHEAD = 64 << 10
"""What a session takes beside its columns, so that many small ones count too."""
OUTSIDE = "Sessions is used outside its context"

Clock = Callable[[], float]
log = structlog.get_logger()


class Entry:
    """One session in the cache. ``look`` brings it up to date, once for all who wait."""

    def __init__(self, reader: SessionReader, group: TaskGroup, look: Callable[[Entry], Awaitable[None]]) -> None:
        self.reader = reader
        self.looked: float | None = None  # when the last whole look began
        self.look = SharedWork(group, partial(look, self))
        self.nbytes = OVERHEAD
        self.watchers = 0
        self.keeping: CancelScope | None = None  # of the task that looks for those who watch

    def weigh(self) -> None:
        """Note the index's size. Only between two slices: while one is applied, its tables change in a thread."""
        self.nbytes = OVERHEAD + self.reader.index.nbytes + self.reader.snapshots.nbytes


class Sessions:
    """All sessions of one store. An async context manager: leaving it cancels the looks under way."""

    def __init__(self, store: ObjectStore, config: ServerConfig, clock: Clock = time.monotonic) -> None:
        self.store = store
        self._config = config
        self._clock = clock
        self._entries: OrderedDict[SessionKey, Entry] = OrderedDict()  # oldest use first
        self._watched: set[SessionKey] = set()
        self._refused: OrderedDict[SessionKey, tuple[float, str]] = OrderedDict()
        self._loads = CapacityLimiter(max(1, config.load_concurrency))
        self._listing = Listing(store)
        self._listed: float | None = None
        self._list_look: SharedWork | None = None
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Sessions:
        self._group = await anyio.create_task_group().__aenter__()
        self._list_look = SharedWork(self._group, self._list)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(kind, error, trace)

    async def catalog(self) -> list[SessionMetadata]:
        """Every session of the store, newest first, at most ``refresh`` seconds old. Raises ``StoreError``."""
        if self._listed is None or self._clock() - self._listed >= self._config.refresh:
            assert self._list_look is not None, OUTSIDE
            await self._list_look()
        return self._listing.newest_first

    async def resolve(self, namespace: str, cluster: str, session: str) -> SessionKey:
        """The session that is meant, ``live`` and ``latest`` included. Raises ``UnknownSession``."""
        try:
            key = SessionKey(namespace, cluster, session)
        except BadKey as exc:
            raise UnknownSession(str(exc)) from exc
        if session not in ("live", "latest"):
            return key
        for known in await self.catalog():
            if (known.namespace, known.cluster) != (namespace, cluster):
                continue
            if session == "latest" or known.ended_ms is None:
                return known.key
        kind = "live session" if session == "live" else "session"
        raise UnknownSession(f"no {kind} of {namespace}/{cluster} in {self.store.url}")

    async def open(self, key: SessionKey) -> SessionReader:
        """The session, as the store had it at most ``refresh`` seconds ago.

        Raises ``UnknownSession``, ``StoreError``, and ``Full`` where it doesn't fit into the cache.
        """
        entry = self._entry(key)
        if not self._fresh(entry):
            await entry.look()
        return entry.reader

    @asynccontextmanager
    async def watch(self, key: SessionKey) -> AsyncIterator[SessionReader]:
        """Hold the session in memory and have it brought up to date, asked for or not, until the context is left.

        Raises what ``open`` raises, and ``Full`` where too many are watched. Any number may watch one session.
        """
        if key not in self._watched and len(self._watched) >= MAX_WATCHED:
            raise Full(f"{MAX_WATCHED} sessions are being watched, and no more can be; try again")
        entry = self._entry(key)
        entry.watchers += 1
        try:
            if not self._fresh(entry):
                await entry.look()
            if entry.keeping is None:
                self._keep_up(entry)
            yield entry.reader
        finally:
            entry.watchers -= 1
            if not entry.watchers:
                self._let_go(entry)

    def _keep_up(self, entry: Entry) -> None:
        assert self._group is not None, OUTSIDE
        self._watched.add(entry.reader.key)
        entry.keeping = CancelScope()
        self._group.start_soon(self._look_regularly, entry, entry.keeping)

    def _let_go(self, entry: Entry) -> None:
        if entry.keeping is not None:
            self._watched.discard(entry.reader.key)
            entry.keeping.cancel()
            entry.keeping = None

    async def _look_regularly(self, entry: Entry, scope: CancelScope) -> None:
        with scope:
            while True:
                await anyio.sleep(max(self._config.refresh, 0.05))
                try:
                    if not self._fresh(entry):
                        await entry.look()
                except RayHistoryError as exc:
                    log.warning("watched session can't be read", session=str(entry.reader.key), reason=str(exc))

    def fresh(self, key: SessionKey) -> bool:
        """Whether ``open`` would answer at once."""
        entry = self._entries.get(key)
        return entry is not None and self._fresh(entry)

    def progress(self, key: SessionKey) -> Progress | None:
        """How far the look under way has come; None where there is none."""
        entry = self._entries.get(key)
        return entry.reader.progress if entry is not None and entry.look.busy else None

    def loaded(self, key: SessionKey) -> bool:
        """Whether the session is in memory as a whole."""
        entry = self._entries.get(key)
        return entry is not None and entry.looked is not None

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in self._entries.values())

    def _entry(self, key: SessionKey) -> Entry:
        until, reason = self._refused.get(key, (0.0, ""))
        if self._clock() < until:
            raise Full(reason)
        entry = self._entries.get(key)
        if entry is None:
            assert self._group is not None, OUTSIDE
            entry = self._entries[key] = Entry(SessionReader(self.store, key), self._group, self._look)
        self._entries.move_to_end(key)
        return entry

    def _fresh(self, entry: Entry) -> bool:
        if entry.looked is None:
            return False
        metadata = entry.reader.metadata
        ended = metadata is not None and metadata.ended_ms is not None
        age = max(self._config.refresh, ENDED_AGE) if ended else self._config.refresh
        return self._clock() - entry.looked < age

    async def _list(self) -> None:
        await self._listing.refresh()
        self._listed = self._clock()

    async def _look(self, entry: Entry) -> None:
        """One look, whose every end leaves the entry ready for the next, or out of the cache."""
        key = entry.reader.key
        try:
            if entry.looked is None:
                async with self._loads:
                    await self._load(entry)
            else:
                await self._read_on(entry)
        except UnknownSession:
            self._drop(key, entry, "gone")
            raise
        except Full:
            if entry.looked is None or not entry.watchers:
                self._drop(key, entry, "too_large")
            raise
        finally:
            if entry.looked is None and not entry.reader.started:
                self._drop(key, entry, "gone")

    async def _read_on(self, entry: Entry) -> None:
        began = self._clock()
        make_room = partial(self._make_room, entry)
        await entry.reader.refresh(make_room)
        await make_room()
        entry.looked = began

    async def _load(self, entry: Entry) -> None:
        began = self._clock()
        reader = entry.reader
        with LOAD_SECONDS.time():
            await self._read_on(entry)
        log.info(
            "session loaded",
            session=str(reader.key),
            records=reader.completeness.records,
            segments=reader.progress.segments,
            bytes=entry.nbytes,
            seconds=round(self._clock() - began, 3),
        )

    def _drop(self, key: SessionKey, entry: Entry, reason: Literal["memory", "too_large", "gone"]) -> None:
        if self._entries.get(key) is entry:
            del self._entries[key]
            SESSIONS_DROPPED.labels(reason).inc()
            if reason != "gone":  # what nobody has is asked for often, and no news
                log.info("session dropped from memory", session=str(key), reason=reason)
            self._measure()

    async def _make_room(self, entry: Entry) -> None:
        """Let the longest unused sessions go until all fit; raise ``Full`` where that isn't enough."""
        entry.weigh()
        limit = self._config.cache_bytes
        for key, other in list(self._entries.items()):
            if self.nbytes <= limit:
                break
            if other is not entry and not other.look.busy and not other.watchers:
                self._drop(key, other, "memory")
        self._measure()
        if self.nbytes <= limit:
            return
        if entry.nbytes > limit:
            reason = f"session {entry.reader.key} needs more memory than the {limit} bytes of --cache-bytes"
            self._refuse(entry.reader.key, reason)
            raise Full(reason)
        raise Full(f"the {limit} bytes of --cache-bytes are taken by sessions being loaded; try again")

    def _measure(self) -> None:
        SESSIONS_CACHED.set(len(self._entries))
        CACHE_BYTES.set(self.nbytes)

    def _refuse(self, key: SessionKey, reason: str) -> None:
        self._refused[key] = (self._clock() + REFUSAL_AGE, reason)
        while len(self._refused) > MAX_REFUSALS:
            self._refused.popitem(last=False)

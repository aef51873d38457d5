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
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import TracebackType
from typing import Literal

import anyio
import structlog
from anyio import CancelScope, CapacityLimiter
from anyio.abc import TaskGroup

from api.live.live import Live
from api.live.ring import Batch
from api.metrics import CACHE_BYTES, LOAD_SECONDS, SESSIONS_CACHED, SESSIONS_DROPPED
from api.session.feed import Feed
from api.session.listing import Listing
from api.session.reader import Progress, SessionReader, UnknownSession
from api.session.shared import SharedWork
from api.status import Status
from pipeline.config import ServerConfig
from pipeline.errors import BadKey, Full, RayHistoryError
from pipeline.layout import SessionKey
from pipeline.push.pushed import Push
from pipeline.stores.catalog import SessionMetadata
from pipeline.stores.store import ObjectStore

ENDED_AGE = 60.0
"""Seconds after which an ended session is looked at again: its workers' last segments may come after its head's."""
REFUSAL_AGE = 30.0
"""Seconds for which a session that was too large is refused unread."""
MAX_REFUSALS = 1000
PUSHED_AGE = 10.0
"""Seconds after which the store is looked at though everything comes by push: for nodes that don't push."""
HEAR_SECONDS = 0.25
"""For collectors that were left alone to say what they have."""
CATCH_UP_SECONDS = 2.0
"""For what is on its way by NATS."""
SEAL_SECONDS = 1.0
"""For a collector to close a segment that is needed for an answer."""
WEIGH_EVERY = 1.0
MAX_WATCHED = 1000
OVERHEAD = 64 << 10
"""What a session takes beside its columns, so that many small ones count too."""
OUTSIDE = "Sessions is used outside its context"

Clock = Callable[[], float]
log = structlog.get_logger()


class Entry:
    """One session in the cache. ``look`` brings it up to date, once for all who wait."""

    def __init__(self, reader: SessionReader, group: TaskGroup, sessions: Sessions) -> None:
        self.reader = reader
        self.looked: float | None = None  # when the last whole look began
        self.polled: tuple[str, int] | None = None  # of the dashboard's answers, what was heard when it began
        self.look = SharedWork(group, partial(sessions.look_at, self))
        self.feed = Feed(reader, sessions.live, self.look, partial(sessions.room_for, self), sessions.clock)
        self.feeding = SharedWork(group, self.feed.run)
        self.fed = False  # whether a task feeds it, asked or not
        self.weighed = float("-inf")
        self.nbytes = OVERHEAD
        self.watchers = 0
        self.keeping: CancelScope | None = None  # of the task that looks for those who watch

    async def weigh(self) -> None:
        """Note what the session takes."""
        self.nbytes = OVERHEAD + await self.reader.nbytes()


class Sessions:
    """All sessions of one store. An async context manager: leaving it cancels the looks under way."""

    def __init__(self, store: ObjectStore, config: ServerConfig, clock: Clock = time.monotonic) -> None:
        self.store = store
        self.clock = clock
        self.live = Live(config.live_bytes, clock)
        self.live.on_news = self._news
        self._config = config
        self._entries: OrderedDict[SessionKey, Entry] = OrderedDict()  # oldest use first
        self._watched: set[SessionKey] = set()
        self._refused: OrderedDict[SessionKey, tuple[float, str]] = OrderedDict()
        self._loads = CapacityLimiter(max(1, config.load_concurrency))
        self._listing = Listing(store)
        self._listed: float | None = None
        self._list_look: SharedWork | None = None
        self._group: TaskGroup | None = None
        self.asked = float("-inf")
        """When somebody last asked for a session, by the clock."""
        self._loading = 0
        self._all_loaded = anyio.Event()

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
        """Every session of the store, newest first, at most ``refresh`` seconds old, with what was heard of it. Raises ``StoreError``."""
        if self._listed is None or self.clock() - self._listed >= self._config.refresh:
            assert self._list_look is not None, OUTSIDE
            await self._list_look()
        return self.live.liveness.known(self._listing.newest_first, self.live.now_ms())

    async def resolve(self, namespace: str, cluster: str, session: str) -> SessionKey:
        """The session that is meant, ``live`` and ``latest`` included. Raises ``UnknownSession``."""
        try:
            key = SessionKey(namespace, cluster, session)
        except BadKey as exc:
            raise UnknownSession(str(exc)) from exc
        if session not in ("live", "latest"):
            return key
        of_cluster = [m for m in await self.catalog() if (m.namespace, m.cluster) == (namespace, cluster)]
        if session == "latest":
            found = of_cluster
        else:
            said = [(known, self.status(known)) for known in of_cluster]
            found = [known for status in ("live", None) for known, its in said if its == status]
        if found:
            return found[0].key
        kind = "live session" if session == "live" else "session"
        raise UnknownSession(f"no {kind} of {namespace}/{cluster} in {self.store.url}")

    async def open(self, key: SessionKey) -> SessionReader:
        """The session, as the store had it at most ``refresh`` seconds ago.

        Raises ``UnknownSession``, ``StoreError``, and ``Full`` where it doesn't fit into the cache.
        """
        entry = self._entry(key)
        await self._bring_up(entry)
        return entry.reader

    async def look(self, key: SessionKey) -> None:
        """Have the session looked at in the store, however fresh it is. Raises what ``open`` raises."""
        await self._entry(key).look()

    async def _bring_up(self, entry: Entry) -> None:
        """Up to date by the store, and by what was pushed."""
        key = entry.reader.key
        words = self.live.want(key)
        if entry.looked is not None and not entry.feed.whole:
            await entry.feeding()
        if not self._fresh(entry):
            await entry.look()
        await self.live.hear(key, words, HEAR_SECONDS)
        await self.live.catch_up(key, CATCH_UP_SECONDS)
        words = self.live.words(key)
        if not entry.feed.whole:
            await entry.feeding()
        with anyio.move_on_after(SEAL_SECONDS):
            while words and not entry.feed.whole:
                await self.live.hear(key, words, SEAL_SECONDS)
                words = self.live.words(key)
                await entry.feeding()

    def status(self, known: SessionMetadata) -> Status | None:
        """Whether a session lives, by all that was heard of it."""
        entry = self._entries.get(known.key)
        sealed_ms = entry.reader.completeness.sealed_ms if entry is not None and entry.looked is not None else None
        return self.live.liveness.status(known, sealed_ms, self.live.now_ms())

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
            await self._bring_up(entry)
            if entry.keeping is None:
                self._keep_up(entry)
            with self.live.watching(key):
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
                    if not entry.feed.whole:
                        await entry.feeding()
                except RayHistoryError as exc:
                    log.warning("watched session can't be read", session=str(entry.reader.key), reason=str(exc))
                except Exception:  # whatever it is, it is of this session alone
                    log.exception("watched session can't be read", session=str(entry.reader.key))

    # what is pushed

    def _news(self, key: SessionKey, push: Push, batch: Batch | None) -> None:
        """A message of the push channel was noted. One that isn't loaded takes what the ring holds when it is."""
        entry = self._entries.get(key)
        if entry is None or entry.looked is None:
            return
        if not self.live.wanted(key):
            entry.feed.idle(push)
            return
        entry.feed.news(push, batch)
        if not entry.feed.whole and not entry.fed and self._group is not None:
            entry.fed = True
            self._group.start_soon(self._feed, entry)

    async def _feed(self, entry: Entry) -> None:
        try:
            await entry.feeding()
        except RayHistoryError as exc:
            log.warning("pushed records wait", session=str(entry.reader.key), reason=str(exc))
        except Exception:  # whatever it is, it is of this session alone
            log.exception("pushed records wait", session=str(entry.reader.key))
        finally:
            entry.fed = False

    async def room_for(self, entry: Entry) -> None:
        """Let others go where a session grows by what is pushed, now and then. Raises ``Full``."""
        if self.clock() - entry.weighed >= WEIGH_EVERY:
            entry.weighed = self.clock()
            await self._make_room(entry)

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

    async def settled(self) -> None:
        """Return when nobody waits for a session that isn't in memory yet."""
        while self._loading:
            await self._all_loaded.wait()

    def peek(self, key: SessionKey) -> SessionReader | None:
        """The session if ``open`` would answer at once. Nobody asked for it: its turn to go stays what it was."""
        entry = self._entries.get(key)
        return entry.reader if entry is not None and self._fresh(entry) else None

    @property
    def spare(self) -> int:
        """Bytes of ``cache_bytes`` that no session takes; negative while one that is loaded doesn't fit."""
        return self._config.cache_bytes - self.nbytes

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in self._entries.values())

    def _entry(self, key: SessionKey) -> Entry:
        until, reason = self._refused.get(key, (0.0, ""))
        if self.clock() < until:
            raise Full(reason)
        self.asked = self.clock()
        entry = self._entries.get(key)
        if entry is None:
            assert self._group is not None, OUTSIDE
            entry = self._entries[key] = Entry(SessionReader(self.store, key), self._group, self)
        self._entries.move_to_end(key)
        return entry

    def _fresh(self, entry: Entry) -> bool:
        if entry.looked is None:
            return False
        reader = entry.reader
        age = self._config.refresh
        if self.live.told(reader.key, list(reader.completeness.nodes)):
            whole = entry.feed.whole and entry.polled == self.live.liveness.polled(reader.key)
            age = max(age, PUSHED_AGE) if whole else age
        elif reader.metadata is not None and reader.metadata.ended_ms is not None:
            age = max(age, ENDED_AGE)
        return self.clock() - entry.looked < age

    async def _list(self) -> None:
        await self._listing.refresh()
        self._listed = self.clock()

    async def look_at(self, entry: Entry) -> None:
        """One look, whose every end leaves the entry ready for the next, or out of the cache."""
        key = entry.reader.key
        try:
            if entry.looked is None:
                with self._others_wait():
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
            if entry.looked is None and not entry.reader.started and not entry.watchers:
                self._drop(key, entry, "gone")

    @contextmanager
    def _others_wait(self) -> Iterator[None]:
        """Whoever works for nobody (``settled``)."""
        self._loading += 1
        try:
            yield
        finally:
            self._loading -= 1
            if not self._loading:
                self._all_loaded.set()
                self._all_loaded = anyio.Event()

    async def _read_on(self, entry: Entry) -> None:
        began, polled = self.clock(), self.live.liveness.polled(entry.reader.key)
        make_room = partial(self._make_room, entry)
        try:
            await entry.reader.refresh(make_room)
        except UnknownSession:
            if not self.live.words(entry.reader.key):
                raise  # a session that just began may be heard before the store has it
        await make_room()
        entry.looked, entry.polled = began, polled

    async def _load(self, entry: Entry) -> None:
        began = self.clock()
        reader = entry.reader
        with LOAD_SECONDS.time():
            await self._read_on(entry)
        log.info(
            "session loaded",
            session=str(reader.key),
            records=reader.completeness.records,
            segments=reader.progress.segments,
            bytes=entry.nbytes,
            seconds=round(self.clock() - began, 3),
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
        await entry.weigh()
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
        self._refused[key] = (self.clock() + REFUSAL_AGE, reason)
        while len(self._refused) > MAX_REFUSALS:
            self._refused.popitem(last=False)

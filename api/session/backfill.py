"""Counts the tasks of sessions that nobody opened, in the background, so that a list is right for all of them.

    catalog ─▶ summaries that the store has, many at a time
            └▶ whose turn it is (``agenda.py``), one at a time:
               another server's? ─▶ in memory anyway? ─▶ unchanged? ─▶ too large? ─▶ read aside (``aside.py``) ─▶ keep

Nobody waits for it, so it waits for everybody: it begins when for a moment nobody asked for a session, stands still
while one is being loaded, and rests as long as it worked. It takes what others have counted, whatever server they
asked. A session's trouble is that session's; while the store fails it is asked ever more seldom. It never ends of
itself, and can be cancelled at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Literal

import anyio
import structlog
from anyio import to_thread
from msgspec import Struct

from api.groups import first_error
from api.metrics import BACKFILL_DONE, BACKFILL_FAILING, BACKFILL_PENDING, BACKFILL_SKIPPED
from api.session.agenda import AGAIN, ENDED_AGAIN, Agenda
from api.session.aside import Weight, fits, read_aside, weigh
from api.session.overviews import Overviews
from api.session.reader import UnknownSession
from api.session.sessions import Sessions
from api.views.overview import counts
from api.views.session_list import Summary, ident
from pipeline.errors import Full, StoreError
from pipeline.stores.catalog import SessionMetadata

ASKED_AT_ONCE = 16
ASKED_IN_A_ROW = 256
LIMIT = 600.0
"""Seconds for one session: a store that answers too slowly for that fails it."""
LARGEST_SHARE = 4
"""Of a small cache no more than this part is taken beside it."""

Result = Literal["counted", "found", "unchanged", "too_large", "failed", "gone"]
log = structlog.get_logger()


class Pace(Struct, frozen=True):
    """Seconds. ``start``: after the server's. ``sweep``: between two looks at the catalog. ``quiet``: that nobody has asked for
    a session, waited for ``patience`` at most. ``rest``: at most, after as much work. ``first``, ``last``: after failures."""

    start: float = 2.0
    sweep: float = 30.0
    quiet: float = 0.5
    patience: float = 5.0
    rest: float = 1.0
    first: float = 1.0
    last: float = 60.0


class Backfill:
    """One server's. ``memory``: bytes it may take whatever the cache holds, 0 for none of this; ``cache``: what that one may take.
    ``store_failed`` is told where not only one session can't be read."""

    def __init__(
        self,
        sessions: Sessions,
        overviews: Overviews,
        memory: int,
        cache: int,
        store_failed: Callable[[StoreError], None],
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pace = pace or Pace()
        self._sessions = sessions
        self._overviews = overviews
        self._memory = min(memory, cache // LARGEST_SHARE)
        self._store_failed = store_failed
        self._clock = clock
        self._agenda = Agenda()
        self._trouble = 0
        self._worked = 0.0

    async def run(self) -> None:
        """Count whatever comes, for ever."""
        if self._memory <= 0:
            return
        await anyio.sleep(self.pace.start)
        while True:
            began = self._clock()
            try:
                await self._sweep()
            except StoreError as exc:
                self._store_failed(exc)
                await self._fall_back()
                continue
            except Exception:  # whatever it is, the server goes on without
                log.exception("counting in the background failed")
            took = self._clock() - began
            await anyio.sleep(self.pace.sweep if took < self.pace.sweep else self.pace.rest)

    async def _sweep(self) -> None:
        """All whose turn it is, for as long as the list of sessions is fresh enough."""
        listed = await self._sessions.catalog()
        self._forget(listed)
        await self._ask_the_store(self._agenda.unasked(listed, self._overviews.known))
        work = (listed, self._overviews.known, self._sessions.status, self._clock())
        due = await to_thread.run_sync(self._agenda.due, *work)
        until = self._clock() + self.pace.sweep
        for at, metadata in enumerate(due):
            self._measure(len(due) - at)
            await self._quiet()
            await self._turn(metadata)
            if self._clock() > until:
                return
        self._measure(0)

    def _forget(self, listed: list[SessionMetadata]) -> None:
        if self._overviews.sizes:
            gone = self._overviews.sizes.keys() - {ident(metadata) for metadata in listed}
            for name in gone:
                del self._overviews.sizes[name]

    def _measure(self, pending: int) -> None:
        BACKFILL_PENDING.set(pending)
        BACKFILL_SKIPPED.set(len(self._overviews.sizes))
        BACKFILL_FAILING.set(self._agenda.failing)

    async def _ask_the_store(self, unasked: list[SessionMetadata]) -> None:
        """For the summaries it has: a small request each. Raises ``StoreError`` where that is more than one session's trouble."""
        failed = 0
        for start in range(0, len(unasked), ASKED_IN_A_ROW):
            waiting = iter(unasked[start : start + ASKED_IN_A_ROW])
            self._measure(len(unasked) - start)

            async def ask(waiting: Iterator[SessionMetadata] = waiting) -> None:
                nonlocal failed
                for metadata in waiting:
                    self._agenda.plan(metadata).asked = True  # where that fails, its turn will come
                    try:
                        found = await self._overviews.stored(metadata.key)
                    except StoreError:
                        failed += 1
                        if failed >= ASKED_AT_ONCE:
                            raise
                        continue
                    if found is not None:
                        BACKFILL_DONE.labels("found").inc()
                        if self._holds(found, metadata):
                            self._agenda.counted(metadata, self._clock())

            await self._quiet()
            with first_error():
                async with anyio.create_task_group() as group:
                    for _ in range(ASKED_AT_ONCE):
                        group.start_soon(ask)
            self._trouble = 0

    async def _turn(self, metadata: SessionMetadata) -> None:
        """One session, whatever comes of it."""
        try:
            with anyio.fail_after(LIMIT):
                result = await self._count(metadata)
        except Full:
            result = "failed"  # there was room when it began: there may be again
            self._agenda.failed(metadata, self._clock())
        except UnknownSession:
            result = "gone"
            self._agenda.failed(metadata, self._clock())
        except (StoreError, TimeoutError) as exc:
            result = "failed"
            self._agenda.failed(metadata, self._clock())
            if not self._trouble:
                reason = str(exc) or f"not within {LIMIT:g} s"
                log.warning("a session can't be counted", session=str(metadata.key), reason=reason)
            if not isinstance(exc, StoreError) or exc.retryable:
                await self._fall_back()
        except Exception:  # whatever it is, it is of this session alone
            result = "failed"
            self._agenda.failed(metadata, self._clock())
            log.exception("a session can't be counted", session=str(metadata.key))
        else:
            self._trouble = 0
        BACKFILL_DONE.labels(result).inc()

    async def _count(self, metadata: SessionMetadata) -> Result:
        key, store, overviews = metadata.key, self._sessions.store, self._overviews
        before = overviews.known.get(ident(metadata))
        found = await overviews.stored(key)
        if found is not None and found is not before and self._holds(found, metadata):
            self._agenda.counted(metadata, self._clock())
            return "found"
        if (reader := self._sessions.peek(key)) is not None:
            await overviews.summary(reader)
            self._agenda.counted(metadata, self._clock())
        else:
            weight = await weigh(store, key)
            known = overviews.known.get(ident(metadata))
            seen = self._agenda.plan(metadata).weight
            if known is not None and (seen == weight or not self._agenda.may_read(metadata, self._clock())):
                silent_ms = 0
                if seen == weight:
                    overviews.confirm(metadata, known)
                    await overviews.keep(key)
                    lives = not known.heard_ms or self._sessions.status(metadata) == "live"
                    silent_ms = 0 if lives else overviews.now_ms() - known.heard_ms
                self._agenda.counted(metadata, self._clock(), silent=silent_ms / 1000)
                return "unchanged"
            if not fits(weight, self._room()):
                self._leave(metadata, weight)
                return "too_large"
            if not await self._read(metadata):
                self._leave(metadata, weight)
                return "too_large"
            self._agenda.counted(metadata, self._clock(), weight)
        await overviews.keep(key)
        return "counted"

    def _holds(self, found: Summary, metadata: SessionMetadata) -> bool:
        """Whether what the store has, whoever counted it, is as good as what would be counted now."""
        age_ms = self._overviews.now_ms() - found.as_of_ms
        ended = metadata.ended_ms is not None
        since = metadata.ended_ms is None or found.as_of_ms >= metadata.ended_ms
        return found.final or (since and 0 <= age_ms < (ENDED_AGAIN if ended else AGAIN) * 1000)

    async def _read(self, metadata: SessionMetadata) -> bool:
        """Count one by what the store has. False where it is too large. Raises ``Full`` where its room was needed meanwhile."""
        room = self._room()
        self._worked = self._clock()
        try:
            reader = await read_aside(self._sessions.store, metadata.key, self._room, self._rest)
        except Full:
            if self._room() < room:
                raise
            return False
        await self._overviews.remember(reader, await reader.query(counts))
        return True

    def _room(self) -> int:
        """Bytes for the one that is read: half of what the cache doesn't need, or what is set aside."""
        return max(self._memory, self._sessions.spare // 2)

    def _leave(self, metadata: SessionMetadata, weight: Weight) -> None:
        name = ident(metadata)
        if name not in self._overviews.sizes:
            room = self._room()
            log.info(
                "session too large to be counted unasked: see --backfill-bytes",
                session=str(metadata.key),
                bytes=weight.bytes,
                segments=weight.segments,
                room=room,
            )
        if self._overviews.known.get(name) is None:
            self._overviews.sizes[name] = weight.bytes
        self._agenda.left(metadata, self._clock())

    # others first

    async def _quiet(self) -> None:
        """Return when nobody waits for a session, and nobody has asked for one for a moment, or all the time."""
        until = self._clock() + self.pace.patience
        while True:
            await self._sessions.settled()
            left = min(self._sessions.asked + self.pace.quiet, until) - self._clock()
            if left <= 0:
                return
            await anyio.sleep(left)

    async def _rest(self) -> None:
        """Between two segments: as long as the last one took, and while somebody waits for a session."""
        await anyio.sleep(min(self._clock() - self._worked, self.pace.rest))
        await self._sessions.settled()
        self._worked = self._clock()

    async def _fall_back(self) -> None:
        await anyio.sleep(min(self.pace.first * 2.0 ** min(self._trouble, 16), self.pace.last))
        self._trouble += 1

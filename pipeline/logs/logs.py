"""Plain logs of one session into the store, as they grow: a killed node loses seconds of them, not everything.

    {session}/logs/** ──scan──▶ Tracker ──due──▶ read a piece ─▶ mask ─▶ compress ──▶ put, only if absent ──▶ stored
        every second             which file       ≤ uploads at once, ≤ chunk_bytes each       │ taken: compare and adopt
                                 is which log     store away: they wait, nothing piles up     ▼
                                                                              the list of files, when names changed

Where each log stands is known from the store alone: the list (``logfiles.py``) and the chunks beyond it. So
nothing is kept on disk, nothing is stored twice, and a chunk that two collectors write is one of them's. Ray's
own files are never changed or deleted.

Records (``events/``, ``export_events/``) travel as segments; the list only names their files. What somebody follows is
pushed besides (``logtail.py``), which reads by the same tracker: whoever uses it holds ``tracking``, for no longer than
a look or a read, never while the store is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import structlog

from pipeline import metrics
from pipeline.config import LogConfig
from pipeline.errors import AlreadyExists
from pipeline.layout import SessionKey
from pipeline.logs.logfiles import BadLog, LogKeys, LogList, RecordEntry, pack_chunk, pack_list, unpack_chunk
from pipeline.logs.logrecover import fetch, recover
from pipeline.logs.logscan import LogFolder, Scan
from pipeline.logs.logtail import LogTail
from pipeline.logs.logtrack import BeganAgain, Log, Lost, Piece, Tracker
from pipeline.redact import redact_block
from pipeline.stores.patience import Patience
from pipeline.stores.store import ObjectStore
from pipeline.watch import Wake

RESCAN = 1.0
LIST_AGE = 3.0
"""Seconds for which a change of names may be missing from the list; longer where the list is long."""
LIST_RATE = 100_000
"""Bytes a second that writing the list may take, on average."""
SIZES_AGE = 60.0
"""Seconds for which the list may be behind in what was stored: what a restart reads again from the chunks."""
REWRITTEN = ("debug_state.txt", "debug_state_gcs.txt")
"""What Ray writes anew every ten seconds: that nobody keeps each state is no news."""
_PIECES = 4  # of one log before another has its turn
_BURST = 10.0  # seconds of requests that may be saved up

Until = Literal["told", "read", "stopped"]

log = structlog.get_logger()


class LogFollower:
    """The logs of one session on one node. ``until`` as in ``follow.Follower``: ``run`` ends when told, or at the end of what there is."""

    def __init__(
        self,
        config: LogConfig,
        store: ObjectStore,
        patience: Patience,
        key: SessionKey,
        node: str,
        ray_tmp: Path,
        *,
        until: Until = "told",
        redact: bool = True,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.until: Until = until
        self.wake = Wake()
        self.done = False
        self._config, self._store, self._patience = config, store, patience
        self._clock, self._now_ms = clock, now_ms
        self._redact: Callable[[bytes], bytes] = redact_block if redact else bytes
        self._keys = LogKeys(key, node)
        self._folder = LogFolder(ray_tmp, (key.session, "logs"), self._keys.path_limit)
        self.tracking = anyio.Lock()
        self.tail = LogTail(self, self._folder.read, redact=redact, clock=clock)
        self._tracker: Tracker | None = None
        self._looked_at = float("-inf")
        self._scan = Scan()
        self._scan_seconds = 0.0
        self._records: dict[str, tuple[int, RecordEntry]] = {}
        self._cut: set[str] = set()  # said once of each file: some are rewritten for ever
        self._tokens, self._filled_at = config.puts_per_second * _BURST, clock()
        self._names_changed = self._stored = False
        self._list_bytes, self._listed_at = 0, float("-inf")
        self._log = log.bind(session=key.session, node=node)

    def finish(self, until: Until) -> None:
        self.until = until
        self.wake.set()

    async def run(self) -> None:
        """Until everything is in the store, for what ``until`` calls everything."""
        await self.begin()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.tail.run)
            await self._store_rounds()
            tasks.cancel_scope.cancel()
        self.done = True

    async def _store_rounds(self) -> None:
        while True:
            until = self.until
            more = await self.round(final=until != "told")
            if not more and until != "told":
                break
            if not more:
                await self.wake.wait(self._rescan)

    @property
    def tracker(self) -> Tracker | None:
        return self._tracker

    @property
    def _rescan(self) -> float:
        return max(RESCAN, 10 * self._scan_seconds)

    async def look(self) -> None:
        """See what became of the files where no round has done so lately: one may be waiting for the store."""
        if self._tracker is not None and self._clock() - self._looked_at > 1.5 * self._rescan:
            await self._look_now(self._tracker, self._clock())

    async def _look_now(self, tracker: Tracker, now: float) -> bool:
        async with self.tracking:
            self._looked_at = now
            return await anyio.to_thread.run_sync(self._look, tracker, now)

    def left(self) -> int:
        """Bytes seen that are not known to be in the store."""
        return 0 if self.done or self._tracker is None else sum(each.pending for each in self._tracker.logs)

    async def begin(self) -> None:
        """Find out what the store has."""
        entries = await recover(self._store, self._patience, self._keys)
        self._tracker = Tracker(
            self._folder.read, entries, age=self._config.age, chunk=self._config.chunk_bytes, redact=self._redact
        )
        self._log.info("following logs", folder=str(self._folder), known=len(entries))

    async def round(self, *, final: bool = False) -> bool:
        """Look once and store what is due (``final``: all there is); whether there is more to do at once."""
        assert self._tracker is not None, "begin comes first"
        now = self._clock()
        if not await self._look_now(self._tracker, now):
            return False
        due = self._tracker.due(now, final=final)
        more = await self._store_all(due if final else due[: self._allowed(now)], final)
        if self._list_is_due(final and not more):
            await self._write_list()
        return more

    # looking, in a thread

    def _look(self, tracker: Tracker, now: float) -> bool:
        began = time.monotonic()
        scan = self._folder.scan(self._config.max_files)
        if scan is None:
            return False
        if scan.truncated and not self._scan.truncated:
            self._log.error("more files than may be followed, the rest is left alone", limit=self._config.max_files)
        if scan.folders != self._scan.folders:
            self._names_changed = True
        for lost in tracker.look(scan, now):
            self._say_lost(lost)
        self._look_at_records(scan)
        self._scan = scan
        self._scan_seconds = time.monotonic() - began
        return True

    def _look_at_records(self, scan: Scan) -> None:
        known, self._records = self._records, {}
        for found in scan.records:
            inode, entry = known.get(found.name, (0, None))
            if entry is None or inode != found.inode or not entry.source:
                fresh = self._folder.record_entry(found)
                self._names_changed = self._names_changed or entry is None or entry.source != fresh.source
                entry = fresh
            entry.size = found.size
            self._records[found.name] = (found.inode, entry)
        self._names_changed = self._names_changed or known.keys() != self._records.keys()

    def _say_lost(self, lost: Lost) -> None:
        metrics.LOG_BYTES_LOST.inc(lost.end - lost.start)
        say = self._log.debug if lost.name in self._cut or lost.name in REWRITTEN else self._log.warning
        say("log was cut before it was stored", file=lost.name, start=lost.start, end=lost.end)
        self._cut.add(lost.name)

    # storing

    def _allowed(self, now: float) -> int:
        """How many requests may be made now."""
        rate = self._config.puts_per_second
        self._tokens = min(rate * _BURST, self._tokens + rate * (now - self._filled_at))
        self._filled_at = now
        return int(self._tokens)

    async def _store_all(self, due: list[Log], final: bool) -> bool:
        waiting = iter(due)
        more = False

        async def work() -> None:
            nonlocal more
            for each in waiting:
                more = await self._store_some(each, final) or more

        async with anyio.create_task_group() as tasks:
            for _ in range(min(self._config.uploads, len(due))):
                tasks.start_soon(work)
        return more

    async def _store_some(self, each: Log, final: bool) -> bool:
        """A few pieces of one log; whether it has more that can go at once."""
        assert self._tracker is not None
        for _ in range(_PIECES):
            async with self.tracking:
                take = partial(self._tracker.take, each, self._clock(), final=final)
                taken = await anyio.to_thread.run_sync(take)
            if taken is None:
                return False
            if isinstance(taken, BeganAgain):
                async with self.tracking:
                    self.begin_again(each, "its content changed")
                return True
            self._tokens -= 1
            packed = await anyio.to_thread.run_sync(pack_chunk, taken.content)
            try:
                key = self._keys.chunk(each.entry.path, each.entry.generation, taken.offset)
                await self._patience.insist(partial(self._store.put, key, packed, if_absent=True))
            except AlreadyExists:
                return await self._adopt(each, key, taken.offset)
            async with self.tracking:
                self._take_note(each, taken)
            metrics.LOG_CHUNK_BYTES.inc(len(packed))
            if not self._tracker.full(each) and not (final and each.pending):
                return False
        return True

    async def _adopt(self, each: Log, key: str, offset: int) -> bool:
        """Somebody stored that chunk: an answer that was lost, or another collector of this node. Go on behind it."""
        assert self._tracker is not None
        try:
            data = await self._patience.insist(partial(fetch, self._store, key))
            content = await anyio.to_thread.run_sync(unpack_chunk, data)
        except BadLog:
            content = None
        async with self.tracking:
            adopt = partial(self._tracker.adopt, each, offset)
            piece = await anyio.to_thread.run_sync(adopt, content) if content is not None else None
            if piece is None:
                self.begin_again(each, "another file's bytes are stored in its place")
            else:
                self._take_note(each, piece)
        return True

    def _take_note(self, each: Log, piece: Piece) -> None:
        assert self._tracker is not None
        self._tracker.stored(each, piece, self._clock())
        self._stored = True
        metrics.LOG_CHUNKS.inc()
        metrics.LOG_BYTES.inc(piece.length)

    def begin_again(self, each: Log, why: str) -> None:
        assert self._tracker is not None
        self._log.info("log begins again", file=each.entry.place, generation=each.entry.generation, why=why)
        self._tracker.restart(each, self._clock())

    # the list

    def _list_is_due(self, final: bool) -> bool:
        assert self._tracker is not None
        named = self._names_changed or self._tracker.changed
        if final:
            return named or self._stored
        age = self._clock() - self._listed_at
        return (named and age >= max(LIST_AGE, self._list_bytes / LIST_RATE)) or (self._stored and age >= SIZES_AGE)

    async def _write_list(self) -> None:
        assert self._tracker is not None
        self._names_changed = self._stored = self._tracker.changed = False
        files = LogList(
            root=str(self._folder),
            updated_ms=self._now_ms(),
            folders=self._scan.folders,
            files=[each.entry for each in self._tracker.logs],
            records=[entry for _, entry in self._records.values()],
        )
        packed = await anyio.to_thread.run_sync(pack_list, files)
        await self._patience.insist(partial(self._store.put, self._keys.list, packed))
        self._listed_at, self._list_bytes = self._clock(), len(packed)

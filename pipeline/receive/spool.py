"""The spool: where posted records wait on disk until they are in the store.

    {data_dir}/spool/{session}/{time_ns:020d}-{pid}.jsonl    records, one a line, as they were posted
    {data_dir}/quarantine/…                                  bad ones (``spool_aside``)

What ``append`` returned from is durable. Appends that come together share one write and one fsync. A
record that is posted again because an answer was lost is known by its event id among the session's
last ``window`` ones; they outlive the process because they are read back from its files, of which the
newest stays until its room is needed, and from ``ids.json`` for those that were deleted. A file is never appended to by a later process,
nor after an error, so a torn line is always a file's last.

Left to others: taking posts (``ingest``), reading and shipping the files, saying when they are in the
store (``release``). Sync methods may be called from any thread; the constructor reads folders.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
from anyio import CancelScope, to_thread
from msgspec import Struct

from pipeline.errors import Full
from pipeline.receive.post import BadRecord, PostRecord
from pipeline.receive.spool_aside import Aside, Kept
from pipeline.receive.spool_files import CutOff, folders
from pipeline.receive.spool_session import Page, SpoolSession

MAX_SESSIONS = 1000
"""Sessions with files at one time: a bound on folders, since anyone who can post can make up names."""
MAX_OPEN = 16
"""Sessions with an open file and ids in memory; over it the one not used for longest is closed."""
IDLE_NS = 600 * 1_000_000_000
"""A file not appended to for so long is closed, so that it can be released."""
QUARANTINE_SHARE = 8
"""One part in so many of the limit is for quarantine; over it the oldest goes: good records must flow."""


class AppendResult(Struct, frozen=True):
    """What became of a post. ``duplicates`` were stored before, good and bad ones alike."""

    accepted: int
    duplicates: int
    quarantined: int
    kept: list[Kept]


class _Entry(Struct, eq=False):
    """One post in the queue. ``places``: session and place on its page of each record that must be stored for it."""

    records: list[PostRecord]
    bad: list[BadRecord]
    places: list[tuple[str, int]]
    fresh: int = 0
    outcome: AppendResult | Exception | None = None


class Spool:
    """See the module. ``limit_bytes`` bounds all files, quarantine included; over it ``append`` raises ``Full``."""

    def __init__(
        self,
        data_dir: Path,
        *,
        limit_bytes: int,
        file_bytes: int = 64 << 20,
        window: int = 20_000,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._root, self._window, self._time_ns = data_dir / "spool", window, time_ns
        self._limit, self._file_bytes = limit_bytes, file_bytes
        self._aside = Aside(data_dir / "quarantine", limit_bytes // QUARANTINE_SHARE, window)
        self._turn = anyio.Lock()
        self._waiting: list[_Entry] = []
        self._lock = threading.Lock()
        self._sessions: dict[str, SpoolSession] = {}
        self._busy: set[str] = set()
        self._last_name_ns = 0
        self.full: str | None = None
        """Why the last post was refused, None if it wasn't."""
        self._scan()

    async def append(self, records: list[PostRecord], bad: list[BadRecord]) -> AppendResult:
        """Store what is new of one post. Raises ``Full``: all or a part of it is not stored; post it again."""
        entry = _Entry(records, bad, [])
        self._waiting.append(entry)
        try:
            async with self._turn:
                if entry.outcome is None:  # else somebody before in the queue took it along
                    batch, self._waiting = self._waiting, []
                    with CancelScope(shield=True):
                        await to_thread.run_sync(self._commit, batch)
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
        if not isinstance(entry.outcome, AppendResult):
            raise entry.outcome or RuntimeError("a post was left without an outcome")
        return entry.outcome

    def sessions(self) -> list[str]:
        """The sessions that have files here."""
        return sorted(name for name, session in list(self._sessions.items()) if session.files)

    def active(self, session: str) -> str | None:
        """The name of the file that is being appended to, if any."""
        found = self._sessions.get(session)
        return found.active if found is not None else None

    def durable(self, session: str, filename: str) -> int | None:
        """How much of a file is durable, None for an unknown one. What is beyond may yet be cut off again."""
        found = self._sessions.get(session)
        return found.files.get(filename) if found is not None else None

    def release(self, session: str, filename: str) -> None:
        """All of a file is in the store: delete it, unless it is its session's newest."""
        with self._lock:
            if (found := self._sessions.get(session)) is not None:
                found.release(filename)

    @property
    def used_bytes(self) -> int:
        """Bytes of all files here."""
        sessions = list(self._sessions.values())  # copies: another thread may be changing them
        here = sum(sum(list(one.files.values())) + one.remembered for one in sessions)
        return here + sum(list(self._aside.files.values()))

    @property
    def quarantine_dropped(self) -> int:
        """Quarantine files deleted because there were too many."""
        return self._aside.dropped

    # what follows runs in a thread, under the lock

    def _commit(self, batch: list[_Entry]) -> None:
        with self._lock:
            try:
                self._store(batch)
            except Exception as exc:  # whatever it is, nobody may be left waiting
                for entry in batch:
                    entry.outcome = entry.outcome or _refusal(exc)
            self.full = next((str(entry.outcome) for entry in batch if isinstance(entry.outcome, Full)), None)

    def _store(self, batch: list[_Entry]) -> None:
        pages: dict[str, Page] = {}
        self._busy = {record.session for entry in batch for record in entry.records}
        for entry in batch:
            try:
                self._admit(entry, pages)
            except (Full, OSError) as exc:
                entry.outcome = _refusal(exc)
        for name, page in pages.items():
            if page.records:
                self._sessions[name].write(page, self._name(), self._file_bytes)
        for entry in batch:
            if entry.outcome is None:
                entry.outcome = self._settle(entry, pages)
        self._close_unused()

    def _admit(self, entry: _Entry, pages: dict[str, Page]) -> None:
        """Put what is new of a post on its sessions' pages. Raises ``Full`` where there is no room for it all."""
        fresh: dict[tuple[str, str | int], PostRecord] = {}
        for number, record in enumerate(entry.records):
            session = self._session(record.session)
            page = pages.get(record.session)
            if page is not None and record.event_id in page.ids:
                entry.places.append((record.session, page.ids[record.event_id]))
            elif not record.event_id:
                fresh[record.session, number] = record
            elif not session.seen(record.event_id):
                fresh[record.session, record.event_id] = record
        need = sum(len(record.line) + 1 for record in fresh.values()) + sum(len(bad.raw) for bad in entry.bad)
        self._make_room(need + sum(page.bytes for page in pages.values()))
        for record in fresh.values():
            page = pages.setdefault(record.session, Page([], {}))
            entry.places.append((record.session, page.add(record)))
        entry.fresh = len(fresh)

    def _settle(self, entry: _Entry, pages: dict[str, Page]) -> AppendResult | Exception:
        for session, place in entry.places:
            if place >= pages[session].stored:
                return _refusal(pages[session].error)
        try:
            kept = self._aside.write(entry.bad, self._stamp)
        except OSError as exc:
            return _refusal(exc)
        duplicates = len(entry.records) - entry.fresh + len(entry.bad) - len(kept)
        return AppendResult(entry.fresh, duplicates, len(kept), kept)

    def _session(self, name: str) -> SpoolSession:
        session = self._sessions.get(name)
        if session is None:
            if len(self._sessions) >= MAX_SESSIONS and not self._drop_oldest():
                raise Full(f"the spool holds {len(self._sessions)} sessions that wait for the store")
            session = self._sessions[name] = SpoolSession(self._root / name, self._window)
        session.used_ns = self._time_ns()
        return session

    def _name(self) -> str:
        """Unique for ever and in order, whatever the clock does."""
        return f"{self._stamp():020d}-{os.getpid()}.jsonl"

    def _stamp(self) -> int:
        self._last_name_ns = max(self._time_ns(), self._last_name_ns + 1)
        return self._last_name_ns

    # room

    def _scan(self) -> None:
        for folder in folders(self._root):
            self._sessions.setdefault(folder.name, SpoolSession(folder, self._window)).scan()
        self._aside.scan()
        names = [name for session in self._sessions.values() for name in session.files]
        names += [path.name for path in self._aside.files]
        self._last_name_ns = max([self._last_name_ns, *(_stamp_of(name) for name in names)])

    def _make_room(self, need: int) -> None:
        if self.used_bytes + need <= self._limit:
            return
        self._scan()  # what was shipped from quarantine is deleted there by whoever shipped it
        while self.used_bytes + need > self._limit:
            if not self._drop_oldest():
                raise Full(f"the spool is full: {self.used_bytes} of {self._limit} bytes wait for the store")

    def _drop_oldest(self) -> bool:
        """Drop the oldest session all of which is in the store: it was kept only to know what is posted again."""
        idle = [name for name, session in self._sessions.items() if name not in self._busy and session.droppable]
        if not idle:
            return False
        self._sessions.pop(min(idle, key=lambda name: max(self._sessions[name].files, default=""))).drop()
        return True

    def _close_unused(self) -> None:
        now = self._time_ns()
        used = sorted((s for s in self._sessions.values() if s.open), key=lambda s: s.used_ns, reverse=True)
        for number, session in enumerate(used):
            if number >= MAX_OPEN:
                session.forget()
            elif now - session.used_ns > IDLE_NS:
                session.close()


def _refusal(exc: BaseException | None) -> Exception:
    """What the sender is told."""
    if isinstance(exc, CutOff | OSError):
        return Full(f"the spool can't be written: {exc.args[0] if isinstance(exc, CutOff) else exc.strerror or exc}")
    return exc if isinstance(exc, Exception) else Full("the spool can't be written")


def _stamp_of(name: str) -> int:
    stamp = name.partition("-")[0]
    return int(stamp) if stamp.isascii() and stamp.isdigit() and len(stamp) == 20 else 0

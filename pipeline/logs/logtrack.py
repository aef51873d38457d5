"""Which file on disk is which log: recognises growth, rename, truncation, replacement and deletion. Blocking, no store.

A file is taken for a known log only if the bytes that were stored of it are still there, so what is stored
of one log is one unbroken sequence, whatever happens on disk:

    same name, same inode, not shorter         it grew (the bytes before the end are looked at again when it is read)
    another name                               it was renamed: it keeps its log, and shows under the new name
    shorter, or other bytes before the end     it began again: a new log, the next generation
    not there                                  it is gone: what was stored of it stays, under its last name

Owns when bytes are due: as soon as they fill a chunk, else when the oldest is ``age`` old. A file that is
rewritten again and again (Ray's ``debug_state.txt``, every ten seconds) waits twice as long each time. Chunks
end with a line where they can: a line that hasn't ended waits as long again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from msgspec import Struct

from pipeline.logs.logfiles import HEAD, LogEntry, digest
from pipeline.logs.logscan import Found, Scan
from pipeline.redact import redact_block

TAIL = 256
"""Bytes before the end of what was stored, by which a file is checked each time it is read."""
_MOST_PATIENT = 7  # 2**7 times the age: about 20 minutes
_SETTLED_NS = 2_000_000_000  # a file changed more recently than this may change again without a new mtime
_SHORT_LIFE = 60.0  # seconds beyond which a log that ended wasn't a rewritten file's

K = TypeVar("K")
Read = Callable[..., list[bytes] | None]
"""``LogFolder.read``: (found, (start, end), …) to the bytes of each range, or None."""


class Log(Struct, eq=False):
    """One log, and the file it is at the moment. ``tail`` is None until the file of an earlier process is recognised."""

    entry: LogEntry
    file: Found | None = None
    tail: bytes | None = None
    begun: float = 0.0
    since: float | None = None
    rewrites: int = 0
    settled: bool = False

    @property
    def pending(self) -> int:
        return max(0, self.file.size - self.entry.end) if self.file is not None else 0


class Lost(Struct, frozen=True):
    """Bytes that were seen and were gone before they were stored."""

    name: str
    start: int
    end: int


class Piece(Struct, frozen=True):
    """What comes next of a log: where it begins, how many bytes of the file it is, and what is to be stored of them."""

    offset: int
    length: int
    content: bytes
    digest: str
    tail: bytes
    head: bytes


class BeganAgain(Struct, frozen=True):
    """The file isn't what it was."""


class Tracker:
    """All logs of one node, with what an earlier process knew of them as ``entries``."""

    def __init__(
        self,
        read: Read,
        entries: Iterable[LogEntry] = (),
        *,
        age: float = 10.0,
        chunk: int = 4 << 20,
        redact: Callable[[bytes], bytes] = redact_block,
    ) -> None:
        self.logs = [Log(entry) for entry in entries]
        self.changed = False
        """Whether a name came, went or moved since the owner last set this to False."""
        self._read = read
        self._age = age
        self._chunk = chunk
        self._redact = redact
        self._at = {log.entry.place: log for log in self.logs if not log.entry.gone}
        self._generations: dict[str, int] = {}
        for log in self.logs:
            self._generations[log.entry.path] = max(self._generations.get(log.entry.path, 0), log.entry.generation)

    def look(self, scan: Scan, now: float) -> list[Lost]:
        """Take in a scan; what was lost since the one before."""
        before, self._at = self._at, {}
        lost: list[Lost] = []
        unknown: list[Found] = []
        for name, found in scan.files.items():
            log = before.get(name)
            if log is not None and self._same(log, found, scan.at_ns):
                if log.file is not None and found.size < log.file.size:
                    lost.append(Lost(name, found.size, log.file.size))
                self._hold(log, found, now)
            else:
                unknown.append(found)
        if unknown:
            unknown = self._recognise(unknown, now)
        for found in unknown:
            self._begin(found, now, before.get(found.name))
        lost += self._let_go(before.values())
        return lost

    def at(self, name: str) -> Log | None:
        """The log whose file has this (encoded) name now."""
        return self._at.get(name)

    def find(self, path: str, generation: int) -> Log | None:
        """A log by what it is, whether it has a file or not."""
        return next((log for log in self.logs if (log.entry.path, log.entry.generation) == (path, generation)), None)

    def due(self, now: float, *, final: bool = False) -> list[Log]:
        """The logs with bytes that should be stored now, longest waiting first."""
        waiting = [log for log in self._at.values() if log.pending and (final or self._is_due(log, now))]
        return sorted(waiting, key=lambda log: now if log.since is None else log.since)

    def full(self, log: Log) -> bool:
        """Whether what waits fills a chunk."""
        return log.pending >= self._chunk

    def take(self, log: Log, now: float, *, final: bool = False) -> Piece | BeganAgain | None:
        """Read what comes next of a log; None where there is nothing (yet). Nothing is changed: see ``stored``."""
        if log.file is None or log.tail is None:
            return None
        offset, tail = log.entry.end, log.tail
        ranges = [(offset, offset + self._chunk), (offset - len(tail), offset), (0, min(offset, HEAD))]
        got = self._read(log.file, *ranges)
        if got is None or not got[0]:
            return None
        if got[1] != tail:
            return BeganAgain()
        patience = 2 * self._age_of(log)
        data = self._cut(got[0], whole=final or (log.since is not None and now - log.since >= patience))
        if not data:
            return None
        head = (got[2] + data)[:HEAD] if offset < HEAD else b""
        content = self._redact(data)
        return Piece(offset, len(data), content, digest(content), (tail + data)[-TAIL:], head)

    def adopt(self, log: Log, offset: int, content: bytes) -> Piece | None:
        """The piece that somebody else stored already, if it is what this log's file has there."""
        if log.file is None:
            return None
        got = self._read(log.file, (offset, offset + len(content)), (0, HEAD))
        if got is None or content not in (got[0], redact_block(got[0])):
            return None
        head = got[1][: offset + len(content)] if offset < HEAD else b""
        return Piece(offset, len(content), content, digest(content), got[0][-TAIL:], head)

    def stored(self, log: Log, piece: Piece, now: float) -> None:
        """A piece is in the store."""
        entry = log.entry
        entry.last, entry.digest, entry.end = piece.offset, piece.digest, piece.offset + piece.length
        if piece.head:
            entry.head, entry.head_length = digest(piece.head), len(piece.head)
        log.tail = piece.tail
        log.since = now if log.pending else None
        if log.file is None and log not in self.logs:  # its file went while its first piece was on the way
            self.logs.append(log)
            self.changed = True

    def restart(self, log: Log, now: float) -> None:
        """The file of a log isn't what was stored of it: from now on it is another log."""
        if log.file is None:
            return
        found, log.file = log.file, None
        log.entry.gone = True
        self._at.pop(log.entry.place, None)
        self._begin(found, now, log)

    # recognising files

    def _same(self, log: Log, found: Found, at_ns: int) -> bool:
        held = log.file
        if held is None or log.tail is None or found.size < log.entry.end:
            return False
        if (held.device, held.inode) != (found.device, found.inode):
            return False
        unchanged = (found.size, found.mtime_ns) == (held.size, held.mtime_ns)
        if found.size > held.size or (unchanged and log.settled):
            log.settled = unchanged
            return True
        log.settled = at_ns - found.mtime_ns > _SETTLED_NS
        return self._matches(log, found)

    def _recognise(self, unknown: list[Found], now: float) -> list[Found]:
        """Give files to logs that have none; the files that are left."""
        held = set(self._at.values())
        free = [log for log in self.logs if log not in held]
        by_inode = _grouped(((log.entry.device, log.entry.inode), log) for log in free if log.entry.end or log.file)
        by_name = _grouped((log.entry.place, log) for log in free)
        unknown = self._claim(unknown, now, lambda found: by_inode.get((found.device, found.inode), []))
        unknown = self._claim(unknown, now, lambda found: by_name.get(found.name, []))
        by_head = _grouped((log.entry.head, log) for log in free if log.entry.head_length == HEAD)
        return self._claim(unknown, now, lambda found: self._like(found, by_head)) if by_head else unknown

    def _claim(self, unknown: list[Found], now: float, candidates: Callable[[Found], list[Log]]) -> list[Found]:
        left = []
        for found in unknown:
            for log in candidates(found):
                if self._at.get(log.entry.place) is not log and self._matches(log, found):
                    self._hold(log, found, now)
                    break
            else:
                left.append(found)
        return left

    def _like(self, found: Found, by_head: dict[str, list[Log]]) -> list[Log]:
        got = self._read(found, (0, HEAD)) if found.size >= HEAD else None
        return by_head.get(digest(got[0]), []) if got else []

    def _matches(self, log: Log, found: Found) -> bool:
        """Whether the file begins with what was stored of the log, as far as that can be told in two reads."""
        entry = log.entry
        if found.size < entry.end:
            return False
        if not entry.end:
            log.tail = b""
            return True
        start = entry.last if log.tail is None else entry.end - len(log.tail)
        got = self._read(found, (0, entry.head_length), (start, entry.end))
        if got is None:  # not readable, or gone again: the next look will tell
            return (found.device, found.inode) == (entry.device, entry.inode)
        if digest(got[0]) != entry.head and entry.head:
            return False
        if log.tail is not None:
            return got[1] == log.tail
        if entry.digest not in (digest(got[1]), digest(redact_block(got[1]))):
            return False
        log.tail = got[1][-TAIL:]
        return True

    def _hold(self, log: Log, found: Found, now: float) -> None:
        entry = log.entry
        if entry.place != found.name or entry.gone or entry.inode != found.inode:
            entry.name = "" if entry.path == found.name else found.name
            entry.gone = False
            self.changed = True
        entry.device, entry.inode = found.device, found.inode
        entry.size, entry.mtime_ms = found.size, found.mtime_ns // 1_000_000
        log.file = found
        self._at[found.name] = log
        log.since = (now if log.since is None else log.since) if log.pending else None

    def _begin(self, found: Found, now: float, before: Log | None) -> None:
        generation = self._generations.get(found.name, -1) + 1
        self._generations[found.name] = generation
        log = Log(LogEntry(found.name, generation), tail=b"", begun=now)
        if before is not None and self._at.get(before.entry.place) is not before:  # not renamed: overwritten
            short = now - before.begun < 2 * self._age_of(before) + _SHORT_LIFE
            log.rewrites, log.since = before.rewrites + 1 if short else 0, before.since
        self.logs.append(log)
        self._hold(log, found, now)
        self.changed = True

    def _let_go(self, before: Iterable[Log]) -> list[Lost]:
        """What had a file before this look and has none now."""
        held = set(self._at.values())
        lost, empty = [], set()
        for log in before:
            if log in held:
                continue
            entry = log.entry
            if entry.size > entry.end:
                lost.append(Lost(entry.place, entry.end, entry.size))
            log.file = log.since = None
            entry.gone = self.changed = True
            if not entry.end:
                empty.add(log)
        if empty:
            self.logs = [log for log in self.logs if log not in empty]
        return lost

    # when, and how much

    def _age_of(self, log: Log) -> float:
        return float(self._age * 2 ** min(log.rewrites, _MOST_PATIENT))

    def _is_due(self, log: Log, now: float) -> bool:
        return log.pending >= self._chunk or (log.since is not None and now - log.since >= self._age_of(log))

    def _cut(self, data: bytes, *, whole: bool) -> bytes:
        """As much as is to be one chunk: up to the last whole line where there is one."""
        lines = data.rfind(b"\n") + 1
        if len(data) >= self._chunk:
            return data[:lines] if lines else data
        return data if whole else data[:lines]


def _grouped(pairs: Iterable[tuple[K, Log]]) -> dict[K, list[Log]]:
    groups: dict[K, list[Log]] = {}
    for key, log in pairs:
        groups.setdefault(key, []).append(log)
    return groups

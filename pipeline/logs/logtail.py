"""What somebody follows of a session's logs, read as it is written: beside the way to the store, never in it.

    answer to a push ─▶ asked (≤ MAX_LOGS) ─▶ every EVERY seconds: read on ─▶ cut ─▶ mask ─▶ ready (≤ MESSAGE) ─▶ Pusher
                          nothing asked: nothing is read                                      ≤ RATE bytes a second

Only what the follower's own ``Tracker`` knows is read, whatever is asked, and a file is taken for a log only while the
bytes before the position are those that were pushed or stored. What is pushed ends with a line, or with the carriage
return of a progress bar; a line without end goes after ``UNENDED`` seconds. It is masked together with what stands
before it, so that a secret is found wherever it is cut; what can't be told yet is left to the chunk that has all of it.

Nothing here counts as stored, and nothing is kept: after a failure all begins again at what the next answer asks for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import anyio
import structlog
from msgspec import Struct

from pipeline import metrics
from pipeline.logs.logtrack import BeganAgain, Log, Read, Tracker
from pipeline.push.pushed import MAX_LOGS, LogAsk, LogId, LogSpan
from pipeline.read.source import tail_checksum
from pipeline.redact import KEY, redact_block, unfinished
from pipeline.watch import Wake

EVERY = 0.1
PART = 128 << 10
"""Bytes of one log in one message."""
MESSAGE = 256 << 10
LEAST = 4 << 10
"""Bytes for which a log still has its turn."""
RATE = 4 << 20
"""Bytes a second, of all logs of a session: what writes more shows as its chunks are stored."""
UNENDED = 0.5
CONTEXT = 16 << 10
_IDLE = 3600.0
_DOUBTS = 2

log = structlog.get_logger()


class Logs(Protocol):
    """Who follows the logs anyway."""

    tracking: anyio.Lock
    """Held while the tracker is used."""

    @property
    def tracker(self) -> Tracker | None:
        """None until it is known what the store has."""
        ...

    async def look(self) -> None:
        """See what became of the files, where that was long ago. The lock must not be held."""
        ...

    def begin_again(self, log: Log, why: str) -> None:
        """A log's file isn't what it was. The lock must be held."""
        ...


class Tailed:
    """One log that is followed: from ``start`` on, behind bytes with the checksum ``tail`` where some were pushed."""

    def __init__(self, ask: LogAsk) -> None:
        self.ask = ask
        self.start = ask.start
        self.tail = ask.tail
        self.log: Log | None = None
        self.unended: float | None = None
        self.quiet: float | None = None
        self.doubts = 0
        self.told_end = False
        self.checked = 0


class Part(Struct, frozen=True):
    """What is to be pushed of a log."""

    tailed: Tailed
    span: LogSpan
    content: bytes


class LogTail:
    """One session's logs on one node. ``on_ready`` is called when there is something to ``take``."""

    def __init__(
        self, logs: Logs, read: Read, *, redact: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.on_ready: Callable[[], None] = lambda: None
        self._logs, self._read, self._redact, self._clock = logs, read, redact, clock
        self._tails: dict[LogId, Tailed] = {}
        self._ready: list[Part] = []
        self._turn = 0
        self._tokens, self._filled_at = float(RATE), clock()
        self._wake = Wake()

    @property
    def ready(self) -> bool:
        return bool(self._ready)

    def ask(self, asked: list[LogAsk]) -> None:
        """From now on these are followed, and no others."""
        if not asked and not self._tails:
            return
        known, self._tails = self._tails, {}
        for each in asked[:MAX_LOGS]:
            before = known.get(each.log)
            if before is None or before.start != each.start or before.ask.name != each.name:
                before = Tailed(each)
                self._wake.set()
            elif each.check != before.ask.check:
                before.ask = each
                self._wake.set()
            self._tails[each.log] = before
        self._ready = [part for part in self._ready if self._tails.get(part.span.log) is part.tailed]

    def take(self) -> list[tuple[LogSpan, bytes]]:
        """What there is to push; it counts as pushed from now on."""
        taken, self._ready = self._ready, []
        for part in taken:
            tailed = part.tailed
            tailed.start, tailed.tail = part.span.end, part.span.tail
            tailed.told_end = tailed.told_end or part.span.then is not None
            tailed.checked = part.span.checked or tailed.checked
            metrics.LOG_BYTES_PUSHED.inc(len(part.content))
        self._wake.set()
        return [(part.span, part.content) for part in taken]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not self._tails or self._ready:
                await self._wake.wait(_IDLE)
                continue
            try:
                await self._logs.look()
                await self._read_on()
            except Exception:  # whatever it is: the way to the store goes on, and the next answer asks again
                log.exception("followed logs can't be read")
                self._tails.clear()
            if self._ready:
                self.on_ready()
            else:
                await self._wake.wait(EVERY)

    async def _read_on(self) -> None:
        """One look at each, beginning with another one each time, until a message is full."""
        now = self._clock()
        self._tokens = min(float(RATE), self._tokens + RATE * (now - self._filled_at))
        self._filled_at = now
        waiting = list(self._tails.values())
        self._turn = (self._turn + 1) % max(1, len(waiting))
        async with self._logs.tracking:
            tracker = self._logs.tracker
            if tracker is None or self._tokens < LEAST:
                return
            turns = [*waiting[self._turn :], *waiting[: self._turn]]
            found, wrong = await anyio.to_thread.run_sync(self._parts, tracker, turns, now)
            for tailed in wrong:
                self._doubt(tailed)
        current = [part for part in found if self._tails.get(part.span.log) is part.tailed]
        self._tokens -= sum(len(part.content) for part in current)
        self._ready = current

    def _doubt(self, tailed: Tailed) -> None:
        """Its file has other bytes than before. A look tells why, if it is plain; else it began again."""
        tailed.doubts += 1
        if tailed.doubts >= _DOUBTS and tailed.log is not None:
            self._logs.begin_again(tailed.log, "its content changed")

    # in a thread

    def _parts(self, tracker: Tracker, turns: list[Tailed], now: float) -> tuple[list[Part], list[Tailed]]:
        found: list[Part] = []
        wrong: list[Tailed] = []
        room = min(MESSAGE, int(self._tokens))
        for tailed in turns:
            if room < LEAST:
                break
            part = self._part(tracker, tailed, min(PART, room), now)
            if isinstance(part, Part):
                found.append(part)
                room -= len(part.content)
            elif part is not None:
                wrong.append(tailed)
        return found, wrong

    def _part(self, tracker: Tracker, tailed: Tailed, limit: int, now: float) -> Part | BeganAgain | None:
        ask = tailed.ask
        if tailed.log is None:
            tailed.log = tracker.find(ask.log.path, ask.log.generation)
        its, heir = tailed.log, tracker.at(ask.name)
        if its is None:
            return None
        if heir is its:
            heir = None
        if its.file is None:
            return self._end(tailed, heir, now)
        if its.tail is None:
            return None
        start, end, tail = tailed.start, its.entry.end, its.tail
        ranges = (start, start + limit), (max(0, start - CONTEXT), start), (end - len(tail), end)
        got = self._read(its.file, *ranges)
        if got is None:
            return None  # it has another name by now, which the next look finds out
        data, before, stored = got
        if stored != tail or len(before) < min(start, CONTEXT) or tailed.tail not in (0, tail_checksum(before)):
            return BeganAgain()
        tailed.doubts = 0
        if not data:
            return self._end(tailed, heir, now)
        if tailed.unended is None:
            tailed.unended = now
        tailed.quiet = None
        whole = heir is not None or now - tailed.unended >= UNENDED
        content = _content(
            before, data, whole=whole, full=len(data) >= limit, from_start=start <= CONTEXT, redact=self._redact
        )
        if not content:
            return None
        tailed.unended = None
        checksum = tail_checksum(before + data[: len(content)])
        return Part(tailed, LogSpan(ask.log, start, start + len(content), checksum), content)

    def _end(self, tailed: Tailed, heir: Log | None, now: float) -> Part | None:
        """All of it was pushed: say so to who asks, and what has its name now, if anything has."""
        ask, its, start = tailed.ask, tailed.log, tailed.start
        if its is None or start < its.entry.end:
            return None
        tailed.quiet = now if tailed.quiet is None else tailed.quiet
        left = its.file is None or now - tailed.quiet >= UNENDED  # who writes it may not know yet that it was renamed
        then = None
        if heir is not None and left and not tailed.told_end:
            then = LogId(heir.entry.path, heir.entry.generation)
        checked = ask.check if ask.check != tailed.checked else 0
        if then is None and not checked:
            return None
        return Part(tailed, LogSpan(ask.log, start, start, tailed.tail, checked, then), b"")


def _content(before: bytes, data: bytes, *, whole: bool, full: bool, from_start: bool, redact: bool) -> bytes:
    """What may go of ``data``, masked; ``before`` stands before it, from its file's beginning on where ``from_start``.

    ``full``: more stands behind it. ``whole``: a line without end may go.
    """
    lines = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    out = data if (whole and not full) or (full and not lines) else data[:lines]
    if not redact or not out:
        return out
    first = 0 if from_start else before.find(b"\n")
    context = before[max(0, first) :]
    text = context + out
    if KEY in text:
        if first < 0:
            return b""
        if (at := _left_open(text)) is not None:
            out = out[: max(0, at - len(context))]
        return redact_block(context + out)[len(context) :]
    return out


def _left_open(text: bytes) -> int | None:
    """From where on it can't be told yet what is secret."""
    lines = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
    if KEY in text[lines:]:
        return lines
    return unfinished(text)

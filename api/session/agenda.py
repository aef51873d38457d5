"""Which sessions are to be counted next, and when again. Pure: the clock is the caller's.

    never counted, over       at once, the newest first
    never counted, may live   after those
    counted, may grow         ``AGAIN`` seconds later it is weighed, and read if it has changed, but one of many segments
                              not so soon; at once when it ends
    failed                    ever later, up to ``LAST_RETRY``
    too large                 weighed again after ``LARGE_AGAIN``: there may be more room by then
    silent                    ever later, up to ``LAST_LOOK``
    final                     never, unless it speaks again

Of ``BLOCK`` sessions of about one age each server has an order of its own, so that of several on one store few
count the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from api.live.liveness import pushed_ms
from api.session.aside import Weight
from api.status import Status
from api.views.session_list import Ident, Summary, ident
from pipeline.stores.catalog import SessionMetadata

AGAIN = 300.0
SEGMENT_SECONDS = 10.0
"""For each segment until a session is read again, so that a growing session isn't read more often than its collector writes."""
ENDED_AGAIN = 61.0
"""After an end the last segments of its workers may come: by then they have."""
FIRST_RETRY, LAST_RETRY = 60.0, 3600.0
LARGE_AGAIN = 3600.0
SILENCE_SHARE = 8
"""After so large a part of its silence a session is looked at again."""
LAST_LOOK = 3 * 3600.0
BLOCK = 8


class Plan(Struct):
    """What is known of a session that has no final summary. ``due``: by the clock. ``asked``: whether the store was asked for one.
    ``reread``: when it may be read again, if it hasn't ended."""

    due: float = 0.0
    reread: float = 0.0
    asked: bool = False
    ended: bool = False
    failures: int = 0
    weight: Weight | None = None


class Agenda:
    """Plans for all sessions of the list; those that left it are forgotten."""

    def __init__(self, shuffle: Callable[[list[SessionMetadata]], None] = random.shuffle) -> None:
        self._plans: dict[Ident, Plan] = {}
        self._shuffle = shuffle

    @property
    def failing(self) -> int:
        """How many failed when their turn came last."""
        return sum(plan.failures > 0 for plan in self._plans.values())

    def plan(self, metadata: SessionMetadata) -> Plan:
        return self._plans.setdefault(ident(metadata), Plan())

    def unasked(self, listed: Sequence[SessionMetadata], known: Mapping[Ident, Summary]) -> list[SessionMetadata]:
        """Those that the store may have a summary of, the newest first."""
        return [each for each in listed if ident(each) not in known and not self.plan(each).asked]

    def due(
        self,
        listed: Sequence[SessionMetadata],
        known: Mapping[Ident, Summary],
        status: Callable[[SessionMetadata], Status | None],
        now: float,
    ) -> list[SessionMetadata]:
        """Those whose turn has come, in its order. ``listed``: all there are, the newest first."""
        plans: dict[Ident, Plan] = {}
        turns: tuple[list[SessionMetadata], ...] = ([], [], [])
        for metadata in listed:
            name = ident(metadata)
            summary = known.get(name)
            if summary is not None and summary.final and (pushed_ms(metadata) is None or status(metadata) != "live"):
                continue
            plan = plans[name] = self._plans.get(name) or Plan()
            if metadata.ended_ms is not None and not plan.ended and not plan.failures:
                plan.due, plan.ended = now, True
            if plan.due <= now:
                turns[2 if summary is not None else 1 if status(metadata) == "live" else 0].append(metadata)
        self._plans = plans
        return [each for turn in turns for each in self._in_blocks(turn)]

    def _in_blocks(self, turn: list[SessionMetadata]) -> list[SessionMetadata]:
        found: list[SessionMetadata] = []
        for start in range(0, len(turn), BLOCK):
            block = turn[start : start + BLOCK]
            self._shuffle(block)
            found += block
        return found

    def may_read(self, metadata: SessionMetadata, now: float) -> bool:
        """Whether a session that has changed is read again now."""
        return metadata.ended_ms is not None or now >= self.plan(metadata).reread

    def counted(self, metadata: SessionMetadata, now: float, weight: Weight | None = None, silent: float = 0.0) -> None:
        """What is known of it holds for now. ``weight``: it was read, and the store had this then. ``silent``: seconds since its last word."""
        plan = self.plan(metadata)
        plan.failures = 0
        plan.ended = metadata.ended_ms is not None
        plan.due = now + (ENDED_AGAIN if plan.ended else max(AGAIN, min(silent / SILENCE_SHARE, LAST_LOOK)))
        if weight is not None:
            plan.weight = weight
            plan.reread = now + SEGMENT_SECONDS * weight.segments

    def failed(self, metadata: SessionMetadata, now: float) -> None:
        """It could not be read."""
        plan = self.plan(metadata)
        plan.due = now + min(FIRST_RETRY * 2.0 ** min(plan.failures, 16), LAST_RETRY)
        plan.failures += 1

    def left(self, metadata: SessionMetadata, now: float) -> None:
        """It is too large."""
        plan = self.plan(metadata)
        plan.failures = 0
        plan.due = now + LARGE_AGAIN

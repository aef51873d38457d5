"""Two sessions side by side: by task name how many, how many failed, how long; what differs is named.

A difference is what an engineer would look into, not any two numbers that aren't equal: see ``_differences``.
Names are matched as they are shown; where one session's are put together by function, so are the other's.
"""

from __future__ import annotations

import math

from msgspec import Struct

from api.index.session_index import SessionIndex
from api.views.durations import GroupedBy, NameTimes, by_name, named
from api.views.failures import failure_counts
from api.views.overview import Counts, counts
from api.views.tasks import task_codes

MAX_ROWS = 1000
MAX_FAILURES = 100
SLOWER = 1.2
"""A percentile that grew by this factor, or shrank by it, is a difference,"""
SLOWER_MS = 5.0
"""if it also moved by this much: the scheduler's noise on short tasks is none."""
ENOUGH = 3
"""Attempts that must have run on both sides before their times are compared."""


class Profile(Struct, frozen=True):
    """What one session brings to a comparison."""

    counts: Counts
    grouped_by: GroupedBy
    names: dict[str, NameTimes]
    failures: dict[tuple[str, str], int]


class ComparedRow(Struct, frozen=True):
    """One name. A side is None where it has no such task; ``differs`` lists ``only_a | only_b | count | failed | p50 | p95``."""

    name: str
    a: NameTimes | None
    b: NameTimes | None
    p50_ratio: float | None
    p95_ratio: float | None
    differs: list[str]


class ComparedFailure(Struct, frozen=True):
    """One kind of failure, and how many attempts failed so on either side."""

    error_type: str
    message: str
    a: int
    b: int


class Comparison(Struct, frozen=True):
    """``rows``: the first of ``row_count``, of which ``different`` differ; those come first, the most striking at the top.

    ``failures``: the first of ``failure_count`` kinds, those that one side has and the other hasn't at the top.
    """

    grouped_by: GroupedBy
    row_count: int
    different: int
    rows: list[ComparedRow]
    failure_count: int
    failures: list[ComparedFailure]


def profile(index: SessionIndex, by_function: bool = False) -> Profile:
    """What a session brings. ``by_function``: the other side's names are put together by function."""
    codes = task_codes(index)
    rows = codes.listed(exclude_driver=True)
    name, grouped_by = named(codes, rows, by_function)
    times = {times.name: times for times in by_name(codes, rows, name)}
    return Profile(counts(index), grouped_by, times, failure_counts(codes, rows))


def compare(a: Profile, b: Profile) -> Comparison:
    """``a`` before, ``b`` after: a ratio above 1 means that ``b`` took longer."""
    rows = [_row(name, a.names.get(name), b.names.get(name)) for name in a.names.keys() | b.names.keys()]
    rows.sort(key=lambda row: (-_weight(row), row.name))
    different = sum(1 for row in rows if row.differs)
    failures = [
        ComparedFailure(*kind, a.failures.get(kind, 0), b.failures.get(kind, 0))
        for kind in a.failures.keys() | b.failures.keys()
    ]
    failures.sort(key=lambda kind: (bool(kind.a and kind.b), -abs(kind.b - kind.a), kind.error_type, kind.message))
    return Comparison(a.grouped_by, len(rows), different, rows[:MAX_ROWS], len(failures), failures[:MAX_FAILURES])


def _row(name: str, a: NameTimes | None, b: NameTimes | None) -> ComparedRow:
    p50 = _ratio(a.p50_ms, b.p50_ms) if a is not None and b is not None else None
    p95 = _ratio(a.p95_ms, b.p95_ms) if a is not None and b is not None else None
    return ComparedRow(name, a, b, p50, p95, _differences(a, b, p50, p95))


def _ratio(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or before <= 0:
        return None
    return round(after / before, 4)


def _differences(a: NameTimes | None, b: NameTimes | None, p50: float | None, p95: float | None) -> list[str]:
    if a is None or b is None:
        return ["only_b" if a is None else "only_a"]
    found = []
    if a.attempts != b.attempts:
        found.append("count")
    if a.failed != b.failed:
        found.append("failed")
    if min(a.ran, b.ran) >= ENOUGH:
        if _moved(p50, a.p50_ms, b.p50_ms):
            found.append("p50")
        if _moved(p95, a.p95_ms, b.p95_ms):
            found.append("p95")
    return found


def _moved(ratio: float | None, before: float | None, after: float | None) -> bool:
    if ratio is None or before is None or after is None:
        return False
    return abs(after - before) >= SLOWER_MS and not 1 / SLOWER < ratio < SLOWER


def _weight(row: ComparedRow) -> float:
    """How far up a row belongs: more failures first, then what is on one side only, then what got slower or faster."""
    if not row.differs:
        return 0.0
    failed = abs((row.b.failed if row.b else 0) - (row.a.failed if row.a else 0))
    if failed:
        return 1000.0 + failed
    if row.a is None or row.b is None:
        return 500.0
    if "p95" not in row.differs and "p50" not in row.differs:
        return 1.0
    return 100.0 + max(abs(math.log(ratio)) if ratio else 0.0 for ratio in (row.p50_ratio, row.p95_ratio))

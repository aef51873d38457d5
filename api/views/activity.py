"""How busy a session was over time: attempts running and waiting, finished and failed, in equal bins.

``running`` and ``waiting`` are averages over a bin, exact however short an attempt was: the time that attempts
spent in it, over its length. An attempt without an end counts until ``until_ns``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from api.index.outcome import FAILED
from api.views.durations import lives
from api.views.task_codes import Rows, TaskCodes

Floats = NDArray[np.float64]


class Activity(Struct, frozen=True):
    """Bin ``i`` covers ``bin_ms`` from ``start_ms + i * bin_ms`` on. Empty lists where nothing has a time."""

    start_ms: float
    bin_ms: float
    running: list[float]
    waiting: list[float]
    finished: list[int]
    failed: list[int]


NOTHING = Activity(0, 0, [], [], [], [])


def activity(codes: TaskCodes, rows: Rows, bins: int, until_ns: int = 0) -> Activity:
    """The activity of ``rows``; ``until_ns`` 0: until the last time that is known."""
    life = lives(codes, rows)
    began = np.where(life.created > 0, life.created, life.running)
    timed = began > 0
    if not timed.any():
        return NOTHING
    began, running, ended = began[timed], life.running[timed], life.ended[timed]
    first = int(began.min())
    last = max(int(began.max()), int(running.max()), int(ended.max()), min(until_ns, 2**63 - 1), first + 1_000_000)
    edges = np.linspace(0.0, (last - first) / 1e9, bins + 1)

    def since(times: NDArray[np.int64], unset: float) -> Floats:
        return np.where(times > 0, (times - first) / 1e9, unset)

    end = since(ended, edges[-1])
    run = since(running, np.inf)
    state = codes.outcome.state[rows][timed]
    over, broken = ended > 0, state == FAILED
    return Activity(
        start_ms=first / 1e6,
        bin_ms=(last - first) / 1e6 / bins,
        running=_average(np.minimum(run, end), end, edges),
        waiting=_average(since(began, 0.0), np.minimum(run, end), edges),
        finished=_counts(end[over & ~broken], edges),
        failed=_counts(end[over & broken], edges),
    )


def _average(start: Floats, end: Floats, edges: Floats) -> list[float]:
    """How many of the spans ``[start, end)`` each bin holds on average."""
    time_until = _time_since(np.sort(start), edges) - _time_since(np.sort(np.maximum(start, end)), edges)
    means: list[Any] = np.round(np.maximum(np.diff(time_until) / np.diff(edges), 0.0), 3).tolist()
    return means


def _time_since(moments: Floats, edges: Floats) -> Floats:
    """At each edge the time gone by since every moment before it, added up."""
    passed = np.searchsorted(moments, edges)
    sums = np.concatenate(([0.0], np.cumsum(moments)))
    return passed * edges - sums[passed]


def _counts(moments: Floats, edges: Floats) -> list[int]:
    counts: list[int] = np.histogram(moments, edges)[0].tolist()
    return counts

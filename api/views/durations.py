"""How long attempts ran and how they ended, by name: counts and percentiles, vectorised over the columns.

An attempt ran from its RUNNING until it finished or failed, implied failures included; one that never ran or
hasn't ended has no duration. Attempts of a session that names its tasks one by one (``train-0``, ``train-1``, …)
are put together by their function instead.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from api.index.outcome import FAILED, FINISHED, REPORTED
from api.views.summaries import labels
from api.views.task_codes import Coded, Rows, TaskCodes
from api.views.text import clipped
from pipeline.events import TASK_STATUS

CREATED, RUNNING = TASK_STATUS.index("PENDING_ARGS_AVAIL"), TASK_STATUS.index("RUNNING")
MAX_NAMES = 2000
"""More names than that are no names but numbers: then functions say more."""
QUANTILES = (0.5, 0.95, 0.99, 1.0)

GroupedBy = Literal["name", "function"]
Times = NDArray[np.int64]


class NameTimes(Struct, frozen=True):
    """The attempts of one name. ``ran`` of them have a duration; without any the times are None."""

    name: str
    attempts: int
    failed: int
    ran: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    total_ms: float


class Lives(Struct, frozen=True):
    """When each of some rows was created, began to run and ended, in ns; 0 where it didn't."""

    created: Times
    running: Times
    ended: Times


def lives(codes: TaskCodes, rows: Rows) -> Lives:
    """The times of ``rows``."""
    outcome = codes.outcome
    failed = np.where(outcome.cause[rows] == REPORTED, times_of(codes, FAILED, rows), outcome.implied_ns[rows])
    ended = np.where(failed > 0, failed, times_of(codes, FINISHED, rows))
    return Lives(times_of(codes, CREATED, rows), times_of(codes, RUNNING, rows), ended)


def times_of(codes: TaskCodes, state: int, rows: Rows) -> Times:
    """When each row reached a state, 0 where it didn't."""
    column = codes.tasks.times[state]
    if column is None:
        return np.zeros(len(rows), np.int64)
    times: Times = column.array(len(codes.tasks))[rows]
    return times


def named(codes: TaskCodes, rows: Rows, by_function: bool = False) -> tuple[Coded, GroupedBy]:
    """What the attempts are put together by: a code for each text. ``by_function``: whatever the names."""
    if not by_function:
        name = _dense(labels(codes, rows))
        if name is not None:
            return name, "name"
    function = codes.column("func_or_class_name", rows)
    return _dense(function) or _first_of(function), "function"


def _dense(column: Coded) -> Coded | None:
    """The same with codes from 0 on and one code a text; None where there are too many."""
    present, codes = np.unique(column.codes, return_inverse=True)
    return _merged(codes, [column.cell(code) for code in present.tolist()]) if len(present) <= MAX_NAMES else None


def _first_of(column: Coded) -> Coded:
    """The most frequent under their own text, the rest under one."""
    present, codes, sizes = np.unique(column.codes, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    cells = [column.cell(code) for code in present[order[:MAX_NAMES]].tolist()]
    return _merged(np.minimum(place, MAX_NAMES)[codes], [*cells, "(others)"])


def _merged(codes: NDArray[Any], cells: list[str | None]) -> Coded:
    """Codes of one text each: two of them may have shown the same."""
    known: dict[str, int] = {}
    to = np.array([known.setdefault(clipped(cell or ""), len(known)) for cell in cells], np.intp)
    return Coded(to[codes], list(known).__getitem__)


def by_name(codes: TaskCodes, rows: Rows, name: Coded) -> list[NameTimes]:
    """One entry a name, slowest (by its 95th percentile) first."""
    count = int(name.codes.max(initial=-1)) + 1
    attempts = np.bincount(name.codes, minlength=count)
    failed = np.bincount(name.codes[codes.outcome.state[rows] == FAILED], minlength=count)
    life = lives(codes, rows)
    ran = (life.running > 0) & (life.ended >= life.running)
    spent = (life.ended[ran] - life.running[ran]) / 1e6
    labels_ran = name.codes[ran]
    sizes = np.bincount(labels_ran, minlength=count)
    quantiles = _quantiles(labels_ran, spent, sizes)
    totals = np.bincount(labels_ran, spent, minlength=count)
    found = []
    for code, times in enumerate(quantiles.tolist()):
        p50, p95, p99, longest = times if sizes[code] else (None,) * len(QUANTILES)
        sums = int(attempts[code]), int(failed[code]), int(sizes[code])
        found.append(NameTimes(name.cell(code), *sums, p50, p95, p99, longest, round(float(totals[code]), 3)))
    return sorted(found, key=lambda times: (times.p95_ms is None, -(times.p95_ms or 0.0), times.name))


def _quantiles(group: NDArray[Any], values: NDArray[np.float64], sizes: NDArray[Any]) -> NDArray[np.float64]:
    """Each group's quantiles, between two values where they fall there; zeros for an empty group."""
    if not len(values):
        return np.zeros((len(sizes), len(QUANTILES)))
    ordered = values[np.lexsort((values, group))]
    start = np.cumsum(sizes) - sizes
    at = np.maximum(sizes - 1, 0)[:, None] * np.array(QUANTILES)
    below = np.floor(at).astype(np.intp)
    share = at - below
    last = len(ordered) - 1
    low = ordered[np.minimum(start[:, None] + below, last)]
    high = ordered[np.minimum(start[:, None] + np.ceil(at).astype(np.intp), last)]
    found = np.where(sizes[:, None] > 0, low + (high - low) * share, 0.0)
    return found.round(3)

"""Failed attempts, put together by what went wrong: the error's type and its telling line without ids and numbers.

Messages are kept once each, so a million failures of a few messages cost a few. Where nearly every one differs
the ``MAX_MESSAGES`` most frequent are read, and the rest is counted by type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from api.index.outcome import FAILED, JOB_ENDED, REPORTED, WORKER_DIED
from api.views.durations import lives
from api.views.task_codes import Coded, Rows, TaskCodes
from api.views.task_rows import error_message, task_id
from api.views.text import clipped, normalised, telling_line

MAX_MESSAGES = 10_000
MAX_EXAMPLE = 4000
MAX_NAMES = 5
UNREAD = "(other messages)"
"""Stands for the messages beyond ``MAX_MESSAGES``."""

Codes = NDArray[Any]


class Example(Struct, frozen=True):
    """One attempt of a group, its whole message (up to ``MAX_EXAMPLE`` characters) with it."""

    task_id: str
    attempt_number: int
    job_id: str | None
    actor_id: str | None
    message: str


class NameCount(Struct, frozen=True):
    """How many attempts of a name."""

    name: str
    count: int


class FailureGroup(Struct, frozen=True):
    """Attempts that failed alike. ``names`` are the most frequent of ``name_count``; times are of the failures, 0 if unknown."""

    error_type: str
    message: str
    count: int
    names: list[NameCount]
    name_count: int
    first_ms: float
    last_ms: float
    example: Example


class Failures(Struct, frozen=True):
    """``groups``: the largest of ``group_count``, which hold ``total`` attempts together."""

    total: int
    group_count: int
    groups: list[FailureGroup]


def failures(codes: TaskCodes, rows: Rows, name: Coded, limit: int) -> Failures:
    """The failures among ``rows``, whose names are ``name``; the ``limit`` largest groups."""
    broken = codes.outcome.state[rows] == FAILED
    failed, labels = rows[broken], name.codes[broken]
    if not len(failed):
        return Failures(0, 0, [])
    group, described = _groups(codes, failed)
    sizes = np.bincount(group, minlength=len(described))
    at_ns = lives(codes, failed).ended
    largest = sorted(range(len(described)), key=lambda code: (-int(sizes[code]), described[code]))
    return Failures(
        total=len(failed),
        group_count=len(described),
        groups=[
            _group(codes, described[code], failed[own], at_ns[own], Coded(labels[own], name.cell))
            for code in largest[:limit]
            for own in (group == code,)
        ],
    )


def failure_counts(codes: TaskCodes, rows: Rows) -> dict[tuple[str, str], int]:
    """How many attempts failed of each kind: by error type and telling line, as ``failures`` puts them together."""
    failed = rows[codes.outcome.state[rows] == FAILED]
    if not len(failed):
        return {}
    group, described = _groups(codes, failed)
    return dict(zip(described, np.bincount(group, minlength=len(described)).tolist(), strict=True))


def _groups(codes: TaskCodes, failed: Rows) -> tuple[Codes, list[tuple[str, str]]]:
    """Each row's group, and what each group is: error type and normalised line."""
    kinds = codes.column("error_type", failed)
    said = _messages(codes, failed)
    width = int(said.max()) + 1
    keys, where, inverse, counts = np.unique(
        kinds.codes.astype(np.int64) * width + said, return_index=True, return_inverse=True, return_counts=True
    )
    read = set(np.argsort(-counts, kind="stable")[:MAX_MESSAGES].tolist())
    known: dict[tuple[str, str], int] = {}
    of_key = np.empty(len(keys), np.intp)
    for key, (code, row) in enumerate(zip((keys // width).tolist(), failed[where].tolist(), strict=True)):
        line = normalised(telling_line(error_message(codes, row) or "")) if key in read else UNREAD
        of_key[key] = known.setdefault((clipped(kinds.cell(code) or ""), line), len(known))
    return of_key[inverse], list(known)


def _messages(codes: TaskCodes, failed: Rows) -> Codes:
    """A number for each row's message: equal numbers mean equal messages, or nearly so for implied failures."""
    tasks, count = codes.tasks, len(codes.tasks)
    cause = codes.outcome.cause[failed]
    by_worker = len(tasks.errors) + tasks.worker.array(count)[failed].astype(np.int64)
    by_job = len(tasks.errors) + len(tasks.workers) + tasks.job.array(count)[failed].astype(np.int64)
    reported = tasks.error.array(count)[failed].astype(np.int64)
    return np.select([cause == REPORTED, cause == WORKER_DIED, cause == JOB_ENDED], [reported, by_worker, by_job])


def _group(codes: TaskCodes, what: tuple[str, str], rows: Rows, at_ns: Codes, name: Coded) -> FailureGroup:
    counts = np.bincount(name.codes)
    most = np.argsort(-counts, kind="stable")[:MAX_NAMES]
    timed = at_ns[at_ns > 0]
    return FailureGroup(
        error_type=what[0],
        message=what[1],
        count=len(rows),
        names=[NameCount(name.cell(code), int(counts[code])) for code in most.tolist() if counts[code]],
        name_count=int(np.count_nonzero(counts)),
        first_ms=int(timed.min(initial=2**63 - 1)) / 1e6 if len(timed) else 0,
        last_ms=int(timed.max(initial=0)) / 1e6,
        example=_example(codes, rows, at_ns),
    )


def _example(codes: TaskCodes, rows: Rows, at_ns: Codes) -> Example:
    """The last one that failed."""
    row = int(rows[np.argmax(at_ns)])
    one = np.array([row])
    return Example(
        task_id=task_id(codes, row),
        attempt_number=int(codes.tasks.attempt.cells[row]),
        job_id=codes.column("job_id", one).cells()[0],
        actor_id=codes.column("actor_id", one).cells()[0],
        message=clipped(error_message(codes, row) or "", MAX_EXAMPLE),
    )

"""A session at a glance: how much of what, in which states, what failed, what was slow, when it was busy.

``counts`` is what one line of a list shows; ``overview`` is a whole page. Both are pure functions of the index.
Attempts are counted as Ray's lists count them: retries each, drivers not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from msgspec import Struct

from api.index.nodes import Node
from api.index.session_index import SessionIndex
from api.query.query import Row
from api.views.activity import Activity, activity
from api.views.durations import GroupedBy, NameTimes, by_name, named
from api.views.failures import Failures, failures
from api.views.jobs import jobs_rest
from api.views.nodes import state_message
from api.views.task_codes import Rows, TaskCodes
from api.views.tasks import task_codes
from api.views.text import clipped
from pipeline.events import TASK_STATUS

MAX_NODES = 200
MAX_JOBS = 200
MAX_NAMES = 200
MAX_GROUPS = 50
MAX_SAID = 2000
"""Characters of what a failed job says: its beginning, and its end, where the driver's traceback stands."""
_BEGINNING = 300
_MS = 1_000_000


class Counts(Struct, frozen=True):
    """How many of each state, and the first and last time that anything tells of (ms; 0 where nothing does)."""

    first_ms: int = 0
    last_ms: int = 0
    tasks: dict[str, int] = {}
    actors: dict[str, int] = {}
    jobs: dict[str, int] = {}
    nodes: dict[str, int] = {}


class NodeLine(Struct, frozen=True):
    """One node."""

    node_id: str
    ip: str
    is_head: bool
    state: str
    message: str
    start_ms: int
    end_ms: int
    resources: dict[str, float]


class JobLine(Struct, frozen=True):
    """One job, as Ray's ``/api/jobs/`` tells of it."""

    job_id: str | None
    submission_id: str | None
    status: str
    entrypoint: str
    message: str
    start_ms: int
    end_ms: int


class Overview(Struct, frozen=True):
    """A page. Lists hold the first of as many as ``counts``, ``name_count`` and ``failures`` say."""

    counts: Counts
    failures: Failures
    grouped_by: GroupedBy
    name_count: int
    names: list[NameTimes]
    activity: Activity
    nodes: list[NodeLine]
    jobs: list[JobLine]


def counts(index: SessionIndex) -> Counts:
    """One line of a list."""
    codes = task_codes(index)
    return _counts(index, codes, codes.listed(exclude_driver=True), jobs_rest(index))


def overview(index: SessionIndex, bins: int, until_ns: int = 0) -> Overview:
    """A page; the picture has ``bins`` bins and shows what hasn't ended up to ``until_ns`` (0: to the last time known)."""
    codes = task_codes(index)
    rows = codes.listed(exclude_driver=True)
    jobs = jobs_rest(index)
    known = _counts(index, codes, rows, jobs)
    name, grouped_by = named(codes, rows)
    times = by_name(codes, rows, name)
    return Overview(
        counts=known,
        failures=failures(codes, rows, name, MAX_GROUPS),
        grouped_by=grouped_by,
        name_count=len(times),
        names=times[:MAX_NAMES],
        activity=activity(codes, rows, bins, until_ns or known.last_ms * _MS),
        nodes=_node_lines(index),
        jobs=_job_lines(jobs),
    )


def states(codes: TaskCodes, rows: Rows) -> dict[str, int]:
    """How many of ``rows`` are in each state."""
    numbers = np.bincount(codes.outcome.state[rows], minlength=len(TASK_STATUS)).tolist()
    return {TASK_STATUS[state]: number for state, number in enumerate(numbers) if number}


def _counts(index: SessionIndex, codes: TaskCodes, rows: Rows, jobs: list[Row]) -> Counts:
    nodes = list(index.nodes.values())
    actors = index.actors.values()
    first = [
        *_task_times(codes, rows, first=True),
        *(job["start_time"] or 0 for job in jobs),
        *(node.definition.start_time_ms for node in nodes if node.definition is not None),
    ]
    last = [
        *_task_times(codes, rows, first=False),
        *(max(job["start_time"] or 0, job["end_time"] or 0) for job in jobs),
        *(node.end_ms for node in nodes),
        *(actor.timestamp_ns // _MS for actor in actors),
    ]
    return Counts(
        first_ms=min(filter(None, first), default=0),
        last_ms=max([*first, *last], default=0),
        tasks=states(codes, rows),
        actors=_tally(actor.state for actor in actors),
        jobs=_tally(job["status"] for job in jobs),
        nodes=_tally("ALIVE" if node.is_alive else "DEAD" for node in nodes),
    )


def _task_times(codes: TaskCodes, rows: Rows, first: bool) -> list[int]:
    """The first or the last time that attempts tell of each state, in ms."""
    found = []
    for column in codes.tasks.times:
        if column is not None:
            times = column.array(len(codes.tasks))[rows]
            times = times[times > 0]
            if len(times):
                found.append(int(times.min() if first else times.max()) // _MS)
    return found


def _tally(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(map(clipped, values)).items()))


def _node_lines(index: SessionIndex) -> list[NodeLine]:
    lines = [_node_line(node) for node in index.nodes.values()]
    lines.sort(key=lambda line: (not line.is_head, line.start_ms, line.node_id))
    return lines[:MAX_NODES]


def _node_line(node: Node) -> NodeLine:
    what = node.definition
    shown = ("CPU", "GPU", "memory", "object_store_memory")
    return NodeLine(
        node_id=node.node_id.hex(),
        ip=clipped(what.node_ip_address) if what is not None else "",
        is_head=node.is_head,
        state="ALIVE" if node.is_alive else "DEAD",
        message=clipped(state_message(node) or ""),
        start_ms=what.start_time_ms if what is not None else 0,
        end_ms=node.end_ms,
        resources={name: node.resources[name] for name in shown if name in node.resources},
    )


def _job_lines(jobs: list[Row]) -> list[JobLine]:
    lines = [
        JobLine(
            job_id=job["job_id"],
            submission_id=clipped(job["submission_id"]) if job["submission_id"] else None,
            status=clipped(job["status"]),
            entrypoint=clipped(job["entrypoint"] or ""),
            message=_said(job),
            start_ms=job["start_time"] or 0,
            end_ms=job["end_time"] or 0,
        )
        for job in jobs
    ]
    lines.sort(key=lambda line: (line.status != "FAILED", -line.start_ms))
    return lines[:MAX_JOBS]


def _said(job: Row) -> str:
    message: str = job["message"] or ""
    if job["status"] != "FAILED":
        return clipped(message)
    if len(message) > MAX_SAID:
        message = f"{message[:_BEGINNING]} … {message[_BEGINNING - MAX_SAID :]}"
    return clipped(message, MAX_SAID + 3)

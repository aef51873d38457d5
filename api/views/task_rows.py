"""Rows of a task answer: dicts with Ray's columns, made for the few attempts that are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from api.index.outcome import FAILED, FINISHED, JOB_ENDED, REPORTED, WORKER_DIED, job_ended_message, worker_died_message
from api.index.tasks import LOG_FIELDS, TASK_ID_BYTES
from api.query.paging import as_rows
from api.query.query import Row
from api.query.schemas import TASKS
from api.views.log_offsets import left_out
from api.views.task_codes import Coded, Rows, TaskCodes
from pipeline.events import TASK_STATUS

CREATED, RUNNING = TASK_STATUS.index("PENDING_ARGS_AVAIL"), TASK_STATUS.index("RUNNING")
_COLOURS = re.compile(r"\x1b[^m]*m")


def make_rows(codes: TaskCodes, rows: Rows, detail: bool) -> list[Row]:
    """The rows of an answer, in the order given."""
    shown = TASKS.shown(detail)
    return as_rows(shown, make_cells(codes, rows, shown))


def make_cells(codes: TaskCodes, rows: Rows, columns: Iterable[str]) -> list[list[Any]]:
    """What some columns show of some rows, by column. Cells of one kind may be one object."""
    return [_cells(codes, name, rows) for name in columns]


def _cells(codes: TaskCodes, name: str, rows: Rows) -> list[Any]:
    if name in TIMES:
        return [None if at != at else at for at in times_ms(codes, rows, *TIMES[name]).tolist()]
    if name == "error_message":
        return Coded(*error_codes(codes, rows)).cells()
    if name in _IDS:
        return _ids(
            getattr(codes.tasks, _IDS[name]).array(len(codes.tasks))[rows], nil="" if name != "task_id" else None
        )
    if name == "task_log_info":
        added = left_out(codes, rows, codes.log_stem)
        return [_task_log_info(codes, row, added.get(row, {})) for row in rows.tolist()]
    cell = _OWN.get(name)
    if cell is None:
        return codes.column(name, rows).cells()
    return [cell(codes, row) for row in rows.tolist()]


def _ids(ids: NDArray[np.uint8], nil: str | None) -> list[str]:
    text, width = ids.tobytes().hex(), 2 * TASK_ID_BYTES
    shown = [text[at : at + width] for at in range(0, len(text), width)]
    return shown if nil is None else [nil if each == _NIL else each for each in shown]


def times_ms(codes: TaskCodes, rows: Rows, *states: int) -> NDArray[np.float64]:
    """When attempts came into the first of ``states`` that they were in, as Ray shows it; NaN where in none."""
    tasks, outcome = codes.tasks, codes.outcome
    count = len(tasks)
    mask = tasks.mask.array(count)[rows]
    found = np.full(len(rows), np.nan)
    for state in reversed(states):
        column = tasks.times[state]
        at_ns = column.array(count)[rows] if column is not None else np.zeros(len(rows), np.int64)
        there = (mask >> state & 1).astype(np.bool_)
        if state == FAILED:
            implied = ~there & (outcome.cause[rows] != REPORTED)
            at_ns = np.where(implied, outcome.implied_ns[rows], at_ns)
            there |= implied
        # Ray floors an integer by a float: whole milliseconds, as a float.
        np.copyto(found, np.floor_divide(at_ns.astype(np.float64), 1e6), where=there)
    return found


def error_codes(codes: TaskCodes, rows: Rows) -> tuple[NDArray[np.int64], Callable[[int], Any]]:
    """Why attempts failed: a number for each message, and the message of a number."""
    tasks, outcome = codes.tasks, codes.outcome
    count = len(tasks)
    cause = outcome.cause[rows].astype(np.int64)
    reported = np.where(tasks.error_type.array(count)[rows] > 0, tasks.error.array(count)[rows].astype(np.int64) + 1, 0)
    whose = np.choose(cause, (reported, tasks.worker.array(count)[rows], tasks.job.array(count)[rows]))
    kinds = np.where(outcome.state[rows] == FAILED, 1 + cause + 3 * whose, 0)
    _, first, numbers = np.unique(kinds, return_index=True, return_inverse=True)
    return numbers, lambda number: error_message(codes, int(rows[first[number]]))


def task_id(codes: TaskCodes, row: int) -> str:
    """An attempt's task."""
    return codes.tasks.task_id[row].hex()


def parent_task_id(codes: TaskCodes, row: int) -> str:
    """The task that made it; empty where no definition says."""
    parent = codes.tasks.parent_id[row]
    return parent.hex() if any(parent) else ""


def state_times(codes: TaskCodes, row: int) -> list[tuple[int, int]]:
    """The states an attempt went through and when (ns), in the order of their numbers, implied failure included."""
    known = codes.state_times.get(row)
    if known is not None:
        return known
    tasks, outcome = codes.tasks, codes.outcome
    mask = tasks.mask.cells[row]
    times = codes.state_times[row] = []
    for state, column in enumerate(tasks.times):
        if mask >> state & 1:
            times.append((state, column.cells[row] if column is not None else 0))
        elif state == FAILED and outcome.cause[row] != REPORTED:
            times.append((state, int(outcome.implied_ns[row])))
    return times


def _events(codes: TaskCodes, row: int) -> list[dict[str, Any]]:
    return [{"state": TASK_STATUS[state], "created_ms": _ms(at_ns)} for state, at_ns in state_times(codes, row)]


def _ms(at_ns: int) -> float:
    # Ray floors an integer by a float: whole milliseconds, as a float.
    return at_ns // 1e6


def _time_of(*states: int) -> Callable[[TaskCodes, int], float | None]:
    def cell(codes: TaskCodes, row: int) -> float | None:
        times = dict(state_times(codes, row))
        return next((_ms(times[state]) for state in states if state in times), None)

    return cell


creation_time_ms = _time_of(CREATED)
TIMES = {"creation_time_ms": (CREATED,), "start_time_ms": (RUNNING,), "end_time_ms": (FAILED, FINISHED)}
"""Columns that show a time, and the states that it is the time of."""
_IDS = {"task_id": "task_id", "parent_task_id": "parent_id"}
_NIL = "00" * TASK_ID_BYTES


def profiling_data(codes: TaskCodes, row: int) -> dict[str, Any]:
    """Ray's ProfileEvents, times in ms; empty where no span was told of."""
    tasks = codes.tasks
    if not tasks.component.cells[row]:
        return {}
    component_type, component_id, address = tasks.components[tasks.component.cells[row]]
    return {
        "component_type": component_type,
        "component_id": component_id.hex(),
        "node_ip_address": address,
        "events": [
            {
                "start_time": span.start_ns / 1e6,
                "end_time": span.end_ns / 1e6,
                "extra_data": _extra_data(span.extra_data),
                "event_name": span.event_name,
            }
            for span in tasks.spans_of(row)
        ],
    }


def _extra_data(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return {}


def _task_log_info(codes: TaskCodes, row: int, added: dict[str, Any]) -> dict[str, Any] | None:
    tasks = codes.tasks
    info: dict[str, Any] = {}
    for field in LOG_FIELDS:
        column = tasks.log_info.get(field)
        code = column.cells[row] if column is not None else 0
        if code:
            info[field] = tasks.log_files.values[code] if field.endswith("file") else code - 1
        elif field in added:
            info[field] = added[field]
    return info or None


def error_message(codes: TaskCodes, row: int) -> str | None:
    """Why an attempt failed, in Ray's words; None for one that hasn't."""
    tasks, outcome = codes.tasks, codes.outcome
    if outcome.state[row] != FAILED:
        return None
    match int(outcome.cause[row]):
        case kind if kind == WORKER_DIED:
            worker_id = tasks.workers.values[tasks.worker.cells[row]]
            message = worker_died_message(worker_id, outcome.dead_workers[worker_id])
        case kind if kind == JOB_ENDED:
            message = job_ended_message(tasks.jobs.values[tasks.job.cells[row]])
        case _ if tasks.error_type.cells[row]:
            message = tasks.errors[tasks.error.cells[row]]
        case _:
            return None
    return _COLOURS.sub("", message)


_OWN: dict[str, Callable[[TaskCodes, int], Any]] = {
    "events": _events,
    "profiling_data": profiling_data,
}

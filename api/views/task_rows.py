"""Rows of a task answer: dicts with Ray's columns, made for the few attempts that are shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from api.index.outcome import FAILED, FINISHED, JOB_ENDED, REPORTED, WORKER_DIED, job_ended_message, worker_died_message
from api.index.tasks import LOG_FIELDS
from api.query import Row
from api.schemas import TASKS
from api.views.task_codes import Rows, TaskCodes
from pipeline.events import TASK_STATUS

CREATED, RUNNING = TASK_STATUS.index("PENDING_ARGS_AVAIL"), TASK_STATUS.index("RUNNING")
_COLOURS = re.compile(r"\x1b[^m]*m")


def make_rows(codes: TaskCodes, rows: Rows, detail: bool) -> list[Row]:
    """The rows of an answer, in the order given."""
    shown = TASKS.shown(detail)
    columns = [_cells(codes, name, rows) for name in shown]
    return [dict(zip(shown, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _cells(codes: TaskCodes, name: str, rows: Rows) -> list[Any]:
    cell = _OWN.get(name)
    if cell is None:
        return codes.column(name, rows).cells()
    return [cell(codes, row) for row in rows.tolist()]


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


def _task_log_info(codes: TaskCodes, row: int) -> dict[str, Any] | None:
    tasks = codes.tasks
    info: dict[str, Any] = {}
    for field in LOG_FIELDS:
        column = tasks.log_info.get(field)
        code = column.cells[row] if column is not None else 0
        if code:
            info[field] = tasks.log_files.values[code] if field.endswith("file") else code - 1
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
    "task_id": task_id,
    "parent_task_id": parent_task_id,
    "events": _events,
    "profiling_data": profiling_data,
    "creation_time_ms": creation_time_ms,
    "start_time_ms": _time_of(RUNNING),
    "end_time_ms": _time_of(FAILED, FINISHED),
    "task_log_info": _task_log_info,
    "error_message": error_message,
}

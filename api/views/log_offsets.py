"""Where a task's part of its worker's log begins, and in which file: what export API files leave out of it.

They tell where the part ends. A worker runs one such task after the other and writes ``:task_name:…`` into both of its
streams before each; the first line is ``:job_id:…``. So a part begins a line after the end of the part before it. That
is exact unless the worker wrote something between two tasks, or a record is missing: then what is shown begins too early,
never too late. The file's name is that of the worker's log, in the folder of the session.

Pure; vectorised over the workers of the rows that are shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.views.task_codes import Rows, TaskCodes

STREAMS = (("stdout", "out"), ("stderr", "err"))
_FIRST_LINE = len(":job_id:01000000\n")
_Ints = NDArray[np.int64]


def left_out(codes: TaskCodes, rows: Rows, log_stem: Callable[[bytes], str]) -> dict[int, dict[str, Any]]:
    """By row, the fields that nobody told; ``log_stem`` gives a worker's log without ``.out``, empty where unknown."""
    tasks = codes.tasks
    ends, files = tasks.log_info.get("stdout_end"), tasks.log_info.get("stdout_file")
    if ends is None or files is None:
        return {}
    count = len(tasks)
    workers = tasks.worker.array(count)
    ended = (ends.array(count) > 0) & (workers > 0)
    asked = rows[(ended & (files.array(count) == 0))[rows]]
    if not len(asked):
        return {}
    beside = np.flatnonzero(ended & np.isin(workers, np.unique(workers[asked])))
    starts = _starts(codes, beside)
    stems = {code: log_stem(tasks.workers.values[code]) for code in np.unique(workers[asked]).tolist()}
    return {row: _told(stems[int(workers[row])], starts.get(row)) for row in asked.tolist()}


def _told(stem: str, starts: tuple[int, int] | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for at, (stream, suffix) in enumerate(STREAMS):
        if stem:
            told[f"{stream}_file"] = f"{stem}.{suffix}"
        if starts is not None:
            told[f"{stream}_start"] = starts[at]
    return told


def _starts(codes: TaskCodes, rows: Rows) -> dict[int, tuple[int, int]]:
    """By row, where its part begins in both streams; none for one that doesn't fit after the part before it."""
    tasks, count = codes.tasks, len(codes.tasks)
    workers = tasks.worker.array(count)[rows]
    out, err = (tasks.log_info[f"{stream}_end"].array(count)[rows].astype(np.int64) - 1 for stream, _ in STREAMS)
    order = np.lexsort((err, out, workers))
    rows, workers, out, err = rows[order], workers[order], out[order], err[order]
    lines = _name_lines(codes, rows)
    begins = np.concatenate(([True], workers[1:] != workers[:-1]))
    starts = [_after(ends, begins) + lines for ends in (out, err)]
    fits = (starts[0] <= out) & (starts[1] <= err)
    found = zip(rows[fits].tolist(), starts[0][fits].tolist(), starts[1][fits].tolist(), strict=True)
    return {row: (at_out, at_err) for row, at_out, at_err in found}


def _after(ends: _Ints, begins: NDArray[np.bool_]) -> _Ints:
    before = np.concatenate(([0], ends[:-1]))
    return np.where(begins, _FIRST_LINE, before)


def _name_lines(codes: TaskCodes, rows: Rows) -> _Ints:
    """How long the line is that a worker writes before each task."""
    names = codes.column("name", rows)
    lengths = {code: len(f":task_name:{names.cell(code)}\n".encode()) for code in np.unique(names.codes).tolist()}
    return np.array([lengths[code] for code in names.codes.tolist()], np.int64)

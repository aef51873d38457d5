"""Where a task's log begins, which export API files leave out, follows from where the one before it ended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.captures import captures, live_rows
from support.indexes import DETAIL, index_of, index_of_capture, sent
from support.taskset import JOBS, WORKERS, task_id

from api.index.session_index import SessionIndex
from api.views.tasks import list_tasks
from pipeline.events import Record, TaskDefinition, TaskLogInfo, TaskUpdate

JOB_LINE = len(":job_id:01000000\n")
FOLDER = "/tmp/ray/session_x/logs"


def ended(number: int, name: str, worker: int, out: int, err: int, **told: Any) -> list[Record]:
    ident = task_id(number)
    info = TaskLogInfo(stdout_end=out, stderr_end=err, **told)
    return [
        TaskDefinition(ident, 0, JOBS[0], type="NORMAL_TASK", language="PYTHON", name=name, func_or_class_name=name),
        TaskUpdate(ident, 0, JOBS[0], states=[], worker_id=WORKERS[worker], log_info=info),
    ]


def infos(records: list[Record], names: list[str] | None = None) -> dict[str, dict[str, Any]]:
    index = index_of(records)
    if names is not None:
        index.learn_processes("ab" * 28, names)
        index.tell_logs_folder(FOLDER)
    return {row["task_id"]: row["task_log_info"] for row in sent(list_tasks(index, DETAIL))["result"]}


def log_names(worker: int, job: str = "ffffffff") -> list[str]:
    return [f"worker-{WORKERS[worker].hex()}-{job}-77.{suffix}" for suffix in ("out", "err")]


def written(outputs: list[tuple[str, int, int]]) -> list[tuple[int, int, int, int]]:
    """Where each task's parts begin and end as a worker writes them: the model that Ray's own worker follows."""
    out = err = JOB_LINE
    parts = []
    for name, printed, warned in outputs:
        line = len(f":task_name:{name}\n".encode())
        out, err = out + line, err + line
        parts.append((out, out + printed, err, err + warned))
        out, err = out + printed, err + warned
    return parts


@given(st.lists(st.tuples(st.sampled_from(["f", "gg", "größer"]), st.integers(0, 50), st.integers(0, 5)), max_size=12))
def test_each_part_begins_a_line_after_the_one_before_whatever_is_printed(outputs: list[tuple[str, int, int]]) -> None:
    parts = written(outputs)
    records = [
        record
        for number, ((name, _, _), part) in enumerate(zip(outputs, parts, strict=True), 1)
        for record in ended(number, name, 0, part[1], part[3])
    ]
    found = infos(records[::-1])
    assert [
        (info["stdout_start"], info["stdout_end"], info["stderr_start"], info["stderr_end"])
        for number in range(1, len(outputs) + 1)
        for info in [found[task_id(number).hex()]]
    ] == parts


def test_workers_are_told_apart_and_files_named_after_each() -> None:
    (first,), (second,) = written([("f", 5, 0)]), written([("gg", 7, 1)])
    records = [*ended(1, "f", 0, first[1], first[3]), *ended(2, "gg", 1, second[1], second[3])]
    found = infos(records, [*log_names(0), *log_names(1, "01000000")])
    assert found[task_id(1).hex()] == {
        "stdout_file": f"{FOLDER}/worker-{WORKERS[0].hex()}-ffffffff-77.out",
        "stderr_file": f"{FOLDER}/worker-{WORKERS[0].hex()}-ffffffff-77.err",
        "stdout_start": first[0],
        "stdout_end": first[1],
        "stderr_start": first[2],
        "stderr_end": first[3],
    }
    assert "-01000000-77.out" in found[task_id(2).hex()]["stdout_file"]


def test_what_was_told_stays_and_counts_as_the_part_before() -> None:
    first, second = written([("f", 5, 0), ("gg", 7, 1)])
    known = ended(
        1, "f", 0, first[1], first[3], stdout_file="/x.out", stderr_file="/x.err", stdout_start=1, stderr_start=2
    )
    found = infos([*known, *ended(2, "gg", 0, second[1], second[3])])
    assert found[task_id(1).hex()]["stdout_start"] == 1
    assert found[task_id(2).hex()]["stdout_start"] == second[0]


def test_a_part_that_doesnt_fit_after_the_one_before_has_no_beginning() -> None:
    found = infos([*ended(1, "f", 0, 3, 3), *ended(2, "gg", 0, 100, 4)])
    assert set(found[task_id(1).hex()]) == {"stdout_end", "stderr_end"}


def test_without_an_end_or_a_worker_nothing_is_made_up() -> None:
    ident = task_id(1)
    what = TaskDefinition(ident, 0, JOBS[0], type="NORMAL_TASK", language="PYTHON", name="f", func_or_class_name="f")
    assert infos([what], log_names(0)) == {ident.hex(): None}
    homeless = TaskUpdate(ident, 0, JOBS[0], states=[], log_info=TaskLogInfo(stdout_end=50, stderr_end=50))
    assert set(infos([what, homeless], log_names(0))[ident.hex()]) == {"stdout_end", "stderr_end"}


def test_where_nobody_told_the_folder_of_logs_it_is_that_of_a_task_whose_file_is_known() -> None:
    known = f"{FOLDER}/{log_names(1)[0]}"
    index = index_of([*ended(1, "f", 0, 100, 100), *ended(2, "g", 1, 100, 100, stdout_start=36, stdout_file=known)])
    index.learn_processes("ab" * 28, log_names(0))
    found = {row["task_id"]: row["task_log_info"] for row in sent(list_tasks(index, DETAIL))["result"]}
    assert found[task_id(1).hex()]["stdout_file"] == f"{FOLDER}/{log_names(0)[0]}"


@pytest.mark.skipif(captures() is None, reason="the larger captures are elsewhere")
def test_a_recorded_sessions_parts_are_where_the_live_dashboard_said() -> None:
    folder = captures()
    assert folder is not None
    capture = folder / "export-api-files"
    index: SessionIndex = index_of_capture(capture)
    index.learn_processes("e9" * 28, [file.name for file in (capture / "logs").glob("worker-*")])
    live = live_rows(capture, "/api/v0/tasks?detail=1&limit=10000")
    told = next(row["task_log_info"] for row in live if row["task_log_info"])
    index.tell_logs_folder(told["stdout_file"].rpartition("/")[0])
    ours = {(row["task_id"], row["attempt_number"]): row for row in sent(list_tasks(index, DETAIL))["result"]}
    assert np.sum([row["task_log_info"] is not None for row in live]) > 10
    for row in live:
        assert ours[row["task_id"], row["attempt_number"]]["task_log_info"] == row["task_log_info"]

"""What the dashboard said of workers fills in what no record tells, gives way to what one does, and may be anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.indexes import DETAIL, index_of

from api.index.session_index import SessionIndex
from api.query.query import ListOptions
from api.snapshots import Snapshots
from api.views.told_workers import URL, told_workers
from api.views.workers import list_workers
from pipeline.dashboard.endpoints import Answer
from pipeline.events import (
    TASK_STATUS,
    DriverJobDefinition,
    DriverJobUpdate,
    NodeDefinition,
    Record,
    TaskDefinition,
    TaskUpdate,
    WorkerDefinition,
    WorkerTransition,
    WorkerUpdate,
)

JOB, NODE, WORKER = b"\2\0\0\0", b"\7" * 28, b"\x08" * 28
TASK, DRIVER = b"\4" * 20 + JOB, JOB + b"\xff" * 24
RUNNING, FINISHED = TASK_STATUS.index("RUNNING"), TASK_STATUS.index("FINISHED")
S = 1_000_000_000
TOLD_MS = 8_500
RAN: list[Record] = [
    NodeDefinition(NODE, "192.0.2.2"),
    DriverJobDefinition(JOB, 7, NODE),
    TaskDefinition(TASK, 0, JOB, "NORMAL_TASK", "PYTHON", "f", "f"),
    TaskUpdate(TASK, 0, JOB, [(RUNNING, 6 * S)], NODE, WORKER, worker_pid=12),
]


def told(**other: Any) -> dict[str, Any]:
    return {
        "worker_id": WORKER.hex(),
        "is_alive": False,
        "worker_type": "WORKER",
        "exit_type": "SYSTEM_ERROR",
        "node_id": NODE.hex(),
        "ip": "192.0.2.2",
        "pid": 12,
        "exit_detail": "it fell over",
        "worker_launch_time_ms": 1000,
        "worker_launched_time_ms": 2000,
        "start_time_ms": 3000,
        "end_time_ms": 7000,
        "debugger_port": None,
        "num_paused_threads": None,
    } | other


def snapshots(*rows: Any) -> Snapshots:
    body = json.dumps({"result": True, "msg": "", "data": {"result": {"result": rows}}})
    return Snapshots([Answer(URL, 200, "application/json", TOLD_MS, body)])


def told_index(records: list[Record], *rows: Any) -> SessionIndex:
    index = index_of(records)
    index.tell_workers(*told_workers(snapshots(*rows)))
    return index


def listed(index: SessionIndex, options: ListOptions = DETAIL) -> dict[str, dict[str, Any]]:
    return {row["worker_id"]: row for row in list_workers(index, options)["result"]}


def test_a_worker_is_shown_as_the_dashboard_last_said() -> None:
    assert listed(told_index(RAN, told()))[WORKER.hex()] == told()


def test_a_worker_of_which_nothing_else_tells_is_listed() -> None:
    other = told(worker_id="09" * 28, is_alive=True, exit_type=None, exit_detail=None, end_time_ms=0)
    assert listed(told_index(RAN, other))["09" * 28] == other


def test_a_task_that_ran_in_a_worker_that_died_has_failed_with_it() -> None:
    index = told_index(RAN, told())
    tasks = index.prepared_tasks()
    assert TASK_STATUS[tasks.outcome.state[0]] == "FAILED"
    assert index_of(RAN).prepared_tasks().outcome.state[0] == RUNNING


def test_what_a_record_says_of_a_worker_goes_before_the_dashboards_word() -> None:
    died = WorkerTransition("DEAD", 8 * S, end_time_ms=8000, exit_type="INTENDED_USER_EXIT", exit_detail="done")
    records: list[Record] = [WorkerDefinition(WORKER, NODE, "WORKER", 12), WorkerUpdate(WORKER, JOB, [died])]
    row = listed(told_index(RAN + records, told()))[WORKER.hex()]
    assert (row["exit_type"], row["exit_detail"], row["end_time_ms"]) == ("INTENDED_USER_EXIT", "done", 8000)


def test_a_worker_that_lived_at_the_last_answer_has_ended_with_its_job() -> None:
    alive = told(is_alive=True, exit_type=None, exit_detail=None, end_time_ms=0)
    assert listed(told_index(RAN, alive))[WORKER.hex()]["is_alive"]
    row = listed(told_index([*RAN, DriverJobUpdate(JOB, True, 0, 9000)], alive))[WORKER.hex()]
    assert (row["is_alive"], row["end_time_ms"], row["start_time_ms"]) == (False, 9000, 3000)


def test_a_worker_that_outlived_its_job_when_the_dashboard_was_asked_is_believed_to_live() -> None:
    alive = told(is_alive=True, exit_type=None, exit_detail=None, end_time_ms=0)
    assert listed(told_index([*RAN, DriverJobUpdate(JOB, True, 0, 8000)], alive))[WORKER.hex()] == alive


def test_a_driver_that_said_goodbye_ended_by_its_own_will() -> None:
    own = b"\xff" * 20 + JOB
    said: list[Record] = [
        DriverJobUpdate(JOB, True, 0, 9000),
        TaskDefinition(own, 0, JOB, "DRIVER_TASK", "PYTHON", "", ""),
        TaskUpdate(own, 0, JOB, [(RUNNING, 5 * S), (FINISHED, 9 * S)]),
    ]
    row = listed(index_of(RAN + said))[DRIVER.hex()]
    assert (row["exit_type"], row["exit_detail"]) == ("INTENDED_USER_EXIT", "Shutdown by ray.shutdown().")
    assert row["start_time_ms"] == 5000


def test_nothing_is_made_up_of_a_driver_that_vanished() -> None:
    row = listed(index_of([*RAN, DriverJobUpdate(JOB, True, 0, 9000)]))[DRIVER.hex()]
    assert (row["is_alive"], row["exit_type"], row["exit_detail"]) == (False, None, None)


def test_an_answer_that_takes_back_what_it_said_is_believed() -> None:
    index = told_index(RAN, told())
    index.tell_workers({}, TOLD_MS)
    assert listed(index)[WORKER.hex()]["exit_type"] is None


@pytest.mark.parametrize(
    "row",
    [
        {},
        [],
        None,
        told(worker_id="not hex"),
        told(worker_id="08"),
        told(worker_id=8),
        told(worker_type="SOMETHING"),
        told(worker_type=["WORKER"]),
    ],
)
def test_a_row_that_is_no_workers_is_left_out(row: Any) -> None:
    assert told_workers(snapshots(row)) == ({}, TOLD_MS)


@pytest.mark.parametrize("value", ["7", -1, 2**70, 1.5, True, [1], None])
@pytest.mark.parametrize("name", ["pid", "worker_launch_time_ms", "start_time_ms", "end_time_ms"])
def test_a_figure_that_is_none_counts_as_unknown(name: str, value: Any) -> None:
    (worker,) = told_workers(snapshots(told(**{name: value})))[0].values()
    assert worker.definition is not None
    figures = {
        "pid": worker.definition.pid,
        "worker_launch_time_ms": worker.launch_ms,
        "start_time_ms": worker.start_ms,
        "end_time_ms": worker.end_ms,
    }
    assert figures[name] == 0


@pytest.mark.parametrize("value", [7, ["x"], {"a": 1}, "NO_SUCH_EXIT"])
def test_an_exit_type_that_is_none_is_not_shown(value: Any) -> None:
    row = listed(told_index(RAN, told(exit_type=value, exit_detail=7)))[WORKER.hex()]
    assert (row["exit_type"], row["exit_detail"]) == (None, None)

"""Every worker process that anything tells of is listed once, with what is known of it and nothing made up."""

from __future__ import annotations

from typing import Any

from support.indexes import DETAIL, index_of

from api.index.workers import UNKNOWN_MS
from api.query.query import Filter, ListOptions
from api.views import actors, workers
from pipeline.events import (
    TASK_STATUS,
    ActorDefinition,
    ActorTransition,
    ActorUpdate,
    DriverJobDefinition,
    DriverJobUpdate,
    NodeDefinition,
    NodeTransition,
    NodeUpdate,
    Record,
    TaskDefinition,
    TaskProfile,
    TaskUpdate,
    WorkerDefinition,
    WorkerTransition,
    WorkerUpdate,
)

JOB, NODE, WORKER = b"\2\0\0\0", b"\7" * 28, b"\x08" * 28
TASK = b"\4" * 20 + JOB
SUBMITTED, RUNNING = TASK_STATUS.index("SUBMITTED_TO_WORKER"), TASK_STATUS.index("RUNNING")
ACTOR = b"\3" * 12 + JOB
RAN: list[Record] = [
    NodeDefinition(NODE, "192.0.2.2"),
    TaskDefinition(TASK, 0, JOB, "NORMAL_TASK", "PYTHON", "f", "f"),
    TaskUpdate(TASK, 0, JOB, [(SUBMITTED, 5)], NODE, WORKER),
    TaskUpdate(TASK, 0, JOB, [(RUNNING, 6)], worker_pid=12),
]
KEPT: list[Record] = [
    ActorDefinition(ACTOR, JOB, "Keeper", is_detached=True),
    ActorUpdate(ACTOR, [ActorTransition("ALIVE", 7_000_000_000, NODE, b"", 12)]),
]


def rows(records: list[Record]) -> dict[str, Any]:
    return {row["worker_id"]: row for row in workers.list_workers(index_of(records), DETAIL)["result"]}


def test_a_worker_that_only_a_task_tells_of_is_listed_with_its_node_and_process() -> None:
    assert rows(RAN) == {
        WORKER.hex(): {
            "worker_id": WORKER.hex(),
            "is_alive": True,
            "worker_type": "WORKER",
            "exit_type": None,
            "node_id": NODE.hex(),
            "ip": "192.0.2.2",
            "pid": 12,
            "exit_detail": None,
            "worker_launch_time_ms": UNKNOWN_MS,
            "worker_launched_time_ms": UNKNOWN_MS,
            "start_time_ms": 0,
            "end_time_ms": 0,
            "debugger_port": None,
            "num_paused_threads": None,
        }
    }


def test_such_a_worker_ends_with_its_job_or_its_node_whichever_ends_first() -> None:
    job_ends, node_ends = DriverJobUpdate(JOB, True, 0, 90), NodeUpdate(NODE, [NodeTransition("DEAD", 80_000_000)])
    for records, end in (([job_ends], 90), ([node_ends], 80), ([job_ends, node_ends], 80)):
        row = rows([*RAN, *records])[WORKER.hex()]
        assert (row["is_alive"], row["end_time_ms"]) == (False, end)


def test_an_actor_that_outlives_its_job_keeps_its_worker_alive() -> None:
    over = DriverJobUpdate(JOB, True, 0, 90)
    assert rows([*RAN, *KEPT, over])[WORKER.hex()]["is_alive"]
    killed = ActorUpdate(ACTOR, [ActorTransition("DEAD", 8_000_000_000, NODE, b"", 12)])
    assert not rows([*RAN, *KEPT, over, killed])[WORKER.hex()]["is_alive"]


def test_rays_own_record_of_a_worker_counts_over_what_tasks_tell() -> None:
    own: list[Record] = [
        WorkerDefinition(WORKER, NODE, "WORKER", 12),
        WorkerUpdate(WORKER, JOB, [WorkerTransition("ALIVE", 1_000_001, 3, 4, 5)]),
        WorkerUpdate(WORKER, JOB, [WorkerTransition("DEAD", 9_000_001, 0, 0, 0, 9, "SYSTEM_ERROR", "gone")]),
    ]
    [row] = rows([*RAN, *own]).values()
    assert [row[name] for name in ("worker_launch_time_ms", "worker_launched_time_ms")] == [3, 4]
    assert [row[name] for name in ("start_time_ms", "end_time_ms", "is_alive")] == [5, 9, False]
    assert [row[name] for name in ("exit_type", "exit_detail")] == ["SYSTEM_ERROR", "gone"]


def test_a_dead_worker_never_comes_back() -> None:
    told = [
        WorkerUpdate(WORKER, JOB, [WorkerTransition("DEAD", 5, exit_type="USER_ERROR")]),
        WorkerUpdate(WORKER, JOB, [WorkerTransition("ALIVE", 9)]),
    ]
    assert not rows(list(told))[WORKER.hex()]["is_alive"]


def test_a_driver_known_from_its_job_and_its_profile_is_one_row() -> None:
    worker_id = JOB + b"\xff" * 24
    profile = TaskProfile(b"\xff" * 20 + JOB, 0, JOB, "driver", worker_id, "192.0.2.2", [])
    [row] = rows([DriverJobDefinition(JOB, 5, "e"), profile]).values()
    assert (row["worker_type"], row["pid"], row["ip"]) == ("DRIVER", 5, "192.0.2.2")
    [alone] = rows([profile]).values()
    assert (alone["worker_id"], alone["worker_type"], alone["is_alive"]) == (worker_id.hex(), "DRIVER", True)


def test_an_actors_worker_is_found_by_its_process_where_the_dialect_leaves_it_out() -> None:
    shown = actors.logical_actors(index_of([*RAN, *KEPT]))["actors"][ACTOR.hex()]
    assert shown["address"]["workerId"] == WORKER.hex()


def test_workers_are_sorted_limited_and_filtered_as_asked() -> None:
    told = [WorkerDefinition(bytes([number]) * 28, NODE, "WORKER", number) for number in (3, 1, 2)]
    index = index_of(list(told))
    listed = workers.list_workers(index, ListOptions(limit=2))
    assert [row["pid"] for row in listed["result"]] == [1, 2]
    assert (listed["total"], listed["num_after_truncation"], listed["num_filtered"]) == (3, 3, 3)
    found = workers.list_workers(index, ListOptions(filters=(Filter("pid", "=", "3"),)))
    assert [row["pid"] for row in found["result"]] == [3]
    assert (found["total"], found["num_filtered"]) == (3, 1)

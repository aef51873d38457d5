"""A table of many attempts answers in full, in Ray's order, within bounds, and says what it takes."""

from __future__ import annotations

import pytest
from support.taskset import JOBS, NODES, T0, WORKERS, driver_id, index_of_tasks, task_id

from api.index.session_index import SessionIndex
from api.query.query import Filter, ListOptions, SummaryOptions
from api.views.lineage import MAX_DEPTH, LineageTask, by_lineage
from api.views.summaries import MISSING_DATA, summarize_tasks
from api.views.tasks import list_tasks
from api.views.timeline import timeline
from pipeline.events import ProfileEvent, TaskDefinition, TaskLogInfo, TaskProfile, TaskUpdate

MANY = 12_000


def attempt(number: int, parent: bytes, name: str = "leaf", times: int = 0) -> list[object]:
    task = task_id(number)
    at_ns = T0 + number * 1_000_000
    return [
        TaskDefinition(task, times, JOBS[0], "NORMAL_TASK", "PYTHON", name, name, parent),
        TaskUpdate(task, times, JOBS[0], [(1, at_ns), (8, at_ns + 5), (11, at_ns + 9)], NODES[0], WORKERS[0], 42),
        TaskProfile(
            task, times, JOBS[0], "worker", WORKERS[0], "10.0.0.1", [ProfileEvent(at_ns, at_ns + 1, "ray.get")]
        ),
    ]


@pytest.fixture(scope="module")
def many() -> SessionIndex:
    """One task (the oldest) that made 11,999 others."""
    root = attempt(0, driver_id(JOBS[0]), "root")
    records = [*root, *(record for number in range(1, MANY) for record in attempt(number, task_id(0)))]
    return index_of_tasks(records)


def test_every_attempt_counts_and_the_limit_cuts_in_the_order_of_ids(many: SessionIndex) -> None:
    answer = list_tasks(many, ListOptions(limit=5))
    assert [row["task_id"] for row in answer["result"]] == [task_id(number).hex() for number in range(5)]
    assert (answer["total"], answer["num_after_truncation"], answer["num_filtered"]) == (MANY, MANY, MANY)
    last = list_tasks(many, ListOptions(filters=(Filter("task_id", "=", task_id(MANY - 1).hex().upper()),)))
    assert [row["task_id"] for row in last["result"]] == [task_id(MANY - 1).hex()]


@pytest.mark.parametrize("limit", [0, 1, 7, 10_000])
def test_ids_that_begin_alike_are_sorted_to_the_end(limit: int) -> None:
    alike = [b"\xff" * 8 + bytes([number]) * 12 + JOBS[0] for number in (3, 1, 2)]
    records = [TaskDefinition(task, 0, JOBS[0], "ACTOR_CREATION_TASK", "PYTHON", "A", "A") for task in alike]
    answer = list_tasks(index_of_tasks(records), ListOptions(limit=limit))
    assert [row["task_id"] for row in answer["result"]] == sorted(task.hex() for task in alike)[:limit]


def test_of_a_task_the_newest_attempt_comes_first() -> None:
    records = [record for times in (1, 0, 2) for record in attempt(1, driver_id(JOBS[0]), times=times)]
    only = ListOptions(limit=1, filters=(Filter("task_id", "=", task_id(1).hex()),))
    assert [row["attempt_number"] for row in list_tasks(index_of_tasks(records), only)["result"]] == [2]


def test_a_summary_by_name_counts_every_attempt(many: SessionIndex) -> None:
    answer = summarize_tasks(many, SummaryOptions())
    cluster = answer["result"]["node_id_to_summary"]["cluster"]
    assert cluster["summary"]["leaf"]["state_counts"] == {"FINISHED": MANY - 1}
    assert cluster["total_tasks"] == MANY
    assert answer["warnings"] is None


def test_a_summary_by_lineage_is_bounded_says_so_and_keeps_the_ancestors(many: SessionIndex) -> None:
    answer = summarize_tasks(many, SummaryOptions(summary_by="lineage"))
    (root,) = answer["result"]["node_id_to_summary"]["cluster"]["summary"]
    assert root["name"] == "root"
    assert root["state_counts"] == {"FINISHED": 10_001}
    shown = {child["key"] for child in root["children"][0]["children"]}
    assert shown == {task_id(number).hex() for number in range(MANY - 10_000, MANY)}
    assert answer["warnings"] == [MISSING_DATA]
    assert answer["num_filtered"] == MANY


def test_a_timeline_shows_the_newest_attempts(many: SessionIndex) -> None:
    trace = timeline(many, JOBS[0].hex())
    spans = [event["args"]["task_id"] for event in trace if event["ph"] == "X"]
    assert spans == [task_id(number).hex() for number in range(MANY - 10_000, MANY)]


def test_memory_is_counted(many: SessionIndex) -> None:
    assert 300 * MANY < many.tasks.nbytes < 700 * MANY
    assert len(many.tasks) == MANY


def lineage_task(number: int, parent: str) -> LineageTask:
    return LineageTask(f"{number:048x}", f"t{number}", "f", "NORMAL_TASK", "FINISHED", None, parent, number + 1)


def test_a_chain_of_tasks_of_any_depth_is_counted_and_cut() -> None:
    tasks = [lineage_task(number, f"{number - 1:048x}" if number else "") for number in range(5000)]
    tree = by_lineage(tasks[::-1], lambda actor_id: None)
    assert tree.summary[0]["state_counts"] == {"FINISHED": 5000}
    depth, node = 1, tree.summary[0]
    while node["children"]:
        depth, node = depth + 1, node["children"][0]
    assert (depth, tree.cut) == (MAX_DEPTH, True)


def test_tasks_that_made_each_other_are_left_out() -> None:
    tasks = [
        lineage_task(1, f"{2:048x}"),
        lineage_task(2, f"{1:048x}"),
        lineage_task(3, f"{3:048x}"),
        lineage_task(4, ""),
    ]
    tree = by_lineage(tasks, lambda actor_id: None)
    assert [node["key"] for node in tree.summary] == [f"{4:048x}"]


HOSTILE = {
    "an id that is no task's": TaskUpdate(b"short", 0, JOBS[0], [(8, T0)]),
    "no task": TaskUpdate(b"\xff" * 24, 0, JOBS[0], [(8, T0)]),
    "no job": TaskUpdate(task_id(9), 0, b"", [(8, T0)]),
    "a negative attempt": TaskUpdate(task_id(9), -1, JOBS[0], [(8, T0)]),
    "an attempt beyond numbers": TaskDefinition(task_id(9), 2**40, JOBS[0], "NORMAL_TASK", "PYTHON", "f", "f"),
}


@pytest.mark.parametrize("record", HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_an_attempt_is_skipped_and_counted(record: TaskUpdate | TaskDefinition) -> None:
    index = index_of_tasks([record])
    assert (len(index.tasks), index.tasks.skipped) == (0, 1)
    assert list_tasks(index, ListOptions())["total"] == 0


def test_wild_values_change_nothing_but_themselves() -> None:
    task = task_id(1)
    records = [
        *attempt(1, b"odd length"),
        TaskUpdate(task, 0, JOBS[0], [(99, T0), (-1, T0), (8, 2**70), (9, -5)], worker_pid=2**40 + 42),
        TaskUpdate(task, 0, JOBS[0], [], log_info=TaskLogInfo("o", None, 2**70, -3, None, None)),
        TaskProfile(task, 0, JOBS[0], "worker", WORKERS[0], "ip", [ProfileEvent(-1, 2**70, "x", "{"), ProfileEvent(1, 2, "y", "[\0")]),
    ]  # fmt: skip
    index = index_of_tasks(records)
    (row,) = list_tasks(index, ListOptions(detail=True))["result"]
    assert row["state"] == "FINISHED"
    assert row["parent_task_id"] == ""
    assert row["task_log_info"] == {"stdout_file": "o"}
    assert [event["event_name"] for event in row["profiling_data"]["events"]] == ["y", "ray.get"]
    assert row["profiling_data"]["events"][0]["extra_data"] == {}
    assert {event["name"] for event in timeline(index, None) if event["ph"] == "X"} == {"y", "ray.get"}


def test_attempts_that_were_never_defined_are_counted_but_not_listed() -> None:
    index = index_of_tasks([*attempt(1, b""), TaskUpdate(task_id(2), 0, JOBS[0], [(8, T0)])])
    assert index.tasks.undefined == 1
    assert list_tasks(index, ListOptions())["total"] == 1


def test_records_after_an_answer_are_in_the_next() -> None:
    index = index_of_tasks(attempt(1, b""))
    assert list_tasks(index, ListOptions())["total"] == 1
    for record in attempt(2, b""):
        {TaskDefinition: index.tasks.define, TaskUpdate: index.tasks.update, TaskProfile: index.tasks.profile}[
            type(record)
        ](record)
    assert list_tasks(index, ListOptions())["total"] == 2

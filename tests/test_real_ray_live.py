"""A real Ray session while it lives: each change reaches who follows it, once; lists are the dashboard's; pages show it."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from typing import Any

import pytest
from support.compare import differences
from support.watched import Watched, watch

from api.streams.sse_reader import ServerEvent

pytestmark = [pytest.mark.ray, pytest.mark.timeout(480)]
Change = tuple[str, int, str]

DRIVER = "f" * 40
"""Begins the id of a driver's own task."""
SLOW_MACHINE = 9
"""Seconds that a machine with other things to do may add."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return watch(tmp_path_factory.mktemp("live"))


def of_kind(kind: str, events: list[ServerEvent]) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events if event.kind == kind]


def changes(tasks: list[dict[str, Any]]) -> Counter[Change]:
    return Counter((task["task_id"], task["attempt_number"], task["state"]) for task in tasks)


def posted_changes(bodies: list[bytes]) -> set[Change]:
    """Every state of an attempt that Ray posted, read here from what it posted; a driver's own task is told as its job."""
    found = set()
    for body in bodies:
        for event in json.loads(body):
            told = event.get("taskLifecycleEvent")
            if told is not None:
                task_id = b64decode(told["taskId"]).hex()
                if not task_id.startswith(DRIVER):
                    found |= {(task_id, told.get("taskAttempt", 0), step["state"]) for step in told["stateTransitions"]}
    return found


def test_every_change_of_a_task_that_the_dashboard_lists_was_told_once(watched: Watched) -> None:
    listed = {
        (row["task_id"], row["attempt_number"], step["state"])
        for row in watched.over.dashboard["tasks"]
        if not row["task_id"].startswith(DRIVER)
        for step in row["events"]
    }
    posted = posted_changes(watched.posted)
    assert changes(of_kind("task", watched.told)) == Counter(dict.fromkeys(posted, 1))
    # Ray marks tasks of finished jobs and dead workers FAILED without an event: those can't be told.
    unsaid = listed - posted
    assert {state for _, _, state in unsaid} <= {"FAILED"}
    assert len(unsaid) < 10 < len(listed)


@pytest.mark.parametrize(
    ("kind", "ident", "state"),
    [("actor", "actor_id", "state"), ("node", "node_id", "state"), ("worker", "worker_id", "is_alive")],
)
def test_the_last_that_was_told_of_each_is_what_the_dashboard_lists(
    watched: Watched, kind: str, ident: str, state: str
) -> None:
    rows = watched.over.dashboard[f"{kind}s"]
    # What the process of a driver does is told as its job.
    listed = {row[ident]: row[state] for row in rows if row.get("worker_type") != "DRIVER"}
    last = {told[ident]: told[state] for told in of_kind(kind, watched.told)}
    assert listed
    assert last == listed


def test_each_restart_of_an_actor_was_told(watched: Watched) -> None:
    restarts = {row["actor_id"]: int(row["num_restarts"]) for row in watched.over.dashboard["actors"]}
    told = Counter(told["actor_id"] for told in of_kind("actor", watched.told) if told["state"] == "RESTARTING")
    assert max(restarts.values()) > 0
    assert {actor_id: told[actor_id] for actor_id in restarts} == restarts


def test_each_job_was_told_of_with_the_name_it_was_handed_in_under(watched: Watched) -> None:
    last = {told["job_id"]: told for told in of_kind("job", watched.told)}
    listed = watched.over.dashboard["jobs"]
    assert Counter(row["status"] for row in listed)["SUCCEEDED"] == 2
    assert {row["job_id"]: (row["status"], row["submission_id"]) for row in listed} == {
        job_id: (told["status"], told.get("submission_id")) for job_id, told in last.items()
    }


def test_no_event_was_told_twice_though_the_collector_was_killed_meanwhile(watched: Watched) -> None:
    places = Counter((event.id, event.data) for event in watched.told if event.kind not in ("session", "resync"))
    assert max(places.values()) == 1
    assert not of_kind("resync", watched.told)


def test_a_replay_of_the_session_tells_what_was_told_while_it_lived(watched: Watched) -> None:
    assert changes(of_kind("task", watched.replayed)) == changes(of_kind("task", watched.told))


@pytest.mark.parametrize("kind", ["tasks", "actors", "workers", "nodes", "jobs"])
def test_the_live_sessions_lists_are_the_dashboards(watched: Watched, kind: str) -> None:
    assert watched.alive.dashboard[kind]
    assert differences(kind, watched.alive.dashboard[kind], watched.alive.ours[kind]) == []


@pytest.mark.parametrize("kind", ["tasks", "actors", "workers", "nodes", "jobs"])
def test_the_session_says_the_same_once_it_has_ended(watched: Watched, kind: str) -> None:
    assert differences(kind, watched.over.dashboard[kind], watched.over.ours[kind]) == []


def test_a_list_has_a_task_soon_after_ray_posted_it(watched: Watched) -> None:
    assert watched.answer_seconds < 1 + SLOW_MACHINE


def test_the_session_is_live_then_lost_then_live_again_and_ends(watched: Watched) -> None:
    assert watched.statuses == ["live", "lost", "live", "ended"]
    assert watched.page_statuses == watched.statuses


def test_a_session_that_was_opened_while_it_lived_goes_on_without_a_new_load(watched: Watched) -> None:
    assert watched.loads[0] >= 1
    assert watched.loads[0] == watched.loads[1]


def test_rows_of_the_jobs_tasks_appear_on_the_live_page(watched: Watched) -> None:
    shown = {(state, name.split()[0]) for kind, state, name in watched.page_rows if kind == "task"}
    for row in watched.alive.dashboard["tasks"]:
        if row["type"] == "NORMAL_TASK" and row["state"] in ("FINISHED", "RUNNING"):
            assert (row["state"].lower(), row["name"]) in shown
    assert ("failed", "fails") in shown
    assert {"actor", "job", "worker"} <= {kind for kind, _, _ in watched.page_rows}


def test_the_list_of_sessions_counts_the_tasks_as_they_come(watched: Watched) -> None:
    before, after = watched.page_counts
    assert "failed" not in before
    tasks = [row for row in watched.alive.dashboard["tasks"] if row["type"] != "DRIVER_TASK"]
    finished = sum(row["state"] == "FINISHED" for row in tasks)
    assert f"{finished} finished" in after

"""Real Ray posts its events to a collector and is killed: the store alone answers as the dashboard did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from support import workload
from support.lived import Lived, answers, assert_same, assert_stopped, live_through
from support.processes import collector, on_disk
from support.rayhead import ray_head, short_folder
from support.receiver import receiver
from support.workload import Rows

pytestmark = [pytest.mark.ray, pytest.mark.timeout(480)]
History = tuple[Lived, dict[str, Rows]]


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[History]]:
    """One collector, there before Ray is and until after; the head dies, and another one starts in its place."""
    folder = tmp_path_factory.mktemp("posts")
    store = on_disk(folder / "store")
    with short_folder() as short, collector(store, folder, short / "r") as collecting:
        lives = []
        for work in (workload.run, workload.finish):
            with (
                receiver(forward_to=collecting.port) as received,
                ray_head("posted", events_port=received.port, folder=short, environment=workload.ENVIRONMENT) as head,
            ):
                lives.append(live_through(head, received, work=work))
        assert_stopped(collecting)
        yield [(lived, answers(store, folder, lived)) for lived in lives]


@pytest.fixture
def history(histories: list[History]) -> History:
    """Of the first head, whose work was still going on when it was killed."""
    return histories[0]


def test_the_workload_leaves_tasks_in_every_kind_of_state(history: History) -> None:
    lived, _ = history
    states = Counter(row["state"] for row in lived.live["tasks"])
    assert states["FINISHED"] >= 10
    assert states["FAILED"] >= 5
    assert states["RUNNING"] >= 2
    assert states["PENDING_NODE_ASSIGNMENT"] >= 1
    assert any(row["attempt_number"] > 0 for row in lived.live["tasks"])
    assert {"shared-counter", "keeper"} <= {row["name"] for row in lived.live["actors"]}


def test_every_task_attempt_is_answered_in_its_final_state(history: History) -> None:
    assert_same("tasks", *history)


def test_every_actor_is_answered_in_its_final_state(history: History) -> None:
    assert_same("actors", *history)


def test_every_worker_is_answered(history: History) -> None:
    assert_same("workers", *history)


def test_every_node_is_answered(history: History) -> None:
    assert_same("nodes", *history)


def test_every_job_is_answered(history: History) -> None:
    assert_same("jobs", *history)


@pytest.mark.parametrize("kind", ["tasks", "actors", "workers", "nodes", "jobs"])
def test_the_session_after_it_has_all_of_its_own_and_nothing_of_the_first(histories: list[History], kind: str) -> None:
    assert histories[0][0].session != histories[1][0].session
    assert_same(kind, *histories[1])

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

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
History = tuple[Lived, dict[str, Rows]]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """The collector is there before Ray is, and stays until after."""
    folder = tmp_path_factory.mktemp("posts")
    store = on_disk(folder / "store")
    with short_folder() as short, collector(store, folder, short / "r") as collecting:
        with (
            receiver(forward_to=collecting.port) as received,
            ray_head("posted", events_port=received.port, folder=short, environment=workload.ENVIRONMENT) as head,
        ):
            lived = live_through(head, received)
        assert_stopped(collecting)
        yield lived, answers(store, folder / "server", lived)


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

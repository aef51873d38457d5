"""Real Ray writes export API files beside two collectors, one on a local store, one on a real S3 server, and is killed.

Each store alone answers as the dashboard did.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import workload
from support.lived import Lived, answers, assert_same, assert_stopped, live_through
from support.processes import collector, on_disk, on_s3
from support.rayhead import ray_head, short_folder
from support.s3server import S3Server
from support.workload import Rows

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.timeout(240)]
Histories = tuple[Lived, dict[str, dict[str, Rows]]]


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory, seaweed_server: S3Server) -> Iterator[Histories]:
    """One session, read by two collectors at once."""
    folder = tmp_path_factory.mktemp("export")
    disk, s3 = on_disk(folder / "store"), on_s3(seaweed_server, seaweed_server.new_bucket())
    environment = seaweed_server.environment()
    for name in ("disk", "s3"):
        (folder / name).mkdir()
    with (
        short_folder() as short,
        collector(disk, folder / "disk", short / "r") as to_disk,
        collector(s3, folder / "s3", short / "r", environment=environment) as to_s3,
    ):
        with ray_head("export", folder=short, environment=workload.ENVIRONMENT) as head:
            lived = live_through(head)
        for collecting in (to_disk, to_s3):
            assert_stopped(collecting)
        yield (
            lived,
            {
                "disk": answers(disk, folder / "disk", lived),
                "s3": answers(s3, folder / "s3", lived, environment=environment),
            },
        )


@pytest.fixture(params=["disk", "s3"])
def history(request: pytest.FixtureRequest, histories: Histories) -> tuple[Lived, dict[str, Rows]]:
    lived, answered = histories
    return lived, answered[request.param]


def test_every_task_attempt_is_answered_in_its_final_state(history: tuple[Lived, dict[str, Rows]]) -> None:
    # A task's own name (``.options(name=…)``) is not in the export API: its function's is answered.
    assert_same("tasks", *history, untold=frozenset({"name"}))


def test_every_actor_is_answered_in_its_final_state(history: tuple[Lived, dict[str, Rows]]) -> None:
    assert_same("actors", *history)


def test_every_node_is_answered(history: tuple[Lived, dict[str, Rows]]) -> None:
    assert_same("nodes", *history)


def test_every_job_is_answered(history: tuple[Lived, dict[str, Rows]]) -> None:
    assert_same("jobs", *history)

"""Real Ray writes export API files beside two collectors, one on a local store, one on a real S3 server, and is killed.

Each store alone answers as the dashboard did; a third, ``ray-history up``, answers so while Ray still lives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from support import workload
from support.compare import differences
from support.lived import Lived, answers, assert_same, assert_stopped, live_through
from support.processes import Program, both_in_one, collector, on_disk, on_s3, session_url
from support.rayhead import ray_head, short_folder, until
from support.s3server import S3Server
from support.workload import Rows, rows

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.timeout(480)]
History = tuple[Lived, dict[str, Rows]]
UNTOLD = frozenset({"name"})
"""A task's own name (``.options(name=…)``) is not in the export API: its function's is answered."""


@dataclass
class Histories:
    """One session, kept three times."""

    lived: Lived
    answered: dict[str, dict[str, Rows]] = field(default_factory=dict)
    while_living: dict[str, list[str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory, seaweed_server: S3Server) -> Iterator[Histories]:
    """All of them read Ray's files at once."""
    folder = tmp_path_factory.mktemp("export")
    disk, s3 = on_disk(folder / "store"), on_s3(seaweed_server, seaweed_server.new_bucket())
    keys = seaweed_server.environment()
    for name in ("disk", "s3"):
        (folder / name).mkdir()
    with (
        short_folder() as short,
        both_in_one(folder, short / "r") as up,
        collector(disk, folder / "disk", short / "r") as to_disk,
        collector(s3, folder / "s3", short / "r", environment=keys) as to_s3,
    ):
        with ray_head("export", folder=short, environment=workload.ENVIRONMENT) as head:
            while_living: dict[str, list[str]] = {}
            lived = live_through(head, meanwhile=lambda lived: while_living.update(differing_at_last(up, lived)))
        for program in (up, to_disk, to_s3):
            assert_stopped(program)
        answered = {"disk": answers(disk, folder / "disk", lived)}
        answered["s3"] = answers(s3, folder / "s3", lived, environment=keys)
        yield Histories(lived, answered, while_living)


def differing_at_last(up: Program, lived: Lived) -> dict[str, list[str]]:
    """What still differs from the live dashboard once there was time for it to arrive: nothing, where all is well."""

    def look() -> dict[str, list[str]]:
        base = session_url(up, "live")
        return {
            kind: differences(kind, lived.live[kind], rows(base, kind), untold=UNTOLD) for kind in ("tasks", "actors")
        }

    with suppress(TimeoutError):
        until(lambda: not any(look().values()), "the living session to be answered alike", timeout=20, pause=0.5)
    return look()


@pytest.fixture(params=["disk", "s3"])
def history(request: pytest.FixtureRequest, histories: Histories) -> History:
    """What one store holds."""
    return histories.lived, histories.answered[request.param]


def test_a_living_session_is_answered_as_the_dashboard_answers(histories: Histories) -> None:
    assert histories.while_living == {"tasks": [], "actors": []}


def test_every_task_attempt_is_answered_in_its_final_state(history: History) -> None:
    assert_same("tasks", *history, untold=UNTOLD)


def test_every_actor_is_answered_in_its_final_state(history: History) -> None:
    assert_same("actors", *history)


def test_every_node_is_answered(history: History) -> None:
    assert_same("nodes", *history)


def test_every_job_is_answered(history: History) -> None:
    assert_same("jobs", *history)

"""Real Ray does every kind of work in each dialect and is killed: the store alone answers what its dashboard answered.

Once with what the collector asks that dashboard, and once with the dialect's records alone: what those lack stands in
``docs/parity.md``, and nothing else may be lacking.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from record import Recipe, of, record
from support.captures import live_rows, session_name
from support.dialects import DIALECTS, Untold, found_untold, is_a_list, near, untold_by
from support.parity import Compared, alike, ask, compare, mean, polled_of, share
from support.play import play, play_alone
from support.processes import server, session_url, wait_for_session
from support.rayhead import Dialect
from support.storecheck import objects_with
from support.workload_runs import SECRET

pytestmark = [pytest.mark.ray, pytest.mark.timeout(480)]
LEAST = {"posted": (0.995, 0.99), "export": (0.97, 0.97)}
"""Of leaves, and as mean over requests. Names that users give tasks aren't in export API files."""
STRAYS = 0.01
"""Of all leaves, those that may differ where none should: Ray loses a record now and then when a worker is killed."""


@dataclass
class Lived:
    """One session in one dialect, and what is answered of it."""

    dialect: Dialect
    capture: Path
    whole: list[Compared]
    alone: list[Compared]
    store: Path


@pytest.fixture(scope="module", params=DIALECTS)
def lived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """All the work on one head, and on a node that joins it and dies."""
    folder = tmp_path_factory.mktemp(request.param)
    recipe: Recipe = of("everything", request.param)
    capture = folder / "recorded"
    record(recipe, capture)
    for name in ("whole", "alone"):
        (folder / name).mkdir()
    store, alone = play(capture, folder / "whole"), play_alone(capture, folder / "alone")
    return Lived(
        request.param, capture, answered(capture, store, folder), answered(capture, alone, folder, lists=True), folder
    )


def answered(capture: Path, store: list[str], folder: Path, *, lists: bool = False) -> list[Compared]:
    with server(store, folder) as program:
        wait_for_session(program, session_name(capture))
        base = session_url(program, session_name(capture))
        asked = ask(capture, base, is_a_list if lists else lambda url: True)
    return [compare(*each, near) if lists else compare(*each, alike, polled_of(capture)) for each in asked]


def told(compared: list[Compared]) -> str:
    return "\n".join(line for each in compared for line in each.lines())


def test_the_work_ends_in_every_way_there_is(lived: Lived) -> None:
    tasks = live_rows(lived.capture, "/api/v0/tasks?detail=1&limit=10000&exclude_driver=false")
    states, errors = Counter(row["state"] for row in tasks), {row["error_type"] for row in tasks}
    assert {"FINISHED", "FAILED", "RUNNING", "PENDING_ARGS_AVAIL", "PENDING_NODE_ASSIGNMENT"} <= states.keys()
    assert {"TASK_EXECUTION_EXCEPTION", "WORKER_DIED", "RUNTIME_ENV_SETUP_FAILED", "TASK_CANCELLED"} <= errors
    assert {"NODE_DIED", "ACTOR_DIED", "ACTOR_UNAVAILABLE"} <= errors
    actors = live_rows(lived.capture, "/api/v0/actors?detail=1&limit=10000")
    assert {"ALIVE", "DEAD", "PENDING_CREATION"} == {row["state"] for row in actors}
    assert {"0", "1"} == {row["num_restarts"] for row in actors}
    assert {"ALIVE", "DEAD"} == {row["state"] for row in live_rows(lived.capture, "/api/v0/nodes?detail=1")}
    assert {"SUBMISSION", "DRIVER"} == {row["type"] for row in live_rows(lived.capture, "/api/v0/jobs?detail=1")}


def test_nearly_every_leaf_is_the_live_dashboards(lived: Lived) -> None:
    leaves, requests = LEAST[lived.dialect]
    assert share(lived.whole) >= leaves, told(lived.whole)
    assert mean(lived.whole) >= requests, told(lived.whole)


def test_every_status_is_the_live_dashboards(lived: Lived) -> None:
    assert [(each.url, each.status) for each in lived.whole if each.wrong_status] == []


def test_no_row_is_listed_that_never_was(lived: Lived) -> None:
    assert [row for each in lived.whole if is_a_list(each.url) for row in each.extra_rows] == []


def test_the_records_alone_lack_nothing_but_what_is_documented(lived: Lived) -> None:
    documented: Untold = untold_by(lived.dialect)
    strays = {
        key: differ
        for key, (differ, _) in found_untold(lived.alone).items()
        if key[1] not in documented[key[0]] and "all" not in documented[key[0]]
    }
    leaves = sum(len(each.leaves) for each in lived.alone)
    assert sum(strays.values()) <= STRAYS * leaves, f"{strays}\n{told(lived.alone)}"


def test_no_secret_leaves_the_machine(lived: Lived) -> None:
    recorded = [file for file in lived.capture.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    assert recorded
    for name in ("whole", "alone"):
        assert objects_with(lived.store / name / "store", SECRET.encode()) == []

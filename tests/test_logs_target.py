"""The file that a task, an actor, a process or a submission means is found as Ray finds it, and refused in its words."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.captures import captures, head_node, live_answers, live_rows, session_name
from support.indexes import index_of, index_of_capture
from support.loggers import Clock
from support.streamed import streamed

from api.index.session_index import SessionIndex
from api.logs.logs import LogStore
from api.views.log_index import SessionLogIndex
from api.views.log_target import LogIndex, Place, TaskPlace, candidates, pick
from api.views.logs import LogOptions, NoLog
from pipeline.config import LogConfig
from pipeline.events import (
    ActorDefinition,
    ActorTransition,
    ActorUpdate,
    NodeDefinition,
    NodeTransition,
    NodeUpdate,
    SubmissionJobDefinition,
    SubmissionJobUpdate,
    TaskDefinition,
    TaskLogInfo,
    TaskUpdate,
)
from pipeline.layout import SessionKey
from pipeline.logs.logs import LogFollower
from pipeline.stores.patience import Patience
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio

JOB = bytes.fromhex("01000000")
TASK = b"\x11" * 20 + JOB
ACTOR_TASK = b"\x22" * 20 + JOB
PENDING = b"\x33" * 20 + JOB
ACTOR = b"\x44" * 12 + JOB
UNBORN = b"\x55" * 12 + JOB
NODES = [bytes([n]) * 28 for n in (1, 2, 3)]
WORKERS = [bytes([n]) * 28 for n in (0xA1, 0xA2, 0xA3)]


def task(task_id: bytes, kind: str = "NORMAL_TASK", actor_id: bytes = b"", attempt: int = 0) -> TaskDefinition:
    return TaskDefinition(task_id, attempt, JOB, kind, "PYTHON", "f", "f", actor_id=actor_id)


def ran(task_id: bytes, n: int, log: TaskLogInfo | None = None, attempt: int = 0) -> TaskUpdate:
    return TaskUpdate(task_id, attempt, JOB, [(8, 10 + attempt)], NODES[n], WORKERS[n], 7, log_info=log)


@pytest.fixture
def index() -> SessionLogIndex:
    log = TaskLogInfo("/tmp/ray/s/logs/w.out", "/tmp/ray/s/logs/w.err", 0, 5, 3, None)
    records = [
        *(NodeDefinition(node, f"10.0.0.{min(n, 1)}", start_time_ms=n + 1) for n, node in enumerate(NODES)),
        NodeUpdate(NODES[2], [NodeTransition("DEAD", 9)]),
        task(TASK), ran(TASK, 0, log), task(TASK, attempt=1), ran(TASK, 1, log, 1),
        task(ACTOR_TASK, "ACTOR_TASK", ACTOR), ran(ACTOR_TASK, 1), task(PENDING),
        ActorDefinition(ACTOR, JOB, "A"), ActorDefinition(UNBORN, JOB, "A"),
        ActorUpdate(ACTOR, [ActorTransition("ALIVE", 5, NODES[2], WORKERS[2], 8)]),
        SubmissionJobDefinition("sub", "python x.py"),
        SubmissionJobUpdate("sub", "RUNNING", 3, driver_node_id=NODES[0].hex()),
    ]  # fmt: skip
    return SessionLogIndex(index_of(records))


def place(index: LogIndex, **asked: Any) -> Place:
    [only] = candidates(index, LogOptions(**asked))
    return only


def refusal(index: LogIndex, **asked: Any) -> str:
    with pytest.raises(NoLog) as refused:
        candidates(index, LogOptions(**asked))
    return str(refused.value)


def test_a_task_is_a_part_of_its_workers_file(index: SessionLogIndex) -> None:
    node = NODES[0].hex()
    assert place(index, task_id=TASK.hex()) == Place(node, filename="/tmp/ray/s/logs/w.out", start=0, end=5)
    assert place(index, task_id=TASK.hex(), suffix="err") == Place(
        node, filename="/tmp/ray/s/logs/w.err", start=3, end=None
    )
    assert place(index, task_id=TASK.hex(), attempt_number=1).node_id == NODES[1].hex()


def test_an_attempt_of_which_only_the_end_is_known_is_looked_for_in_its_workers_file() -> None:
    class Ends(Bare):
        def task_place(self, task_id: bytes, attempt: int) -> TaskPlace | None:
            return TaskPlace("aa", "bb", None, {"stdout_end": 50, "stderr_end": 7})

    assert place(Ends(), task_id="ab", suffix="err") == Place("aa", worker_id="bb", end=7, marked=True)


def test_an_actor_is_looked_for_where_it_lived_last_and_then_where_its_tasks_ran(index: SessionLogIndex) -> None:
    assert candidates(index, LogOptions(actor_id=ACTOR.hex())) == [
        Place(NODES[2].hex(), worker_id=WORKERS[2].hex()),
        Place(NODES[1].hex(), worker_id=WORKERS[1].hex()),
    ]


def test_an_address_is_its_living_and_latest_node(index: SessionLogIndex) -> None:
    assert index.node_of_ip("10.0.0.0") == NODES[0].hex()
    assert index.node_of_ip("10.0.0.1") == NODES[1].hex(), "the other one is dead"
    assert index.node_of_ip("10.0.0.9") is None
    assert place(index, node_ip="10.0.0.1", filename="x") == Place(NODES[1].hex(), filename="x")


def test_a_submission_is_its_drivers_file(index: SessionLogIndex) -> None:
    asked = {"submission_id": "sub", "node_id": "ab"}
    assert place(index, **asked) == Place(NODES[0].hex(), filename="job-driver-sub.log")


def test_refusals_are_in_rays_words(index: SessionLogIndex) -> None:
    task_id, pending, actor_task = TASK.hex(), PENDING.hex(), ACTOR_TASK.hex()
    assert refusal(index, task_id="zz") == "Non-hexadecimal digit found"
    assert refusal(index, task_id="abc") == "Odd-length string"
    assert (
        refusal(index, task_id="ab" * 24)
        == f"Could not find log file for task: {'ab' * 24} (attempt 0) with suffix: out"
    )
    assert refusal(index, task_id=task_id, attempt_number=3) == f"Could not find log file for task attempt:{task_id}(3)"
    assert (
        refusal(index, task_id=task_id, attempt_number=-1) == f"Could not find log file for task attempt:{task_id}(-1)"
    )
    assert (
        refusal(index, task_id=pending)
        == f"Could not find log file for task attempt.{pending}(0) due to missing node info."
    )
    assert refusal(index, task_id=actor_task).startswith(
        f"For actor task, please query actor log for actor({ACTOR.hex()}): e.g. "
    )
    assert refusal(index, actor_id="ab" * 16) == f"Actor ID ActorID({'ab' * 16}) not found."
    assert refusal(index, actor_id="zz") == f"Actor ID ActorID({'ff' * 16}) not found."
    assert (
        refusal(index, actor_id=UNBORN.hex())
        == f"Worker ID for Actor ID ActorID({UNBORN.hex()}) not found. Actor is not scheduled yet."
    )
    assert refusal(index, pid=7) == "Node id needs to be specified for resolving filenames of pid 7"
    assert refusal(index, node_id="ab", submission_id="nope") == (
        "Could not find a log file. Please make sure the given option exists in the cluster.\n"
        "\tnode_id: None\n\tfilename: None\n\tactor_id: None\n\ttask_id: None\n\tpid: None\n\tsuffix: out\n"
        "\tsubmission_id: nope\n\tattempt_number: 0\n"
    )
    assert refusal(index, node_ip="9.9.9.9", filename="x").startswith(
        "1 validation error for ResolvedStreamFileInfo\nnode_id\n"
    )


class Bare:
    """An index that knows of one attempt, without a log, of no actor."""

    def node_of_ip(self, ip: str) -> str | None:
        return None

    def task_place(self, task_id: bytes, attempt: int) -> TaskPlace | None:
        return TaskPlace("aa", "bb", None, None if attempt == 0 else {"stderr_file": "x"})

    def has_task(self, task_id: bytes) -> bool:
        return True

    def actor_places(self, actor_id: bytes) -> list[tuple[str, str]] | None:
        return None

    def submission_node(self, submission_id: str) -> tuple[bool, str | None]:
        return True, None


def test_an_attempt_without_a_log_is_refused_in_rays_words() -> None:
    assert refusal(Bare(), task_id="ab") == (
        "Could not find log file for task attempt:ab(0).Worker id = bb, node id = aa,log_info = None"
    )
    assert refusal(Bare(), task_id="ab", attempt_number=1) == (
        "Missing log filename info in {'stderr_file': 'x'} for task ab,attempt 1"
    )


def test_a_submission_whose_node_nobody_knows_is_looked_for_everywhere() -> None:
    assert place(Bare(), submission_id="s") == Place(None, filename="job-driver-s.log")


def test_a_workers_file_is_picked_by_its_id_or_pid_and_its_suffix() -> None:
    names = [
        "worker-aa-01000000-7.err", "worker-aa-01000000-7.out", "worker-bb-01000000-77.out", "worker-aa.out", "x/worker-cc-01-7.out",
        "worker-aa-01000000-7.1.out", "old/worker-dd-01-9.out", "python-core-worker-aa_7.log", "worker-ee-01-" + "9" * 5000 + ".out",
    ]  # fmt: skip
    assert pick(names, Place("n", worker_id="aa"), "out") == "worker-aa-01000000-7.out"
    assert pick(names, Place("n", worker_id="aa"), "err") == "worker-aa-01000000-7.err"
    assert pick(names, Place("n", pid=7), "out") == "worker-aa-01000000-7.out"
    assert pick(names, Place("n", pid=9), "out") == "old/worker-dd-01-9.out"
    assert pick(names, Place("n", worker_id="cc"), "out") is None
    assert pick(names, Place("n", pid=8), "out") is None


# -- a recorded session --------------------------------------------------------------------------


def recording() -> list[Path]:
    found = captures()
    return [] if found is None else [each for each in sorted(found.iterdir()) if (each / "live").is_dir()]


@pytest.fixture(params=recording(), ids=lambda capture: capture.name)
def capture(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
async def played(capture: Path, tmp_path: Path) -> tuple[SessionKey, SessionIndex, LogStore, Path]:
    """A recorded session whose logs went through the collector."""
    key = SessionKey("default", "ray", session_name(capture))
    folder = tmp_path / key.session / "logs"
    shutil.copytree(capture / "logs", folder)
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    store = MemoryStore()
    logs = LogFollower(
        LogConfig(), store, Patience(store), key, head_node(capture), tmp_path, until="read", clock=Clock()
    )
    await logs.run()
    return key, index_of_capture(capture), LogStore(store), folder


async def text(played: Any, **asked: Any) -> bytes:
    key, index, logs, _ = played
    options = LogOptions(**{"lines": -1, **asked})
    places = candidates(SessionLogIndex(index), options)
    return await streamed(logs, key, places, options)


async def test_every_file_of_a_recorded_session_is_listed_in_rays_groups(capture: Path, played: Any) -> None:
    key, _, logs, _ = played
    node = head_node(capture)
    status, live = live_answers(capture)[f"/api/v0/logs?node_id={node}"]
    ours = await logs.list_files(key, node, "*")

    assert status == 200
    empty = {"nsight/", "profiles/", "rocprof_sys/", "old/"}  # git keeps no empty folders, nor does the capture
    assert {group: sorted(set(names) - empty) for group, names in live["data"]["result"].items()} == {
        group: sorted(set(names) - empty) for group, names in ours.items()
    }


async def test_every_task_of_a_recorded_session_has_the_bytes_that_ray_names(capture: Path, played: Any) -> None:
    folder = played[3]
    seen = 0
    for row in live_rows(capture, "/api/v0/tasks?detail=1&limit=10000"):
        info = row["task_log_info"]
        if not info:
            continue
        for suffix in ("out", "err"):
            whole = (folder / Path(info[f"std{suffix}_file"]).name).read_bytes()
            expected = whole[info.get(f"std{suffix}_start", 0) : info.get(f"std{suffix}_end")]
            asked = {"task_id": row["task_id"], "attempt_number": row["attempt_number"], "suffix": suffix}
            assert await text(played, **asked) == expected
            seen += bool(expected)
    assert seen > 0


async def test_every_actor_of_a_recorded_session_has_its_workers_file(capture: Path, played: Any) -> None:
    folder = played[3]
    names = [file.name for file in folder.iterdir()]
    seen = 0
    for row in live_rows(capture, "/api/v0/actors?detail=1"):
        if row["pid"] and row["class_name"] != "JobSupervisor":  # the export files never say where that one ran
            [name] = [name for name in names if name.endswith(f"-{row['pid']}.err")]
            assert await text(played, actor_id=row["actor_id"], suffix="err") == (folder / name).read_bytes()
            seen += 1
    assert seen > 0


async def test_the_driver_of_a_recorded_submission_has_its_file(capture: Path, played: Any) -> None:
    [job] = live_answers(capture)["/api/jobs/"][1]
    [file] = played[3].glob("job-driver-*.log")

    assert await text(played, submission_id=job["submission_id"], node_id="ab") == file.read_bytes()

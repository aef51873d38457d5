"""An index counts what it was given, says how big it is, and prepares its tasks only when something changed."""

from __future__ import annotations

import pytest
from support.captures import DATA
from support.indexes import blocks, index_of, index_of_capture

from api.index.log_events import LogEvents
from api.index.outcome import WorkerDeath
from api.index.session_index import SessionIndex
from api.index.tasks import TaskTable
from pipeline.decoding.decode import Decoded, Rejected
from pipeline.events import (
    TASK_STATUS,
    ActorDefinition,
    DriverJobUpdate,
    LogEvent,
    Opaque,
    Record,
    TaskDefinition,
    TaskUpdate,
    WorkerTransition,
    WorkerUpdate,
)

JOB, WORKER = b"\1\0\0\0", b"\x08" * 28
TASK = b"\4" * 20 + JOB
RUNNING, FAILED = TASK_STATUS.index("RUNNING"), TASK_STATUS.index("FAILED")


def running() -> list[Record]:
    return [
        TaskDefinition(TASK, 0, JOB, "NORMAL_TASK", "PYTHON", "f", "f"),
        TaskUpdate(TASK, 0, JOB, [(RUNNING, 5_000_000)], b"\7" * 28, WORKER, 12),
    ]


def state(index: SessionIndex) -> int:
    return int(index.prepared_tasks().outcome.state[0])


def test_every_application_is_a_new_version_and_adds_to_the_counts() -> None:
    index = SessionIndex()
    index.apply(Decoded([], [], rejected=[Rejected(0, 3, "malformed", "")], unknown={"NEW_TYPE": 2}))
    index.apply(Decoded([ActorDefinition(b"\1" * 16, JOB, "C")], [7], unknown={"NEW_TYPE": 1}))
    assert (index.version, index.records, index.rejected, index.unknown) == (2, 1, 1, {"NEW_TYPE": 3})


@pytest.mark.parametrize("recording", ["posted", "export"])
def test_every_record_of_a_recording_finds_its_table(recording: str) -> None:
    index = index_of_capture(DATA / recording)
    assert index.records == sum(len(block.records) for block in blocks(DATA / recording)) > 100
    assert index.rejected == 0
    assert index.unknown == {}
    assert min(len(index.tasks), len(index.actors), len(index.nodes), len(index.jobs), len(index.log_events)) > 0


def test_the_running_tasks_of_a_dead_worker_and_of_a_finished_job_count_as_failed() -> None:
    assert state(index_of(running())) == RUNNING
    dead = WorkerUpdate(WORKER, JOB, [WorkerTransition("DEAD", 9_000_000, end_time_ms=8, exit_type="USER_ERROR")])
    assert state(index_of([*running(), dead])) == FAILED
    assert state(index_of([*running(), DriverJobUpdate(JOB, True, 0, 9)])) == FAILED
    assert state(index_of([*running(), DriverJobUpdate(JOB, False, 9)])) == RUNNING


def test_a_death_that_names_no_end_happened_when_it_was_noted() -> None:
    index = index_of([WorkerUpdate(WORKER, JOB, [WorkerTransition("DEAD", 9_000_000, exit_type="USER_ERROR")])])
    assert index.workers.deaths() == {WORKER: WorkerDeath(9, "USER_ERROR", "")}


def test_workers_that_tasks_tell_of_are_known_as_soon_as_the_task_is() -> None:
    index = index_of(running())
    assert set(index.seen_workers()) == {WORKER}
    other = TaskUpdate(TASK, 1, JOB, [(RUNNING, 7)], b"\7" * 28, b"\x09" * 28, 13)
    index.apply(Decoded([other], [0]))
    assert index.seen_workers()[b"\x09" * 28].pid == 13
    assert index.worker_at(b"\7" * 28, 13) == b"\x09" * 28
    silent = TaskUpdate(TASK, 2, JOB, [(RUNNING, 8)], worker_id=b"\x09" * 28)
    index.apply(Decoded([silent], [0]))
    assert index.seen_workers()[b"\x09" * 28].pid == 13


def test_tasks_are_prepared_anew_when_something_was_applied_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_of(running())
    asked = 0
    refresh = TaskTable.refresh

    def counted(self: TaskTable, *deaths: object) -> None:
        nonlocal asked
        asked += 1
        refresh(self, *deaths)  # type: ignore[arg-type]

    monkeypatch.setattr(TaskTable, "refresh", counted)
    index.prepared_tasks()
    index.prepared_tasks()
    assert asked == 1
    index.apply(Decoded([DriverJobUpdate(JOB, True, 0, 9)], [0]))
    assert state(index) == FAILED
    assert asked == 2


def test_an_index_of_more_entities_says_it_is_bigger_and_telling_them_again_adds_nothing() -> None:
    told: list[Record] = [ActorDefinition(number.to_bytes(12, "big") + JOB, JOB, "C") for number in range(100)]
    small, big = index_of(told[:10]), index_of(told)
    assert small.nbytes < big.nbytes
    before = big.nbytes
    big.apply(Decoded(told, list(range(100))))
    assert big.nbytes == before


def test_a_jobs_ring_of_events_is_bounded_and_keeps_the_newest() -> None:
    ring = LogEvents(max_events=10)
    for number in range(100):
        assert len(ring.of_job("global")) == min(number, 10)
        ring.add(LogEvent(str(number), "GCS", "", "", "", number, "global", {"event_id": str(number)}), 0)
        assert len(ring._jobs["global"]) <= 11
    assert [event["event_id"] for event in ring.of_job("global")] == [str(number) for number in range(90, 100)]
    empty = LogEvents().nbytes
    assert ring.nbytes - empty < 11 * 400


def test_an_event_that_is_told_again_stands_once() -> None:
    event = LogEvent("e", "GCS", "", "", "", 1, "global", {"event_id": "e"})
    ring = index_of([(event, 5), (event, 5), (event, 900)]).log_events
    assert len(ring.of_job("global")) == len(ring) == 1


def test_of_an_opaque_record_the_latest_is_kept_whole() -> None:
    index = index_of(
        [Opaque("TRAIN_RUN", "r", 2, {"status": "FINISHED"}), Opaque("TRAIN_RUN", "r", 1, {"status": "RUNNING"})]
    )
    assert list(index.opaque.of_kind("TRAIN_RUN")) == [("r", {"status": "FINISHED"})]
    assert list(index.opaque.of_kind("DATASET_METADATA")) == []

"""Whatever order the records of a session arrive in, and however often, the index says the same."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.indexes import answers, blocks, index_of, recorded

from api.index.session_index import SessionIndex
from pipeline.decoding.decode import Decoded
from pipeline.events import (
    ActorDefinition,
    ActorTransition,
    ActorUpdate,
    Bundle,
    DriverJobDefinition,
    DriverJobUpdate,
    LogEvent,
    NodeDefinition,
    NodeTransition,
    NodeUpdate,
    PlacementGroupDefinition,
    PlacementGroupTransition,
    PlacementGroupUpdate,
    Record,
    SubmissionJobDefinition,
    SubmissionJobUpdate,
    WorkerDefinition,
    WorkerTransition,
    WorkerUpdate,
)

SECOND = 1_000_000_000


def ids(width: int) -> st.SearchStrategy[bytes]:
    return st.sampled_from([bytes([letter]) * width for letter in (1, 2)])


jobs = st.sampled_from([b"\1\0\0\0", b"\2\0\0\0"])
actor_ids = st.builds(lambda body, job: body + job, ids(12), jobs)
nodes = ids(28)
maybe_nodes = nodes | st.just(b"")
submissions = st.sampled_from(["raysubmit_a", "raysubmit_b"])
texts = st.sampled_from(["", "a", "b"])
# Times that tie, whole seconds (the export dialect) and fractions (the posted one).
times = st.integers(0, 3).map(lambda second: second * SECOND) | st.integers(1, 4).map(
    lambda part: part * SECOND // 2 + 7
)
stamps = st.integers(0, 3)
amounts = st.dictionaries(st.sampled_from(["CPU", "node:__internal_head__"]), st.sampled_from([0.0, 1.0]), max_size=2)
names = st.dictionaries(st.just("job_submission_id"), submissions, max_size=1)

actor_transitions = st.builds(
    ActorTransition,
    state=st.sampled_from(["DEPENDENCIES_UNREADY", "PENDING_CREATION", "ALIVE", "RESTARTING", "DEAD"]),
    timestamp_ns=times,
    node_id=maybe_nodes,
    worker_id=maybe_nodes,
    pid=st.integers(0, 2),
    port=st.integers(0, 2),
    repr_name=texts,
    death_cause=st.none() | st.builds(lambda why: {"actor_died_error_context": {"error_message": why}}, texts),
    restart_reason=st.sampled_from(["ACTOR_FAILURE", "LINEAGE_RECONSTRUCTION", "NODE_PREEMPTION"]),
)
node_transitions = st.builds(
    NodeTransition,
    state=st.sampled_from(["ALIVE", "DEAD"]),
    timestamp_ns=times,
    resources=amounts,
    death_reason=st.sampled_from([None, "EXPECTED_TERMINATION"]),
    death_reason_message=st.none() | texts,
)
worker_transitions = st.builds(
    WorkerTransition,
    state=st.sampled_from(["ALIVE", "DEAD"]),
    timestamp_ns=times,
    worker_launch_time_ms=stamps,
    start_time_ms=stamps,
    end_time_ms=stamps,
    exit_type=st.sampled_from([None, "USER_ERROR", "SYSTEM_ERROR"]),
    exit_detail=st.none() | texts,
)
group_transitions = st.builds(
    PlacementGroupTransition,
    state=st.sampled_from(["PENDING", "CREATED", "REMOVED"]),
    timestamp_ns=times,
    scheduling_state=st.sampled_from(["QUEUED", "SCHEDULING_STARTED", "FINISHED"]),
    placements=st.dictionaries(st.integers(0, 1), nodes, max_size=2),
)
log_events = st.builds(
    lambda event_id, source, message, time, job, host: LogEvent(
        event_id, source, "INFO", "", message, time, job, {"message": message, "host_name": host}
    ),
    st.sampled_from(["e1", "e2", "e3"]),
    st.sampled_from(["JOBS", "GCS"]),
    st.sampled_from(
        [
            "Started a ray job raysubmit_c.",
            "Completed a ray job raysubmit_c with a status FAILED. Why",
            "Completed a ray job raysubmit_c with a status SUCCEEDED.",
        ]
    ),
    times,
    st.sampled_from(["global", "01000000"]),
    texts,
)


def several(transitions: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(transitions, min_size=1, max_size=3)


supervisors = st.builds(
    lambda actor, job, submission: ActorDefinition(
        actor, job, "JobSupervisor", f"_ray_internal_job_actor_{submission}", "SUPERVISOR_ACTOR_RAY_NAMESPACE"
    ),
    actor_ids,
    jobs,
    submissions,
)
submission_updates = st.builds(
    SubmissionJobUpdate,
    submissions,
    st.sampled_from(["PENDING", "RUNNING", "SUCCEEDED", "FAILED"]),
    times,
    message=st.none() | texts,
    start_time_ms=stamps,
    end_time_ms=stamps,
    driver_node_id=st.none() | texts,
    driver_exit_code=st.none() | stamps,
)
kinds: dict[str, st.SearchStrategy[Record]] = {
    "actor": st.builds(ActorDefinition, actor_ids, jobs, texts, name=texts, required_resources=amounts)
    | st.builds(ActorUpdate, actor_ids, several(actor_transitions))
    | supervisors,
    "node": st.builds(NodeDefinition, nodes, texts, node_name=texts, hostname=texts, start_time_ms=stamps)
    | st.builds(NodeUpdate, nodes, several(node_transitions), stamps),
    "worker": st.builds(WorkerDefinition, nodes, nodes, st.sampled_from(["WORKER", "DRIVER"]), stamps)
    | st.builds(WorkerUpdate, nodes, jobs, several(worker_transitions)),
    "driver": st.builds(DriverJobDefinition, jobs, stamps, texts, driver_node_id=maybe_nodes, metadata=names)
    | st.builds(DriverJobUpdate, jobs, st.booleans(), stamps, stamps),
    "submission": st.builds(SubmissionJobDefinition, submissions, texts, metadata=names) | submission_updates,
    "group": st.builds(PlacementGroupDefinition, ids(18), texts, jobs, bundles=st.just([Bundle(0), Bundle(1)]))
    | st.builds(PlacementGroupUpdate, ids(18), several(group_transitions)),
    "log": log_events,
}


def sessions(records: st.SearchStrategy[Record]) -> st.SearchStrategy[list[tuple[Record, int]]]:
    return st.lists(st.tuples(records, st.integers(0, 2)), max_size=10)


@pytest.mark.parametrize("kind", [*kinds, "any"])
@settings(max_examples=150, deadline=None)
@given(data=st.data(), random=st.randoms(use_true_random=False))
def test_records_in_another_order_and_told_again_say_the_same(kind: str, data: st.DataObject, random: Random) -> None:
    session = data.draw(sessions(kinds[kind] if kind in kinds else st.one_of(list(kinds.values()))))
    again = data.draw(st.lists(st.sampled_from(session), max_size=6)) if session else []
    shuffled = [*session, *again]
    random.shuffle(shuffled)
    assert answers(index_of(shuffled)) == answers(index_of(session))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(log_events, st.integers(0, 5)), max_size=60), st.randoms(use_true_random=False))
def test_a_full_ring_keeps_the_same_events_in_any_order(events: list[tuple[LogEvent, int]], random: Random) -> None:
    numbered = [(event, position + at) for at, (event, position) in enumerate(events)]
    one, other = SessionIndex(), SessionIndex()
    for index in (one, other):
        index.log_events._max = 2
    one.apply(Decoded([event for event, _ in numbered], [position for _, position in numbered]))
    random.shuffle(numbered)
    other.apply(Decoded([event for event, _ in numbered], [position for _, position in numbered]))
    assert answers(one)["events"] == answers(other)["events"]


@pytest.mark.parametrize("capture", recorded(), ids=lambda path: path.name)
@pytest.mark.parametrize("seed", range(3))
def test_a_recorded_session_says_the_same_whichever_block_comes_first_or_twice(capture: Path, seed: int) -> None:
    told = blocks(capture)
    in_order, shuffled = SessionIndex(), SessionIndex()
    mixed = [*told, *told[::3]]
    Random(seed).shuffle(mixed)
    for block in told:
        in_order.apply(block)
    for block in mixed:
        shuffled.apply(block)
    assert answers(shuffled) == answers(in_order)

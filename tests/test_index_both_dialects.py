"""A session told in both dialects at once is one session: nothing counts twice, and the finer account wins."""

from __future__ import annotations

from itertools import permutations

import pytest
from support.indexes import DETAIL, answers, index_of, sent

from api.views import actors, jobs, nodes, workers
from pipeline.events import (
    ActorDefinition,
    ActorTransition,
    ActorUpdate,
    DriverJobDefinition,
    DriverJobUpdate,
    NodeDefinition,
    NodeTransition,
    NodeUpdate,
    Record,
    SubmissionJobDefinition,
    SubmissionJobUpdate,
)

S, MS = 1_000_000_000, 1_000_000
JOB, NODE, WORKER = b"\2\0\0\0", b"\7" * 28, b"\x08" * 28
ACTOR = b"\1" * 12 + JOB
DEATH = {"actor_died_error_context": {"error_message": "killed", "reason": "RAY_KILL"}}

POSTED: list[Record] = [
    ActorDefinition(ACTOR, JOB, "Counter", "c", call_site="x.py:1"),
    ActorUpdate(ACTOR, [ActorTransition("ALIVE", 10 * S + 250 * MS, NODE, WORKER, 11, 77)]),
    ActorUpdate(ACTOR, [ActorTransition("RESTARTING", 10 * S + 500 * MS, restart_reason="NODE_PREEMPTION")]),
    ActorUpdate(ACTOR, [ActorTransition("ALIVE", 10 * S + 750 * MS, NODE, WORKER, 12, 78)]),
    ActorUpdate(ACTOR, [ActorTransition("DEAD", 12 * S + 5 * MS, death_cause=DEATH)]),
]
EXPORT: list[Record] = [
    ActorDefinition(ACTOR, JOB, "Counter", "c", labels={"a": "b"}),
    ActorUpdate(ACTOR, [ActorTransition("ALIVE", 10 * S, NODE, b"", 11)]),
    ActorUpdate(ACTOR, [ActorTransition("RESTARTING", 10 * S, NODE, b"", 11)]),
    ActorUpdate(ACTOR, [ActorTransition("ALIVE", 10 * S, NODE, b"", 12)]),
    ActorUpdate(ACTOR, [ActorTransition("DEAD", 12 * S, NODE, b"", 12, death_cause=DEATH)]),
]


def actor_row(records: list[Record]) -> dict[str, object]:
    row: dict[str, object] = sent(actors.list_actors(index_of(records), DETAIL))["result"][0]
    return row


def test_a_restart_that_both_dialects_tell_of_counts_once() -> None:
    assert actor_row([*EXPORT, *POSTED])["num_restarts"] == "1"
    assert actor_row([*POSTED, *EXPORT])["num_restarts"] == "1"
    assert actor_row(EXPORT)["num_restarts"] == actor_row(POSTED)["num_restarts"] == "1"


def test_a_restart_that_is_told_again_counts_once_and_two_in_one_second_count_twice() -> None:
    again = [(record, at) for at, record in enumerate(EXPORT)] * 3
    assert index_of(again).actors.get(ACTOR).num_restarts() == 1  # type: ignore[union-attr]
    twice = [*EXPORT[:4], *EXPORT[2:4], EXPORT[4]]
    assert actor_row(twice)["num_restarts"] == "2"


def test_restarts_are_counted_by_reason_where_the_dialect_gives_one() -> None:
    row = actor_row([*EXPORT, *POSTED])
    assert row["num_restarts_due_to_node_preemption"] == "1"
    assert row["num_restarts_due_to_lineage_reconstruction"] == "0"


def test_the_exact_times_and_the_address_come_from_the_dialect_that_has_them() -> None:
    shown = actors.logical_actors(index_of([*EXPORT, *POSTED]))["actors"][ACTOR.hex()]
    assert shown["startTime"] == 10_250
    assert shown["endTime"] == 12_005
    assert shown["address"]["workerId"] == WORKER.hex()
    assert (shown["address"]["port"], shown["pid"]) == (78, 12)


def test_what_either_dialect_says_of_an_actor_is_known() -> None:
    definition = index_of([*POSTED, *EXPORT]).actors.get(ACTOR).definition  # type: ignore[union-attr]
    assert definition is not None
    assert (definition.call_site, definition.labels) == ("x.py:1", {"a": "b"})


def test_whole_seconds_are_ordered_by_their_place_in_the_file() -> None:
    row = actor_row(EXPORT)
    assert (row["state"], row["pid"]) == ("DEAD", 12)
    alive = index_of(EXPORT[:4]).actors.get(ACTOR)
    assert alive is not None
    assert (alive.state, alive.place and alive.place.pid) == ("ALIVE", 12)


def test_a_restarting_actor_keeps_its_node_and_process_but_has_no_address() -> None:
    for dialect in (POSTED, EXPORT):
        index = index_of(dialect[:3])
        assert actor_row(dialect[:3])["pid"] == 11
        assert actors.logical_actors(index)["actors"][ACTOR.hex()]["address"]["nodeId"] == ""


def test_an_actor_restarted_for_its_lineage_is_alive_again_and_shows_no_death() -> None:
    back = ActorUpdate(ACTOR, [ActorTransition("RESTARTING", 13 * S + 1, restart_reason="LINEAGE_RECONSTRUCTION")])
    alive = ActorUpdate(ACTOR, [ActorTransition("ALIVE", 14 * S + 1, NODE, WORKER, 13)])
    row = actor_row([*POSTED, back, alive])
    assert (row["state"], row["death_cause"], row["num_restarts"]) == ("ALIVE", None, "2")
    assert row["num_restarts_due_to_lineage_reconstruction"] == "1"


def told_of_death(*times: int, by: str = "posted") -> list[Record]:
    records = POSTED[:4] if by == "posted" else EXPORT[:4]
    return [*records, *(ActorUpdate(ACTOR, [ActorTransition("DEAD", time, NODE)]) for time in times)]


@pytest.mark.parametrize("by", ["posted", "export"])
@pytest.mark.parametrize("times", list(permutations([12 * S, 54 * S, 99 * S])))
def test_an_actor_died_when_it_was_said_first_however_often_its_jobs_end_says_it_again(
    times: tuple[int, ...], by: str
) -> None:
    actor = index_of(told_of_death(*times, by=by)).actors.get(ACTOR)
    assert actor is not None
    assert (actor.end_ns, actor.timestamp_ns, actor.state) == (12 * S, 99 * S, "DEAD"), "as the recordings have it"


def test_why_it_died_is_what_was_said_last() -> None:
    causes = [{"actor_died_error_context": {"error_message": why}} for why in ("no references", "nor a lineage")]
    said = [
        (ActorUpdate(ACTOR, [ActorTransition("DEAD", 12 * S, death_cause=cause)]), at)
        for at, cause in enumerate(causes)
    ]
    for order in permutations(said):
        actor = index_of(list(order)).actors.get(ACTOR)
        assert actor is not None
        assert actor.death_cause == causes[1]


def test_a_death_after_it_came_back_is_another_one() -> None:
    back = ActorUpdate(ACTOR, [ActorTransition("ALIVE", 20 * S + 1, NODE, WORKER, 13)])
    for records in permutations([*told_of_death(12 * S + 1, 13 * S + 1, 30 * S + 1, 31 * S + 1)[4:], back]):
        actor = index_of([*POSTED[:4], *records]).actors.get(ACTOR)
        assert actor is not None
        assert actor.end_ns == 30 * S + 1


def test_of_one_death_that_both_dialects_tell_of_the_exact_time_stands() -> None:
    for records in ([*POSTED, *EXPORT], [*EXPORT, *POSTED]):
        actor = index_of(records).actors.get(ACTOR)
        assert actor is not None
        assert actor.end_ns == 12 * S + 5 * MS


def test_only_a_dead_actor_has_a_death_cause_and_it_is_rays_own() -> None:
    assert actor_row(POSTED)["death_cause"] == DEATH
    assert actor_row(POSTED[:4])["death_cause"] is None


def test_of_two_accounts_of_one_death_the_same_one_is_shown_whichever_comes_first() -> None:
    causes = [{"actor_died_error_context": {"error_message": why}} for why in ("killed", "lost")]
    deaths = [(ActorUpdate(ACTOR, [ActorTransition("DEAD", 12 * S, death_cause=cause)]), 0) for cause in causes]
    first, other = (index_of(told).actors.get(ACTOR) for told in (deaths, deaths[::-1]))
    assert first is not None
    assert other is not None
    assert first.death_cause == other.death_cause == causes[1]


def test_an_actor_known_only_by_an_update_still_has_every_column_that_ray_requires() -> None:
    row = actor_row(POSTED[1:2])
    assert (row["class_name"], row["job_id"], row["state"]) == ("", "02000000", "ALIVE")


NODE_RECORDS: list[Record] = [
    NodeDefinition(NODE, "192.0.2.2", "n", "host", start_time_ms=1_500),
    NodeUpdate(NODE, [NodeTransition("ALIVE", S + 600 * MS, {"CPU": 4.0, "node:__internal_head__": 1.0})]),
    NodeUpdate(NODE, [NodeTransition("DEAD", 9 * S + 7 * MS, {}, "EXPECTED_TERMINATION", "received SIGTERM")]),
    NodeDefinition(NODE, "192.0.2.2", "n", start_time_ms=1_500, is_head_node=True),
    NodeUpdate(NODE, [NodeTransition("ALIVE", S, {"CPU": 4.0, "node:__internal_head__": 1.0})]),
    NodeUpdate(NODE, [NodeTransition("DEAD", 9 * S, {"CPU": 4.0}, "EXPECTED_TERMINATION", "received SIGTERM")], 9_004),
]


@pytest.mark.parametrize("order", list(permutations(range(6)))[::97])
def test_a_node_told_of_twice_is_one_node_whatever_comes_first(order: tuple[int, ...]) -> None:
    index = index_of([(NODE_RECORDS[at], at) for at in order])
    [row] = sent(nodes.list_nodes(index, DETAIL))["result"]
    assert (row["is_head_node"], row["start_time_ms"]) == (True, 1_500)
    node = index.nodes.get(NODE)
    assert node is not None
    assert (node.is_alive, nodes.state_message(node)) == (False, "Expected termination: received SIGTERM")
    assert node.end_ms == 9_004


def test_the_last_head_stands_since_its_dashboard_never_saw_it_dead_and_an_earlier_one_falls() -> None:
    def lists(*records: Record) -> list[tuple[str, int]]:
        rows = sent(nodes.list_nodes(index_of(list(records)), DETAIL))["result"]
        return [(row["state"], row["end_time_ms"]) for row in rows]

    first, dead = NODE_RECORDS[:2], NODE_RECORDS[2]
    assert lists(*first) == lists(*first, dead) == [("ALIVE", 0)]
    next_head = NodeDefinition(b"\xee" * 28, "192.0.2.3", "n", start_time_ms=9_100, is_head_node=True)
    assert lists(*first, dead, next_head) == [("DEAD", 9_007), ("ALIVE", 0)]
    worker = NodeDefinition(b"\xee" * 28, "192.0.2.3", "n", start_time_ms=9_100)
    gone = NodeUpdate(b"\xee" * 28, [NodeTransition("DEAD", 9 * S + 8 * MS)])
    assert lists(*first, dead, worker, gone) == [("ALIVE", 0), ("DEAD", 9_008)]


def test_a_dead_node_never_comes_back() -> None:
    late = NodeUpdate(NODE, [NodeTransition("ALIVE", 99 * S + 1, {"CPU": 8.0})])
    node = index_of([*NODE_RECORDS[:3], late]).nodes.get(NODE)
    assert node is not None
    assert (node.is_alive, node.end_ms) == (False, 9_007)


def test_a_dead_node_keeps_the_resources_it_had() -> None:
    [row] = sent(nodes.list_nodes(index_of(NODE_RECORDS[:3]), DETAIL))["result"]
    assert row["resources_total"] == {"CPU": 4.0, "node:__internal_head__": 1.0}


def test_a_submission_told_of_in_both_dialects_is_one_job_with_its_last_status() -> None:
    records: list[Record] = [
        DriverJobDefinition(
            JOB, 5, "python x.py", NODE, metadata={"job_submission_id": "s1", "job_name": "s1", "a": "b"}
        ),
        DriverJobUpdate(JOB, True, 2_000, 3_000),
        DriverJobUpdate(JOB, True, 2_003, 3_002),
        SubmissionJobDefinition("s1", "python x.py", "{}", {"a": "b"}),
        SubmissionJobUpdate("s1", "RUNNING", 2 * S, "Job is currently running.", start_time_ms=1_900),
        SubmissionJobUpdate(
            "s1", "FAILED", 3 * S, "why", "JOB_ENTRYPOINT_COMMAND_ERROR", 1_900, 3_100, driver_exit_code=1
        ),
        SubmissionJobUpdate("s1", "RUNNING", 4 * S + 1, "Job is currently running."),
    ]
    for told in (records, records[::-1]):
        [row] = jobs.jobs_rest(index_of(told))
        assert (row["job_id"], row["submission_id"], row["type"]) == ("02000000", "s1", "SUBMISSION")
        assert (row["status"], row["message"], row["driver_exit_code"]) == ("FAILED", "why", 1)
        assert (row["start_time"], row["end_time"], row["metadata"]) == (1_900, 3_100, {"a": "b"})


def test_applying_a_session_a_second_time_changes_nothing() -> None:
    told = [(record, at) for at, record in enumerate([*POSTED, *EXPORT, *NODE_RECORDS])]
    assert answers(index_of(told * 2)) == answers(index_of(told))


def test_driver_rows_come_from_jobs_only_where_no_worker_record_has_them() -> None:
    index = index_of([DriverJobDefinition(JOB, 5, "", NODE), DriverJobUpdate(JOB, False, 2_000)])
    [row] = workers.list_workers(index, DETAIL)["result"]
    assert row["worker_id"] == JOB.hex() + "ff" * 24
    assert (row["worker_type"], row["is_alive"], row["pid"], row["start_time_ms"]) == ("DRIVER", True, 5, 2_000)


def test_what_its_deaths_take_is_counted_once_each() -> None:
    causes = [{"actor_died_error_context": {"error_message": "x" * size}} for size in (10, 1000, 10)]
    told: list[Record] = [ActorUpdate(ACTOR, [ActorTransition("DEAD", 12 * S, death_cause=cause)]) for cause in causes]
    actor = index_of([(record, 0) for record in told]).actors.get(ACTOR)
    assert actor is not None
    assert actor.deaths is not None
    assert len(actor.deaths) == 1
    assert actor.death_bytes == sum(120 + len(cause) for cause in actor.deaths.values())

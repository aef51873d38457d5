"""An actor is found on the page of every node that it lived on, whatever order its records came in."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from support.indexes import index_of, sent

from api.views.nodes import node_detail
from pipeline.events import (
    ActorDefinition,
    ActorTransition,
    ActorUpdate,
    NodeDefinition,
    Record,
    WorkerDefinition,
)

JOB = b"\2\0\0\0"
ACTOR = b"\3" * 12 + JOB
NODES = [bytes([number]) * 28 for number in (5, 6, 7)]
MADE: list[Record] = [ActorDefinition(ACTOR, JOB, "Mover"), *(NodeDefinition(node, "192.0.2.2") for node in NODES)]
STEPS = [
    ActorTransition("ALIVE", 1_000_000_001, NODES[0], b"\7" * 28, 10),
    ActorTransition("RESTARTING", 2_000_000_001),
    ActorTransition("ALIVE", 3_000_000_001, NODES[1], b"\7" * 28, 11),
]


def actors_on(records: list[Record], node: bytes) -> dict[str, Any]:
    detail = node_detail(index_of(records), node.hex())
    assert detail is not None
    found: dict[str, Any] = sent(detail)["detail"]["actors"]
    return found


def test_an_actor_that_moved_is_on_the_page_of_the_node_it_left_and_says_where_it_went() -> None:
    for steps in permutations(STEPS):
        records = MADE + [ActorUpdate(ACTOR, [step]) for step in steps]
        for node in NODES[:2]:
            (actor,) = actors_on(records, node).values()
            assert actor["address"]["nodeId"] == NODES[1].hex()


def test_a_node_that_it_never_lived_on_does_not_have_it() -> None:
    assert actors_on([*MADE, ActorUpdate(ACTOR, STEPS)], NODES[2]) == {}


def test_an_actor_that_waits_for_its_restart_is_nowhere() -> None:
    assert actors_on([*MADE, ActorUpdate(ACTOR, STEPS[:2])], NODES[0]) == {}


def test_records_that_come_twice_add_no_home() -> None:
    (actor,) = index_of([*MADE, *([ActorUpdate(ACTOR, STEPS)] * 2)]).actors.values()
    assert actor.homes == frozenset(NODES[:2])


def test_an_actor_that_died_before_it_came_to_live_is_where_its_last_process_was() -> None:
    cause = {"actor_died_error_context": {"error_message": "it fell over", "pid": 12}}
    records: list[Record] = [
        *MADE,
        WorkerDefinition(b"\x08" * 28, NODES[1], "WORKER", 12),
        ActorUpdate(ACTOR, [ActorTransition("DEAD", 1_000_000_001, death_cause=cause)]),
    ]
    (actor,) = actors_on(records, NODES[1]).values()
    assert actor["pid"] == 12
    assert (actor["address"]["nodeId"], actor["address"]["workerId"]) == (NODES[1].hex(), "08" * 28)


def test_a_process_id_that_came_twice_says_nothing_of_where() -> None:
    cause = {"actor_died_error_context": {"pid": 12}}
    records: list[Record] = [
        *MADE,
        *(WorkerDefinition(bytes([number]) * 28, NODES[1], "WORKER", 12) for number in (8, 9)),
        ActorUpdate(ACTOR, [ActorTransition("DEAD", 1_000_000_001, death_cause=cause)]),
    ]
    assert actors_on(records, NODES[1]) == {}

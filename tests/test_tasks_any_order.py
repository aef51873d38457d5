"""Whatever order the records of a session come in, and however often, its answers about tasks are the same."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.captures import DATA
from support.taskset import index_of, index_of_tasks, recorded, sessions

from api.index.session_index import SessionIndex
from api.query.query import ListOptions, SummaryOptions
from api.views.summaries import summarize_tasks
from api.views.tasks import list_tasks
from api.views.timeline import timeline
from pipeline.events import TaskDefinition

RECORDINGS = {name: recorded(DATA / name) for name in ("posted", "export")}


def answers(index: SessionIndex) -> tuple[Any, ...]:
    everything = ListOptions(limit=10_000, detail=True, exclude_driver=False)
    return (
        list_tasks(index, everything),
        summarize_tasks(index, SummaryOptions()),
        summarize_tasks(index, SummaryOptions(summary_by="lineage")),
        timeline(index, None),
    )


@settings(deadline=None, max_examples=15)
@given(name=st.sampled_from(sorted(RECORDINGS)), seed=st.integers(0, 2**32))
def test_a_recording_shuffled_and_repeated_gives_the_same_answers(name: str, seed: int) -> None:
    records = RECORDINGS[name]
    rng = random.Random(seed)
    mixed = [*records, *rng.choices(records, k=len(records) // 2)]
    rng.shuffle(mixed)
    assert answers(index_of(mixed)) == answers(index_of(records))


@settings(deadline=None, max_examples=150)
@given(sessions(), st.randoms(use_true_random=False))
def test_contradicting_records_are_settled_the_same_way_in_any_order(records: list[Any], rng: random.Random) -> None:
    mixed = [*records, *rng.choices(records, k=len(records))] if records else []
    rng.shuffle(mixed)
    assert answers(index_of_tasks(mixed)) == answers(index_of_tasks(records))


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_both_dialects_of_one_session_say_no_more_than_either(name: str) -> None:
    """The recordings are of two sessions; what is said twice of one is said by repeating it without names."""
    records = RECORDINGS[name]
    nameless = [
        (msgspec.structs.replace(record, name=None), position)
        for record, position in records
        if isinstance(record, TaskDefinition)
    ]
    assert answers(index_of(nameless + records)) == answers(index_of(records))

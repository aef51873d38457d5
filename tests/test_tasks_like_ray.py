"""Task answers are what Ray's own code makes of the same events: its store, query and aggregator against ours.

Events are generated as Ray's workers send them (times grow, nothing contradicts itself): what contradicting
ones mean is ours alone, see ``test_tasks_any_order``.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.taskset import (
    JOBS,
    T0,
    WORKERS,
    attempt_records,
    ids,
    index_of_tasks,
    keys,
    sessions,
    texts,
)

pytest.importorskip("ray")

from ray._private.profiling import chrome_tracing_dump
from ray.core.generated import gcs_pb2
from ray.util.state.common import TaskSummaries
from support.raystore import RayTasks

from api.index.outcome import WorkerDeath
from api.query.query import Filter, ListOptions, SummaryOptions, filter_rows, project
from api.query.schemas import TASKS
from api.views.summaries import summarize_tasks
from api.views.tasks import list_tasks
from api.views.timeline import timeline
from pipeline.events import ActorDefinition, ActorTransition, ActorUpdate, TaskDefinition, TaskProfile, TaskUpdate

PHASES = (Phase.explicit, Phase.generate, Phase.shrink)
"""All but the explanation of a failure, which takes minutes here."""
UNSAID: dict[str, Any] = {
    "node_id": b"",
    "worker_id": b"",
    "worker_pid": 0,
    "error_type": None,
    "log_info": None,
    "is_debugger_paused": None,
    "actor_repr_name": None,
}
EVERYTHING = ListOptions(limit=10_000, detail=True, exclude_driver=False)
EXIT_TYPES = ("SYSTEM_ERROR", "INTENDED_SYSTEM_EXIT", "USER_ERROR", "INTENDED_USER_EXIT", "NODE_OUT_OF_MEMORY")


@st.composite
def lives(draw: st.DrawFn) -> list[Any]:
    """The records of a session in the order they happened; every fact but the states' times is said once."""
    chosen = draw(st.lists(keys, min_size=1, max_size=5, unique_by=lambda key: key[0]))
    clock = T0
    records: list[Any] = []
    for key in chosen:
        told: set[str] = set()
        for record in draw(attempt_records(key)):
            kind = type(record).__name__
            if isinstance(record, TaskUpdate):
                states = []
                for state, _ in sorted(record.states):
                    clock += 1 + clock % 999_983 * 1_000
                    states.append((state, clock))
                records.append(_once(msgspec.structs.replace(record, states=states), told))
            elif kind not in told:
                told.add(kind)
                records.append(_in_order(record) if isinstance(record, TaskProfile) else record)
    return records


def _once(update: TaskUpdate, told: set[str]) -> TaskUpdate:
    """The update without what an earlier one of its attempt has said."""
    said = {name for name, unsaid in UNSAID.items() if getattr(update, name) != unsaid}
    repeated = {name: UNSAID[name] for name in said & told}
    told |= said
    return msgspec.structs.replace(update, **repeated)


def _in_order(profile: TaskProfile) -> TaskProfile:
    """Spans as a worker sends them: as they end, each once."""
    spans = {(span.end_ns, span.start_ns, span.event_name, span.extra_data): span for span in profile.events}
    return msgspec.structs.replace(profile, events=[spans[key] for key in sorted(spans)])


def both(records: list[Any]) -> tuple[Any, RayTasks]:
    index, ray = index_of_tasks(records), RayTasks()
    for record in records:
        ray.take(record)
    return index, ray


def by_attempt(answer: dict[str, Any]) -> dict[str, Any]:
    """Ray leaves open in which order a task's attempts come."""
    rows = sorted(answer["result"], key=lambda row: (row["task_id"], -row["attempt_number"]))
    return answer | {"result": rows}


@settings(deadline=None, max_examples=120, phases=PHASES)
@given(lives(), st.booleans(), st.booleans())
def test_lists_are_rays(records: list[Any], detail: bool, exclude_driver: bool) -> None:
    index, ray = both(records)
    options = ListOptions(limit=10_000, detail=detail, exclude_driver=exclude_driver)
    theirs = ray.list([], limit=10_000, detail=detail, exclude_driver=exclude_driver)
    assert list_tasks(index, options) == by_attempt(theirs)


FILTERS = st.lists(
    st.tuples(
        st.sampled_from(
            [*sorted(TASKS.filterable()), "JOB_ID", "STATE", "name", "state", "job_id", "worker_pid", "bogus", "events"]
        ),
        st.sampled_from(["=", "!="]),
        st.one_of(
            texts,
            ids.map(bytes.hex),
            ids.map(lambda task: task[8:].hex()),
            st.sampled_from([JOBS[0].hex(), JOBS[1].hex().upper(), WORKERS[0].hex(), "zz", "00"]),
            st.sampled_from(["RUNNING", "finished", "FAILED", "NORMAL_TASK", "python", "41", "1", "False", "abc"]),
        ),
    ),
    max_size=3,
)


def outcome(call: Any) -> Any:
    try:
        return call()
    except ValueError as exc:
        return ("refused", str(exc).split("Supported filter columns")[0])


@settings(deadline=None, max_examples=250, phases=PHASES)
@given(lives(), FILTERS, st.integers(0, 4))
def test_filtered_lists_are_rays(records: list[Any], filters: list[tuple[str, str, str]], limit: int) -> None:
    records = [  # Ray's source filters by the name that an actor's own name replaces later: see the module
        msgspec.structs.replace(record, actor_repr_name=None) if isinstance(record, TaskUpdate) else record
        for record in records
    ]
    index, ray = both(records)
    options = ListOptions(limit=limit, filters=tuple(Filter(*item) for item in filters))
    assert outcome(lambda: list_tasks(index, options)) == outcome(lambda: ray.list(filters, limit=limit))


@settings(deadline=None, max_examples=150, phases=PHASES)
@given(lives(), FILTERS)
def test_filters_over_columns_are_filters_over_rows(records: list[Any], filters: list[tuple[str, str, str]]) -> None:
    index = index_of_tasks(records)
    filters = [item for item in filters if item[0] not in ("task_id", "job_id", "actor_id")]
    filters.sort(key=lambda item: item[0] not in ("name", "state"))  # what the source filters by is refused last
    chosen = tuple(Filter(*item) for item in filters)
    rows = list_tasks(index, EVERYTHING)["result"]
    for row in rows:  # Ray's row has no such column where there is no error; the answer shows null
        if row["error_type"] is None:
            del row["error_type"]
    options = ListOptions(limit=10_000, detail=True, exclude_driver=False, filters=chosen)
    shown = outcome(lambda: [project(row, TASKS.shown(True)) for row in filter_rows(rows, TASKS, chosen)])
    assert outcome(lambda: list_tasks(index, options)["result"]) == shown


@settings(deadline=None, max_examples=120, phases=PHASES)
@given(lives(), st.sampled_from([None, "task_name", "lineage"]))
def test_summaries_are_rays(records: list[Any], summary_by: str | None) -> None:
    index, ray = both(records)
    ours = summarize_tasks(index, SummaryOptions(summary_by=summary_by))
    assert ours == ray.summarize([], summary_by)


@settings(deadline=None, max_examples=300, phases=PHASES)
@given(sessions(max_attempts=9), st.dictionaries(st.integers(1, 2), st.tuples(texts, texts)))
def test_trees_of_retried_tasks_and_known_actors_are_rays(
    records: list[Any], actors: dict[int, tuple[str, str]]
) -> None:
    """With attempts that share a task: Ray's function is given the rows of our list."""
    rows = []
    for number, (class_name, repr_name) in actors.items():
        for job in JOBS:
            actor_id = bytes([number]) * 12 + job
            records = [
                *records,
                ActorDefinition(actor_id, job, class_name),
                ActorUpdate(actor_id, [ActorTransition("ALIVE", T0, WORKERS[0], repr_name=repr_name)]),
            ]
            rows.append({"actor_id": actor_id.hex(), "class_name": class_name, "repr_name": repr_name})
    index = index_of_tasks(records)
    tasks = list_tasks(index, ListOptions(limit=10_000, detail=True))["result"]
    theirs = msgspec.to_builtins(
        TaskSummaries.to_summary_by_lineage(tasks=tasks, actors=rows), builtin_types=(), str_keys=True
    )
    ours = summarize_tasks(index, SummaryOptions(summary_by="lineage"))
    assert ours["result"]["node_id_to_summary"]["cluster"] == theirs


@settings(deadline=None, max_examples=120, phases=PHASES)
@given(sessions(), st.sampled_from([None, *JOBS]))
def test_timelines_are_rays(records: list[Any], job: bytes | None) -> None:
    index = index_of_tasks(records)
    filters = (Filter("job_id", "=", job.hex()),) if job else ()
    rows = list_tasks(index, ListOptions(limit=10_000, detail=True, filters=filters))["result"]
    theirs = json.loads(chrome_tracing_dump(copy.deepcopy(rows)))
    assert timeline(index, job.hex() if job else None) == theirs


deaths = st.builds(
    WorkerDeath,
    st.integers(T0 // 10**6, T0 // 10**6 + 30_000),
    st.sampled_from(EXIT_TYPES),
    st.sampled_from(["", "why"]),
)
ends = st.integers(T0 // 10**6, T0 // 10**6 + 30_000)


@settings(deadline=None, max_examples=200, phases=PHASES)
@given(lives(), st.dictionaries(st.sampled_from(WORKERS), deaths), st.dictionaries(st.sampled_from(JOBS), ends))
def test_tasks_fail_with_their_worker_or_job_as_in_ray(
    records: list[Any], workers: dict[bytes, WorkerDeath], jobs: dict[bytes, int]
) -> None:
    index, ray = both(records)
    marks: list[tuple[int, int, bytes]] = [(death.end_time_ms + 1_000, 0, key) for key, death in workers.items()]
    marks += [(end_ms + 15_000, 1, key) for key, end_ms in jobs.items()]
    for _, kind, key in sorted(marks):  # Ray lets late records arrive first: a second, or fifteen
        if kind:
            ray.store.mark_tasks_failed_on_job_ends(key, jobs[key] * 10**6)
        else:
            death = workers[key]
            table = gcs_pb2.WorkerTableData(
                end_time_ms=death.end_time_ms,
                exit_type=EXIT_TYPES.index(death.exit_type),
                exit_detail=death.exit_detail,
            )
            ray.store.mark_tasks_failed_on_worker_dead(key, table)
    index.prepared_tasks()
    index.tasks.refresh(workers, jobs)
    theirs = ray.list([], limit=10_000, detail=True, exclude_driver=False)
    assert list_tasks(index, EVERYTHING) == by_attempt(theirs)


def test_a_session_of_definitions_only_lists_them_as_nil() -> None:
    record = TaskDefinition(b"\1" * 24, 0, b"\1" * 4, "NORMAL_TASK", "PYTHON", "f", "f")
    index, ray = both([record])
    assert list_tasks(index, EVERYTHING)["result"][0]["state"] == "NIL"
    assert list_tasks(index, EVERYTHING) == ray.list([], limit=10_000, detail=True, exclude_driver=False)

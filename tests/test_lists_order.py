"""Sorted, paged and cut lists are what plain Python makes of all rows, for every column of every resource."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.captures import DATA
from support.indexes import index_of_capture
from support.listing import EVERYTHING, Row, asking, pages, plainly_sorted
from support.taskset import JOBS, NODES, T0, WORKERS, driver_id, index_of_tasks, sessions, task_id

from api.index.session_index import SessionIndex
from api.query.paging import parse_beyond
from api.query.query import BadQuery, Filter, ListOptions, list_response
from api.query.schemas import ACTORS, CLUSTER_EVENTS, OBJECTS, PLACEMENT_GROUPS, TASKS, Schema
from api.query.schemas import JOBS as JOB_LIST
from api.query.schemas import NODES as NODE_LIST
from api.query.schemas import WORKERS as WORKER_LIST
from api.views import task_order
from api.views.actors import list_actors
from api.views.cluster_events import list_cluster_events
from api.views.jobs import list_jobs
from api.views.nodes import list_nodes
from api.views.objects import list_objects
from api.views.tasks import list_tasks
from api.views.workers import list_workers
from pipeline.events import TaskDefinition, TaskUpdate

PHASES = (Phase.explicit, Phase.generate, Phase.shrink)
TASK_COLUMNS = [column.name for column in TASKS.columns]


def task_name(row: Row) -> tuple[str, int]:
    return row["task_id"], -row["attempt_number"]


def same_order(found: list[Row], wanted: list[Row]) -> None:
    assert [task_name(row) for row in found] == [task_name(row) for row in wanted]
    assert found == wanted


@pytest.mark.parametrize("column", TASK_COLUMNS)
@settings(max_examples=12, phases=PHASES, deadline=None)
@given(records=sessions(8), descending=st.booleans(), size=st.integers(1, 5))
def test_tasks_by_any_column_page_by_page_are_all_tasks_sorted(
    column: str, records: list[Any], descending: bool, size: int
) -> None:
    index = index_of_tasks(records)
    rows = list_tasks(index, EVERYTHING)["result"]
    asked = {"sort_by": f"-{column}" if descending else column}
    if column == "task_id" and descending:
        wanted = sorted(rows, key=lambda row: row["attempt_number"], reverse=True)
        wanted.sort(key=lambda row: row["task_id"], reverse=True)
    else:
        wanted = plainly_sorted(rows, task_name, column, descending=descending)
    found = [row for page in pages(lambda o: list_tasks(index, o), TASKS, size, **asked) for row in page]
    same_order(found, wanted)
    offset = asking(lambda o: list_tasks(index, o), TASKS, size, offset="2", **asked)["result"]
    same_order(offset, wanted[2 : 2 + size])


def life(row: Row) -> tuple[float, float] | None:
    times = [event["created_ms"] for event in row["events"] if event["created_ms"] > 0]
    end = row["end_time_ms"]
    return (min(times), float("inf") if end is None else max(end, min(times))) if times else None


@settings(max_examples=60, phases=PHASES, deadline=None)
@given(records=sessions(8), start=st.integers(-10, 10_010), length=st.integers(0, 3000))
def test_a_time_range_has_the_tasks_that_lived_in_it(records: list[Any], start: int, length: int) -> None:
    index = index_of_tasks(records)
    start_ms = T0 // 10**6 + start
    wanted = [
        row
        for row in list_tasks(index, EVERYTHING)["result"]
        if (lived := life(row)) and lived[0] <= start_ms + length and lived[1] >= start_ms
    ]
    both = {"start_time_ms": str(start_ms), "end_time_ms": str(start_ms + length)}
    answer = asking(lambda o: list_tasks(index, o), TASKS, 100, **both)
    same_order(answer["result"], wanted)
    assert answer["num_filtered"] == len(wanted)


def test_both_ends_of_a_range_belong_to_it() -> None:
    index = small_session()
    row = next(row for row in list_tasks(index, EVERYTHING)["result"] if row["task_id"] == task_id(3).hex())
    begin, end = int(row["creation_time_ms"]), int(row["end_time_ms"])

    def within(start: int, end: int) -> bool:
        told = {"start_time_ms": str(start), "end_time_ms": str(end)}
        rows = asking(lambda o: list_tasks(index, o), TASKS, 100, **told)["result"]
        return task_id(3).hex() in {row["task_id"] for row in rows}

    assert within(begin - 5, begin)
    assert within(end, end + 5)
    assert not within(begin - 5, begin - 1)
    assert not within(end + 1, end + 5)


def test_filters_count_as_in_ray_and_the_range_counts_among_them() -> None:
    index = small_session()
    filters = (Filter("state", "=", "FINISHED"), Filter("worker_pid", "=", "42"))
    plain = list_tasks(index, ListOptions(limit=100, filters=filters))
    beyond = parse_beyond([("offset", "1")], TASKS, "s", limit=2)
    answer = list_tasks(index, ListOptions(limit=2, filters=filters, beyond=beyond))
    counts = ("total", "num_after_truncation", "num_filtered")
    assert [answer[name] for name in counts] == [plain[name] for name in counts]
    assert answer["result"] == plain["result"][1:3]


def small_session() -> SessionIndex:
    records: list[Any] = []
    for number in range(20):
        task = task_id(number)
        at = T0 + number * 10**9
        states = [(1, at), (8, at + 10**6), (11, at + 2 * 10**6)] if number % 2 else [(1, at), (8, at + 10**6)]
        records += [
            TaskDefinition(task, 0, JOBS[0], "NORMAL_TASK", "PYTHON", f"f{number % 3}", f"f{number % 3}", driver_id(JOBS[0])),
            TaskUpdate(task, 0, JOBS[0], states, NODES[0], WORKERS[0], 42),
        ]  # fmt: skip
    return index_of_tasks(records)


def test_fields_are_the_columns_in_the_order_asked_detail_or_not() -> None:
    answer = asking(lambda o: list_tasks(small_session(), o), TASKS, 1, fields="end_time_ms,task_id,end_time_ms")
    assert list(answer["result"][0]) == ["end_time_ms", "task_id"]
    with pytest.raises(BadQuery, match=r"fields: tasks have no column 'nope'.*Valid columns: task_id, attempt_number"):
        asking(lambda o: list_tasks(small_session(), o), TASKS, 1, fields="task_id,nope")


def test_without_pages_there_is_no_token_and_at_the_end_it_is_none() -> None:
    def view(options: ListOptions) -> dict[str, Any]:
        return list_tasks(small_session(), options)

    assert "next_page_token" not in asking(view, TASKS, 3, sort_by="name")
    assert asking(view, TASKS, 3, offset="0")["next_page_token"] is not None
    assert asking(view, TASKS, 20, offset="0")["next_page_token"] is None
    assert asking(view, TASKS, 3, offset="10000000")["result"] == []
    assert asking(view, TASKS, 0, offset="0")["result"] == []


def test_what_must_be_written_out_to_be_sorted_is_refused_for_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_order, "MAX_NESTED", 19)
    with pytest.raises(BadQuery, match="20 tasks are too many"):
        asking(lambda o: list_tasks(small_session(), o), TASKS, 3, sort_by="events")


# -- the other lists --------------------------------------------------------------------------------

LISTS: dict[str, tuple[Schema, Any, Any]] = {
    "actors": (ACTORS, list_actors, lambda row: row["actor_id"]),
    "nodes": (NODE_LIST, list_nodes, lambda row: row["node_id"]),
    "workers": (WORKER_LIST, list_workers, lambda row: row["worker_id"]),
    "cluster_events": (CLUSTER_EVENTS, list_cluster_events, lambda row: row["event_id"]),
}


@pytest.fixture(scope="module", params=["posted", "export"])
def recording(request: pytest.FixtureRequest) -> SessionIndex:
    return index_of_capture(DATA / request.param)


@pytest.mark.parametrize("resource", LISTS)
@pytest.mark.parametrize("sign", ["", "-"])
def test_recorded_lists_by_any_column_page_by_page_are_all_rows_sorted(
    recording: SessionIndex, resource: str, sign: str
) -> None:
    schema, view, name = LISTS[resource]
    rows = view(recording, EVERYTHING)["result"]
    assert rows
    for column in (each.name for each in schema.columns if not each.name.startswith("num_restarts")):
        wanted = plainly_sorted(rows, name, column, descending=bool(sign))
        found = [row for page in pages(lambda o: view(recording, o), schema, 3, sort_by=sign + column) for row in page]
        assert found == wanted, column


@pytest.mark.parametrize("resource", LISTS)
def test_in_rays_own_order_the_pages_are_rays_list(recording: SessionIndex, resource: str) -> None:
    schema, view, _ = LISTS[resource]
    found = [row for page in pages(lambda o: view(recording, o), schema, 2) for row in page]
    wanted = view(recording, EVERYTHING)["result"]
    assert sorted(found, key=str) == sorted(wanted, key=str)
    if resource != "cluster_events":  # of one moment Ray's order is that of arrival
        assert found == wanted


def test_jobs_of_no_driver_come_first_and_each_once(recording: SessionIndex) -> None:
    wanted = list_jobs(recording, EVERYTHING)["result"]
    found = [row for page in pages(lambda o: list_jobs(recording, o), JOB_LIST, 1) for row in page]
    assert sorted(found, key=str) == sorted(wanted, key=str)


def test_a_recorded_range_has_the_actors_and_nodes_that_lived_then(recording: SessionIndex) -> None:
    for view, schema in ((list_nodes, NODE_LIST), (list_actors, ACTORS), (list_jobs, JOB_LIST)):
        total = len(view(recording, EVERYTHING)["result"])

        def within(start: int, end: int, view: Any = view, schema: Schema = schema) -> int:
            told = {"start_time_ms": str(start), "end_time_ms": str(end)}
            return len(asking(lambda o: view(recording, o), schema, 1000, **told)["result"])

        assert within(0, 1 << 60) == total
        assert within(0, 1) == 0


HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=True),
    st.text(max_size=4),
    st.sampled_from(["\ud800", "10", "9", {"b": 1, "a": [None]}, [], {}]),
)


@settings(max_examples=150, phases=PHASES, deadline=None)
@given(values=st.lists(HOSTILE, max_size=12), descending=st.booleans(), size=st.integers(1, 4))
def test_values_of_any_kind_have_one_order_in_which_each_row_comes_once(
    values: list[Any], descending: bool, size: int
) -> None:
    rows = [{"placement_group_id": f"{at % 3:02}", "name": value} for at, value in enumerate(values)]

    def view(options: ListOptions) -> dict[str, Any]:
        return list_response(rows, PLACEMENT_GROUPS, options)

    asked = {"sort_by": "-name" if descending else "name", "fields": "placement_group_id,name"}
    whole = asking(view, PLACEMENT_GROUPS, None, **asked)["result"]
    found = [row for page in pages(view, PLACEMENT_GROUPS, size, **asked) for row in page]
    assert list(map(repr, found)) == list(map(repr, whole))
    assert sorted(map(repr, whole)) == sorted(map(repr, rows))
    missing = [row["name"] is None or row["name"] != row["name"] for row in whole]
    assert missing == sorted(missing)


def test_figures_that_ray_writes_as_text_sort_as_numbers() -> None:
    rows = [{"actor_id": number, "num_restarts": number} for number in ("10", "9", "1")]
    answer = asking(lambda o: list_response(rows, ACTORS, o), ACTORS, 5, sort_by="num_restarts", fields="num_restarts")
    assert [row["num_restarts"] for row in answer["result"]] == ["1", "9", "10"]


def test_what_carries_no_time_refuses_a_time_range() -> None:
    for told in ({"start_time_ms": "1"}, {"end_time_ms": "1"}):
        with pytest.raises(BadQuery, match="objects carry no time"):
            asking(list_objects, OBJECTS, 5, **told)

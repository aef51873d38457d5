"""Filters mean what they mean to Ray: every case is answered by ours and by the installed Ray and compared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.query.query import BadQuery, Filter, filter_rows, list_response, parse_list_options
from api.query.schemas import ACTORS, NODES, SCHEMAS, TASKS, Column, Schema

ray_utils = pytest.importorskip("ray.dashboard.state_api_utils")
common = pytest.importorskip("ray.util.state.common")

STATES = {
    "tasks": common.TaskState,
    "actors": common.ActorState,
    "nodes": common.NodeState,
    "workers": common.WorkerState,
    "jobs": common.JobState,
    "placement_groups": common.PlacementGroupState,
    "objects": common.ObjectState,
}
CELLS = st.one_of(
    st.none(),
    st.sampled_from(["", "FINISHED", "finished", "Leaf", "leaf", "0", "1", "true", "False", "ﬁ", "SS", "ß"]),
    st.integers(-1, 3),
    st.booleans(),
    st.sampled_from([0.0, 1.0, 1.5]),
)
TEXTS = st.sampled_from(
    ["", "FINISHED", "finished", "LEAF", "0", "1", "1.0", "2", "True", "true", "False", "abc", "ß", "ss", " 1", "1_0"]
)


def ray_filter(rows: list[dict[str, Any]], resource: str, filters: list[Filter], detail: bool) -> Any:
    triples = [(item.column, item.predicate, item.value) for item in filters]
    return ray_utils.do_filter(rows, triples, STATES[resource], detail)


def outcome(call: Any) -> Any:
    """What a call gives, or the refusal: without the list of columns, whose order is random in Ray."""
    try:
        return call()
    except ValueError as exc:
        return ("refused", str(exc).split("Supported filter columns")[0])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Schema, list[dict[str, Any]], list[Filter]]:
    schema = SCHEMAS[draw(st.sampled_from(sorted(STATES)))]
    names = [column.name for column in schema.columns]
    row = st.fixed_dictionaries({}, optional=dict.fromkeys(names, CELLS))
    column = st.sampled_from([*names, *(name.upper() for name in names[:2]), "bogus"])
    filters = st.lists(st.builds(Filter, column, st.sampled_from(["=", "!="]), TEXTS), max_size=3)
    return schema, draw(st.lists(row, max_size=6)), draw(filters)


@pytest.mark.filterwarnings("ignore:The `schema` method is deprecated")
@settings(deadline=None, max_examples=500)
@given(cases(), st.booleans())
def test_any_filters_over_any_rows_give_what_ray_gives(
    case: tuple[Schema, list[dict[str, Any]], list[Filter]], detail: bool
) -> None:
    schema, rows, filters = case
    shown = schema.shown(detail)
    ours = outcome(lambda: [{n: row.get(n) for n in shown} for row in filter_rows(rows, schema, filters)])
    assert ours == outcome(lambda: ray_filter(rows, schema.resource, filters, detail))


@pytest.mark.parametrize(
    ("schema", "column"),
    [(SCHEMAS[name], column) for name in SCHEMAS for column in SCHEMAS[name].columns if column.absent],
    ids=lambda value: getattr(value, "resource", None) or value.name,
)
@pytest.mark.parametrize("value", ["", "x"])
def test_a_row_without_a_value_that_ray_leaves_out_passes_no_filter_on_it(
    schema: Schema, column: Column, value: str
) -> None:
    rows = [{column.name: None}, {column.name: "y"}]
    assert filter_rows(rows, schema, [Filter(column.name, "!=", value)]) == rows[1:]


def test_the_refusal_of_a_column_lists_every_filterable_one() -> None:
    with pytest.raises(BadQuery, match="given filter column bogus is not supported") as refused:
        filter_rows([{"task_id": "00"}], TASKS, [Filter("bogus", "=", "1")])
    listed = str(refused.value).split("Supported filter columns: ")[1]
    assert set(listed.strip("{}").replace("'", "").split(", ")) == TASKS.filterable()


LIMITS = ["0", "100", "10000", "10001", "-1", "abc", "", " 7 ", "1_000", "9" * 5000]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda text: text[:8] or "empty")
def test_limits_are_taken_and_refused_as_in_ray(limit: str) -> None:
    from itertools import islice

    from multidict import MultiDict

    class Request:
        query = MultiDict([("limit", limit)])

    def ray_limit() -> Any:
        asked = ray_utils.options_from_req(Request())
        list(islice([], asked.limit))
        return asked.limit

    assert outcome(lambda: parse_list_options([("limit", limit)]).limit) == outcome(ray_limit)


@pytest.mark.parametrize("name", ["detail", "exclude_driver", "timeout"])
@pytest.mark.parametrize("text", ["1", "0", "true", "True", "false", "False", "yes", "TRUE", "", "2"])
def test_switches_are_read_as_in_ray(name: str, text: str) -> None:
    from multidict import MultiDict

    class Request:
        query = MultiDict([(name, text)])

    def ours() -> Any:
        options = parse_list_options([(name, text)])
        return (options.detail, options.exclude_driver)

    def theirs() -> Any:
        options = ray_utils.options_from_req(Request())
        return (options.detail, options.exclude_driver)

    assert outcome(ours) == outcome(theirs)


def test_the_first_of_a_repeated_option_counts_and_filters_add_up() -> None:
    options = parse_list_options(
        [
            ("limit", "5"),
            ("limit", "6"),
            *(("filter_keys", key) for key in ("state", "name")),
            *(("filter_predicates", predicate) for predicate in ("=", "!=")),
            *(("filter_values", value) for value in ("FAILED", "leaf")),
        ]
    )
    assert options.limit == 5
    assert options.filters == (Filter("state", "=", "FAILED"), Filter("name", "!=", "leaf"))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([("filter_keys", "a"), ("filter_predicates", "<"), ("filter_values", "1")], "Unsupported filter predicate <"),
        ([("filter_keys", "a"), ("filter_predicates", "=")], "differ in number: 1 and 0"),
    ],
)
def test_filters_that_cannot_be_read_are_refused(query: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(BadQuery, match=message):
        parse_list_options(query)


def listed(resource: Schema, rows: list[dict[str, Any]], **query: str) -> dict[str, Any]:
    pairs = [("filter_keys", name) for name in query]
    pairs += [("filter_predicates", "=") for _ in query]
    pairs += [("filter_values", value) for value in query.values()]
    return list_response(rows, resource, parse_list_options(pairs))


@pytest.mark.parametrize(
    ("schema", "query", "message"),
    [
        (ACTORS, {"actor_id": "zz"}, "Non-hexadecimal digit found"),
        (ACTORS, {"actor_id": "abc"}, "Odd-length string"),
        (ACTORS, {"job_id": "abcd"}, "ID string needs to have length 4, got 2"),
        (ACTORS, {"state": "gone"}, "Invalid actor state for filtering: GONE"),
        (NODES, {"state": "gone"}, "Invalid node state for filtering: GONE"),
        (NODES, {"node_id": "00"}, "ID string needs to have length 28, got 1"),
    ],
)
def test_values_that_the_source_cannot_read_are_refused(schema: Schema, query: dict[str, str], message: str) -> None:
    with pytest.raises(BadQuery, match=message):
        listed(schema, [], **query)


def test_the_envelope_counts_before_and_after_the_filters() -> None:
    rows = [{"node_id": name, "state": state} for name, state in (("b", "ALIVE"), ("a", "ALIVE"), ("c", "DEAD"))]
    answer = listed(NODES, rows, state="alive")
    assert [row["node_id"] for row in answer["result"]] == ["a", "b"]
    assert (answer["total"], answer["num_after_truncation"], answer["num_filtered"]) == (3, 2, 2)
    assert (answer["partial_failure_warning"], answer["warnings"]) == ("", None)
    actors = [{"actor_id": name, "state": state} for name, state in (("b", "ALIVE"), ("c", "DEAD"))]
    answer = listed(ACTORS, actors, state="alive")
    assert (answer["total"], answer["num_after_truncation"], answer["num_filtered"]) == (2, 2, 1)


def test_the_limit_cuts_after_sorting_and_missing_columns_are_null() -> None:
    rows = [{"actor_id": f"{number:02}"} for number in reversed(range(20))]
    answer = list_response(rows, ACTORS, parse_list_options([("limit", "3")]), total=50)
    assert [row["actor_id"] for row in answer["result"]] == ["00", "01", "02"]
    assert (answer["total"], answer["num_filtered"]) == (50, 20)
    assert list(answer["result"][0]) == list(ACTORS.shown(detail=False))
    assert answer["result"][0]["name"] is None

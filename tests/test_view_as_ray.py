"""What is worked out here and in Ray's dashboard comes out the same: each rule is run beside the installed Ray's own."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.indexes import DETAIL, index_of, sent

from api.index.nodes import Node
from api.query.query import SummaryOptions
from api.views import actors, events, jobs, nodes
from api.views.google_style import google_style
from api.views.redaction import redacted_rows
from pipeline.events import (
    ActorDefinition,
    ActorTransition,
    ActorUpdate,
    LogEvent,
    NodeDefinition,
    NodeTransition,
    SubmissionJobDefinition,
    SubmissionJobUpdate,
)

ray_utils = pytest.importorskip("ray.dashboard.utils")
common = pytest.importorskip("ray.util.state.common")
node_head = pytest.importorskip("ray.dashboard.modules.node.node_head")
datacenter = pytest.importorskip("ray.dashboard.modules.node.datacenter")
redaction = pytest.importorskip("ray.dashboard.runtime_env_redaction")
job_common = pytest.importorskip("ray.dashboard.modules.job.common")
event_utils = pytest.importorskip("ray.dashboard.modules.event.event_utils")
gcs_pb2 = pytest.importorskip("ray.core.generated.gcs_pb2")

ACTOR, JOB, NODE, WORKER = bytes(range(12)) + b"\2\0\0\0", b"\2\0\0\0", b"\7" * 28, b"\x08" * 28
MS = 1_000_000
names = st.text("aZ_:-. é0", max_size=12)
values = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(names, values, max_size=4))
def test_keys_are_spelled_as_ray_spells_them(value: dict[str, Any]) -> None:
    assert google_style(value) == ray_utils.to_google_style(value)


resources = st.sampled_from(
    [
        "CPU",
        "GPU",
        "CPU_group_0_4f2a",
        "CPU_group_4f2a",
        "bundle_group_0_4f2a",
        "bundle_group_4f2a",
        "my_group_x",
        "_group_",
    ]
)


@given(st.dictionaries(resources, st.sampled_from([0.5, 1.0, 2.0]), max_size=4))
def test_a_placement_groups_resources_are_shown_as_asked_for(wanted: dict[str, float]) -> None:
    assert actors.original_resources(wanted) == datacenter.parse_pg_formatted_resources_to_original(wanted)


@pytest.mark.parametrize("message", [None, "", "received SIGTERM"])
@pytest.mark.parametrize("reason", [None, *gcs_pb2.GcsNodeInfo.DESCRIPTOR.fields_by_name["death_info"].message_type
                                    .fields_by_name["reason"].enum_type.values_by_name])  # fmt: skip
def test_a_node_says_why_it_died_in_rays_words(reason: str | None, message: str | None) -> None:
    node = Node(NODE)
    node.apply(NodeTransition("DEAD", 1, death_reason=reason, death_reason_message=message), 1)
    assert nodes.state_message(node) == (ray_utils.compose_state_message(reason, message) or None)


envs = st.fixed_dictionaries(
    {}, optional={"env_vars": st.none() | st.dictionaries(names, names, max_size=2), "working_dir": names}
)
texts = st.sampled_from(["", "not json", "[1]", "null", "1"]) | envs.map(json.dumps)
rows = st.fixed_dictionaries(
    {"name": names},
    optional={
        "runtime_env": st.none() | envs,
        "serialized_runtime_env": st.none() | texts,
        "runtime_env_info": st.none() | st.fixed_dictionaries({}, optional={"serialized_runtime_env": texts}),
    },
)


@given(st.lists(rows, max_size=3))
def test_secrets_are_masked_where_ray_masks_them_and_the_rows_stay_as_they_were(
    given_rows: list[dict[str, Any]],
) -> None:
    before = copy.deepcopy(given_rows)
    assert redacted_rows(given_rows) == redaction.redact_state_rows(given_rows)
    assert given_rows == before


@pytest.mark.parametrize("status", [status.value for status in job_common.JobStatus])
def test_a_job_without_a_message_says_what_ray_says_of_its_status(status: str) -> None:
    index = index_of([SubmissionJobDefinition("s", "python x.py"), SubmissionJobUpdate("s", status, 1_000)])
    row = jobs.job_rest(index, "s")
    assert row is not None
    assert row["message"] == job_common.JobInfo(status=status, entrypoint="python x.py").message


@given(st.text("ab\\nr\n", max_size=12))
def test_line_breaks_of_events_are_restored_as_in_ray(message: str) -> None:
    line = {"event_id": "e", "message": message}
    index = index_of([LogEvent("e", "GCS", "INFO", "", message, 0, "global", dict(line))])
    assert events.all_events(index)["events"]["global"] == [
        ray_utils.to_google_style(event) for event in event_utils.parse_event_strings([json.dumps(line)])
    ]


causes = st.sampled_from(
    [
        {},
        {"actor_died_error_context": {"error_message": "killed", "pid": 7, "reason": "RAY_KILL", "actor_id": ACTOR}},
        {"runtime_env_failed_context": {"error_message": "no such package"}},
        {"actor_unschedulable_context": {"error_message": "no node fits"}},
        {"creation_task_failure_context": {"formatted_exception_string": "ValueError", "language": "PYTHON"}},
        {"oom_context": {"error_message": "too much", "fail_immediately": True}},
    ]
)


@settings(max_examples=60)
@given(causes, st.integers(0, 3), st.dictionaries(names, names, max_size=2), st.sampled_from(["", "repr"]))
def test_a_dead_actor_is_shown_as_ray_shows_its_table_row(
    cause: dict[str, Any], restarts: int, labels: dict[str, str], repr_name: str
) -> None:
    row = gcs_pb2.ActorTableData(
        actor_id=ACTOR, job_id=JOB, state=gcs_pb2.ActorTableData.DEAD, num_restarts=restarts, is_detached=True,
        name="n", pid=5, timestamp=9.0, start_time=1, end_time=9, class_name="C", ray_namespace="ns",
        serialized_runtime_env="{}", required_resources={"CPU": 1.0}, repr_name=repr_name, label_selector=labels,
        node_id=NODE, address={"node_id": NODE, "worker_id": WORKER, "ip_address": "192.0.2.2", "port": 77},
    )  # fmt: skip
    if cause:
        row.death_cause.CopyFrom(type(row.death_cause)(**cause))
    index = index_of(_history(cause, restarts, labels, repr_name))

    theirs = node_head._actor_table_data_to_dict(row)
    shown = actors.logical_actors(index)["actors"][ACTOR.hex()]
    ours = {name: shown[name] for name in theirs}
    assert sent(ours) == theirs

    columns = common.protobuf_message_to_dict(row, ["actor_id", "owner_id", "job_id", "node_id", "placement_group_id"])
    listed = sent(actors.list_actors(index, DETAIL)["result"][0])
    assert listed == common.filter_fields(columns, common.ActorState, detail=True)


def _history(cause: dict[str, Any], restarts: int, labels: dict[str, str], repr_name: str) -> list[Any]:
    told = ray_utils.message_to_dict(  # as the decoder gives it: Ray's posted events carry the defaults too
        gcs_pb2.ActorTableData(death_cause=cause).death_cause,
        {"actor_id", "owner_id"},
        always_print_fields_with_no_presence=True,
        preserving_proto_field_name=True,
    )
    life = [ActorTransition("ALIVE", 1 * MS + 1, NODE, WORKER, 5, 77, repr_name)]
    for turn in range(restarts):
        life.append(ActorTransition("RESTARTING", (2 + 2 * turn) * MS + 1))
        life.append(ActorTransition("ALIVE", (3 + 2 * turn) * MS + 1, NODE, WORKER, 5, 77, repr_name))
    life.append(ActorTransition("DEAD", 9 * MS + 1, death_cause=told))
    return [
        NodeDefinition(NODE, "192.0.2.2"),
        ActorDefinition(
            ACTOR, JOB, "C", "n", "ns", True, "{}", {"CPU": 1.0}, label_selector=labels,
        ),
        ActorUpdate(ACTOR, life),
    ]  # fmt: skip


states = st.sampled_from(["ALIVE", "DEAD", "PENDING_CREATION"])


@given(st.lists(st.tuples(st.sampled_from("ABC"), states), max_size=8))
def test_actors_are_summed_up_as_in_ray(told: list[tuple[str, str]]) -> None:
    records: list[Any] = []
    for number, (name, state) in enumerate(told):
        actor_id = bytes([number]) * 12 + JOB
        records += [ActorDefinition(actor_id, JOB, name), ActorUpdate(actor_id, [ActorTransition(state, 1)])]
    summed = actors.summarize_actors(index_of(records), SummaryOptions())
    theirs = common.ActorSummaries.to_summary(actors=[{"class_name": name, "state": state} for name, state in told])
    assert summed["result"]["node_id_to_summary"]["cluster"] == common.asdict(theirs)

"""What the dashboard said goes with what the records say: each adds what the other lacks, and the later end counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.answers import ENVS, GROUPS, TIME_MS, answer, enveloped, group, job, listed
from support.indexes import DETAIL, index_of, sent

from api.query.query import Filter, ListOptions
from api.snapshots import Snapshots, rows
from api.views import actors, cluster, datasets, jobs, measured, nodes, placement_groups, runtime_envs, train
from api.views.told_groups import told_groups
from api.views.told_jobs import told_jobs
from pipeline.events import (
    ActorDefinition,
    ActorTransition,
    ActorUpdate,
    DriverJobDefinition,
    DriverJobUpdate,
    NodeDefinition,
    NodeTransition,
    NodeUpdate,
    Opaque,
    PlacementGroupDefinition,
    PlacementGroupTransition,
    PlacementGroupUpdate,
    Record,
    SubmissionJobDefinition,
    SubmissionJobUpdate,
)

JOB = b"\2\0\0\0"
GROUP = b"\5" * 14 + JOB
MS = 1_000_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def jobs_of(records: list[Record], *said: Any) -> list[dict[str, Any]]:
    index = index_of(records)
    index.tell_jobs(told_jobs(Snapshots([answer("/api/jobs/", list(said))])))
    found: list[dict[str, Any]] = sent(jobs.jobs_rest(index))
    return found


def driver(dead: bool = False) -> list[Record]:
    return [
        DriverJobDefinition(JOB, 7, "python x.py", b"\xab" * 28, metadata={"job_submission_id": "raysubmit_a"}),
        DriverJobUpdate(JOB, dead, 1_768_528_800_900, 1_768_528_895_000 if dead else 0),
    ]


def test_a_job_that_only_the_dashboard_knew_is_there_as_it_told() -> None:
    assert jobs_of([], job()) == [job()]


def test_the_dashboard_adds_what_no_record_carries_and_its_exact_times() -> None:
    [row] = jobs_of(driver(dead=True), job())
    assert row == job()


def test_an_end_that_came_after_the_dashboards_last_answer_counts() -> None:
    said = job(status="RUNNING", end_time=None, message="Job is currently running.", driver_exit_code=None)
    [row] = jobs_of(
        [
            *driver(dead=True),
            SubmissionJobDefinition("raysubmit_a", "python x.py", "{}", {}),
            SubmissionJobUpdate("raysubmit_a", "FAILED", 3 * MS, "why", "JOB_ENTRYPOINT_COMMAND_ERROR", 1, 9, driver_exit_code=1),
        ],
        said,
    )  # fmt: skip
    assert (row["status"], row["message"], row["end_time"], row["driver_exit_code"]) == ("FAILED", "why", 9, 1)
    assert (row["start_time"], row["driver_agent_http_address"]) == (said["start_time"], "http://192.0.2.2:52365")


def test_of_two_ends_the_dashboards_word_counts() -> None:
    [row] = jobs_of(driver(dead=True), job(status="FAILED", message="OOM", driver_exit_code=137))
    assert (row["status"], row["message"], row["driver_exit_code"]) == ("FAILED", "OOM", 137)


def test_a_job_that_only_the_records_know_is_there_beside_those_that_were_told() -> None:
    found = jobs_of(driver(), job(submission_id="raysubmit_b", job_id="03000000"))
    assert sorted(row["submission_id"] for row in found) == ["raysubmit_a", "raysubmit_b"]


def test_submissions_stand_before_drivers_of_their_own() -> None:
    alone = job(type="DRIVER", submission_id=None, job_id="09000000")
    assert [row["type"] for row in jobs_of(driver(), alone)] == ["SUBMISSION", "DRIVER"]


@pytest.mark.parametrize("asked", ["raysubmit_a", "02000000"])
def test_one_job_is_found_by_either_id(asked: str) -> None:
    for records in ([], driver(dead=True)):
        index = index_of(records)
        index.tell_jobs(told_jobs(Snapshots([answer("/api/jobs/", [job()])])))
        assert sent(jobs.job_rest(index, asked)) == job()
        assert jobs.job_rest(index, "raysubmit_none") is None


def test_a_null_environment_stays_null_though_the_driver_has_one() -> None:
    assert jobs_of(driver(), job(runtime_env=None))[0]["runtime_env"] is None
    assert jobs_of(driver(), job(runtime_env={}))[0]["runtime_env"] == {}


@given(JSON)
def test_no_answer_about_jobs_can_break_the_list(value: Any) -> None:
    index = index_of(driver())
    index.tell_jobs(told_jobs(Snapshots([answer("/api/jobs/", [value, job(message=value, start_time=value), value])])))
    sent(jobs.jobs_rest(index))
    sent(jobs.list_jobs(index, ListOptions(detail=True, filters=(Filter("status", "=", "RUNNING"),))))


@pytest.mark.parametrize(
    "broken",
    [{"type": "CRON"}, {"status": "LOST"}, {"submission_id": None}, {"submission_id": 7}, {"status": ["RUNNING"]}],
)
def test_a_row_that_is_no_job_is_left_out(broken: dict[str, Any]) -> None:
    assert jobs_of([], job(**broken)) == []


# placement groups


def groups_of(records: list[Record], *said: Any) -> list[dict[str, Any]]:
    told = told_groups(Snapshots([answer(GROUPS, listed(*said))]))
    answered = placement_groups.list_placement_groups(index_of(records), DETAIL, told)
    found: list[dict[str, Any]] = sent(answered)["result"]
    return found


def life(state: str, at_ms: int) -> list[Record]:
    return [
        PlacementGroupDefinition(GROUP, "defined", JOB),
        PlacementGroupUpdate(GROUP, [PlacementGroupTransition(state, at_ms * MS)]),
    ]


def test_a_group_that_only_the_dashboard_knew_is_there_as_it_told() -> None:
    assert groups_of([], group()) == [group()]


def test_records_newer_than_the_answer_win_and_older_ones_dont() -> None:
    assert groups_of(life("RESCHEDULING", TIME_MS + 1), group())[0]["state"] == "RESCHEDULING"
    assert groups_of(life("PENDING", TIME_MS - 1), group())[0]["state"] == "CREATED"


def test_a_removed_group_stays_removed_whatever_the_clocks_say() -> None:
    assert groups_of(life("REMOVED", TIME_MS - 5_000), group())[0]["state"] == "REMOVED"
    assert groups_of(life("CREATED", TIME_MS - 5_000), group(state="REMOVED"))[0]["state"] == "REMOVED"


def test_a_change_without_its_definition_changes_the_state_of_the_group_that_was_told() -> None:
    [row] = groups_of(life("RESCHEDULING", TIME_MS + 1)[1:], group())
    assert row == group(state="RESCHEDULING")


def test_rays_filters_and_limits_are_applied_to_groups_that_were_told() -> None:
    others = [group(placement_group_id=f"{number:02x}" * 18, name=f"g{number}") for number in range(5)]
    told = told_groups(Snapshots([answer(GROUPS, listed(*others))]))
    options = ListOptions(limit=2, filters=(Filter("name", "!=", "G1"),))
    answered = placement_groups.list_placement_groups(index_of([]), options, told)
    assert (answered["total"], answered["num_filtered"]) == (5, 4)
    assert [row["name"] for row in answered["result"]] == ["g0", "g2"]
    assert set(answered["result"][0]) == {"placement_group_id", "name", "creator_job_id", "state"}


@given(JSON)
def test_no_answer_about_groups_can_break_the_list_and_bundles_are_always_one(value: Any) -> None:
    for row in groups_of(life("CREATED", 1), value, group(bundles=value, name=value, stats=value)):
        assert isinstance(row["bundles"], list)


# the rest


def test_runtime_environments_are_listed_newest_first_those_never_made_before_all() -> None:
    made = [
        {"runtime_env": {"pip": []}, "success": True, "creation_time_ms": str(at), "node_id": "ab", "ref_cnt": "1"}
        for at in (5, 30, 200)
    ]
    failed = {"runtime_env": {}, "success": False, "creation_time_ms": None, "node_id": "cd", "error": "no pip"}
    told = Snapshots([answer(ENVS, listed(*made, failed))])
    answered = runtime_envs.list_runtime_envs(told, ListOptions(detail=True))
    assert [row["creation_time_ms"] for row in answered["result"]] == [None, "200", "30", "5"]
    assert answered["result"][0]["error"] == "no pip"


@given(JSON)
def test_no_answer_about_environments_can_break_the_list(value: Any) -> None:
    row = {"runtime_env": value, "success": True, "creation_time_ms": value, "node_id": "ab"}
    sent(runtime_envs.list_runtime_envs(Snapshots([answer(ENVS, listed(row, value))]), ListOptions(detail=True)))


def test_the_version_and_the_clusters_facts_are_the_dashboards_own() -> None:
    version = {"version": "4", "ray_version": "2.55.0", "ray_commit": "abc", "session_name": "session_other"}
    facts = enveloped(rayVersion="2.55.0", pythonVersion="3.11.7", rayInitCluster=False)
    told = Snapshots([answer("/api/version", version), answer("/api/v0/cluster_metadata", facts)])
    assert cluster.version("session_x", "2.55.0", told) == version | {"session_name": "session_x"}
    assert cluster.cluster_metadata("session_x", "2.55.0", told) == facts["data"]


def test_the_clusters_time_zone_and_status_are_the_last_that_were_told() -> None:
    told = Snapshots(
        [
            answer("/timezone", {"offset": "+09:00", "value": "Asia/Tokyo"}),
            answer("/api/cluster_status", enveloped(autoscalingStatus="a", autoscalingError=None, clusterStatus={"b": 1})),
            answer("/api/cluster_status?format=1", enveloped(clusterStatus="Node status … Resources")),
        ]
    )  # fmt: skip
    assert cluster.timezone(told) == {"offset": "+09:00", "value": "Asia/Tokyo"}
    assert cluster.cluster_status(told) == {
        "autoscalingStatus": "a",
        "autoscalingError": None,
        "clusterStatus": {"b": 1},
    }
    assert cluster.formatted_cluster_status(told) == {"clusterStatus": "Node status … Resources"}


@given(JSON)
def test_no_answer_about_the_cluster_can_break_what_needs_a_certain_shape(value: Any) -> None:
    urls = (
        "/timezone",
        "/api/version",
        "/api/v0/cluster_metadata",
        "/api/cluster_status?format=1",
        "/nodes?view=summary",
    )
    for said in (value, {"data": value}, {"data": {"clusterStatus": value, "summary": [value, {"raylet": value}]}}):
        told = Snapshots([answer(url, said) for url in urls])
        assert isinstance(cluster.timezone(told)["offset"], str)
        assert isinstance(cluster.version("s", None, told)["ray_version"], str)
        assert isinstance(cluster.formatted_cluster_status(told)["clusterStatus"], str)
        sent(cluster.cluster_metadata("s", None, told))
        sent(measured.measured(told))


def test_nodes_and_actors_show_what_their_machine_measured_last_dead_or_alive() -> None:
    node, gone = b"\xab" * 28, b"\xcd" * 28
    figures = {"cpu": 12.5, "mem": [4, 3, 25.0, 1], "loadAvg": [[1, 2, 3], [1, 2, 3]], "gcs": {"pid": 7}}
    gpu = {"index": 0, "name": "H100", "utilizationGpu": 5, "processesPids": [{"pid": 7, "gpuMemoryUsage": 1}]}
    summary = [
        figures | {"gpus": [gpu], "raylet": {"nodeId": node.hex(), "numWorkers": 2}},
        figures | {"mem": [8, 1, 90.0, 7], "gcs": None, "raylet": {"nodeId": gone.hex()}},
        {"cpu": "hot", "mem": [None], "loadAvg": None, "gpus": [{"name": {}}], "raylet": {"nodeId": "ef" * 28}},
    ]
    told = Snapshots(
        [answer(measured.URL, enveloped(summary=summary, nodeLogicalResources={node.hex(): "0.0/3.0 CPU"}))]
    )
    found, in_use = measured.measured(told), measured.logical_resources(told)
    index = index_of(
        [
            NodeDefinition(node, "192.0.2.2", is_head_node=True),
            NodeDefinition(gone, "192.0.2.3"),
            NodeUpdate(gone, [NodeTransition("DEAD", 5)]),
            ActorDefinition(b"\1" * 12 + JOB, JOB, "C"),
            ActorUpdate(b"\1" * 12 + JOB, [ActorTransition("ALIVE", MS, node_id=gone, worker_id=b"\5" * 28, pid=9)]),
        ]
    )

    shown = {each["raylet"]["nodeId"]: each for each in sent(nodes.nodes_summary(index, found, in_use))["summary"]}
    assert {name: shown[node.hex()][name] for name in figures} == figures
    assert (shown[node.hex()]["gpus"], shown[node.hex()]["raylet"]["numWorkers"]) == ([gpu], 2)
    assert shown[gone.hex()]["mem"] == [8, 1, 90.0, 7]
    assert nodes.nodes_summary(index, found, in_use)["nodeLogicalResources"] == {node.hex(): "0.0/3.0 CPU"}
    (actor,) = actors.logical_actors(index, None, found)["actors"].values()
    assert actor["mem"] == [8, 1, 90.0, 7]
    assert found["ef" * 28] == {"raylet": {}}


def run(**changed: Any) -> dict[str, Any]:
    return {"dataset": "d_0", "job_id": "02000000", "state": "RUNNING", "start_time": 5.0, "end_time": None, "operators": []} | changed  # fmt: skip


def test_a_dataset_that_was_running_and_of_which_a_record_says_that_it_ended_has_ended() -> None:
    record = {
        "dataset_id": "d_0",
        "job_id": "02000000",
        "state": "FINISHED",
        "start_time": 5.0,
        "execution_end_time": 9.5,
    }
    other = record | {
        "dataset_id": "d_1",
        "start_time": 6.0,
        "topology": {"operators": [{"name": "Map", "state": "FINISHED"}]},
    }
    index = index_of([Opaque("DATASET_METADATA", "d_0", 1, record), Opaque("DATASET_METADATA", "d_1", 2, other)])
    told = Snapshots([answer("/api/data/datasets/02000000", {"datasets": [run()]})])
    newest, first = datasets.datasets(index, told, "02000000")
    assert first == run(state="FINISHED", end_time=9.5)
    assert (newest["dataset"], newest["operators"][0]["operator"], newest["ray_data_output_rows"]) == (
        "d_1",
        "Map",
        {"max": 0},
    )
    assert datasets.datasets(index, told, "03000000") == []


def test_a_train_run_is_known_from_either_and_ends_with_the_later() -> None:
    told_run = {
        "id": "r",
        "name": "n",
        "status": "RUNNING",
        "status_detail": None,
        "start_time_ns": 5,
        "end_time_ns": None,
        "attempts": [],
    }
    records = [
        Opaque("TRAIN_RUN", "r", 1, {"id": "r", "status": "ERRORED", "status_detail": "x", "start_time_ns": "5", "end_time_ns": "9"}),
        Opaque("TRAIN_RUN", "s", 1, {"id": "s", "name": "two", "job_id": "AgAAAA==", "status": "FINISHED", "start_time_ns": "7"}),
        Opaque("TRAIN_RUN_ATTEMPT", "a", 1, {"run_id": "s", "attempt_id": "a", "status": "FINISHED", "workers": [{"actor_id": "AgAAAA=="}]}),
    ]  # fmt: skip
    told = Snapshots([answer("/api/train/v2/runs/v1", {"train_runs": [told_run]})])
    newer, older = train.train_runs(index_of(records), told, [job()])
    assert older == told_run | {"status": "ERRORED", "status_detail": "x", "end_time_ns": 9}
    assert (newer["job_id"], newer["job_details"]["submission_id"]) == ("02000000", "raysubmit_a")
    assert newer["attempts"][0]["workers"] == [{"actor_id": "02000000", "node_id": ""}]


@given(JSON)
def test_no_answer_about_libraries_can_break_theirs(value: Any) -> None:
    records = [Opaque(kind, "k", 1, {"job_id": "02000000", "id": "k", "run_id": "k", "workers": value, "topology": value, "state": value, "start_time": value, "start_time_ns": value}) for kind in ("DATASET_METADATA", "TRAIN_RUN", "TRAIN_RUN_ATTEMPT")]  # fmt: skip
    index = index_of(records)
    told = Snapshots(
        [
            answer("/api/data/datasets/02000000", {"datasets": [value, run(operators=value, end_time=value)]}),
            answer("/api/train/v2/runs/v1", {"train_runs": [value, {"id": "q", "start_time_ns": value}]}),
        ]
    )
    datasets.datasets(index, told, "02000000")
    train.train_runs(index, told, [])


def test_requests_find_their_answer_whatever_the_order_of_their_parts() -> None:
    told = Snapshots([answer("/a?x=1&y=2", {"z": 1})])
    assert told.table("/a?y=2&x=1") == {"z": 1}
    assert told.table("/a?x=1") == {}


def test_an_answer_that_was_an_error_tells_nothing() -> None:
    told = Snapshots([answer("/timezone", {"offset": "+09:00", "value": "Asia/Tokyo"}, status=500)])
    assert cluster.timezone(told)["offset"] == "+00:00"


def test_masked_secrets_are_said_to_be_redacted() -> None:
    told = Snapshots([answer("/api/jobs/", [job(runtime_env={"env_vars": {"TOKEN": "*******"}})])])
    assert told_jobs(told)[0]["runtime_env"] == {"env_vars": {"TOKEN": "<redacted>"}}


def test_what_is_no_json_and_what_only_python_takes_for_it() -> None:
    told = Snapshots([answer("/a", "{"), answer("/b", '{"x": NaN}'), answer("/c", "[" * 50_000)])
    assert (told.value("/a"), told.value("/c")) == (None, None)
    assert sent(told.value("/b")) == {"x": None}
    assert rows(told.value("/b")) == []

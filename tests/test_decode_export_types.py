"""Export API lines of all ten types, written by Ray's own protobufs, and log events come out as what they say."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed, and its protobufs are the specification")

from ray.core.generated import (
    common_pb2,
    export_actor_data_pb2,
    export_dataset_metadata_pb2,
    export_dataset_operator_event_pb2,
    export_dataset_operator_schema_pb2,
    export_driver_job_event_pb2,
    export_event_pb2,
    export_node_data_pb2,
    export_submission_job_event_pb2,
    export_task_event_pb2,
    export_train_state_pb2,
)
from ray.dashboard.utils import message_to_dict
from support.protos import as_exported, fill

from pipeline import events
from pipeline.decoding.decode import decode_block
from pipeline.events import Record

MESSAGES: dict[str, Any] = {
    "EXPORT_TASK": export_task_event_pb2.ExportTaskEventData,
    "EXPORT_NODE": export_node_data_pb2.ExportNodeData,
    "EXPORT_ACTOR": export_actor_data_pb2.ExportActorData,
    "EXPORT_DRIVER_JOB": export_driver_job_event_pb2.ExportDriverJobEventData,
    "EXPORT_SUBMISSION_JOB": export_submission_job_event_pb2.ExportSubmissionJobEventData,
    "EXPORT_TRAIN_RUN": export_train_state_pb2.ExportTrainRunEventData,
    "EXPORT_TRAIN_RUN_ATTEMPT": export_train_state_pb2.ExportTrainRunAttemptEventData,
    "EXPORT_DATASET_METADATA": export_dataset_metadata_pb2.ExportDatasetMetadata,
    "EXPORT_DATASET_OPERATOR_EVENT": export_dataset_operator_event_pb2.ExportDatasetOperatorEventData,
    "EXPORT_DATASET_OPERATOR_SCHEMA": export_dataset_operator_schema_pb2.ExportDatasetOperatorSchema,
}
SEEDS = range(12)
WHEN = 1_795_379_421
WHEN_NS = WHEN * 10**9


def filled(source_type: str, seed: int) -> Any:
    message = MESSAGES[source_type]()
    fill(message, random.Random(f"{source_type}{seed}"))
    return message


def records(line: bytes, dialect: str = "export_api") -> list[Record]:
    decoded = decode_block(line + b"\n", dialect)  # type: ignore[arg-type]
    assert decoded.rejected == []
    assert decoded.unknown == {}
    return decoded.records


def test_the_types_are_rays() -> None:
    assert list(MESSAGES) == list(export_event_pb2.ExportEvent.SourceType.keys())
    for number, name in enumerate(MESSAGES):
        line = as_exported(name, filled(name, 0), sorted_keys=True)
        assert records(line.replace(f'"{name}"'.encode(), str(number).encode())) == records(line)


@pytest.mark.parametrize("source_type", MESSAGES)
def test_cpp_and_python_write_the_same_records(source_type: str) -> None:
    for seed in SEEDS:
        message = filled(source_type, seed)
        cpp = records(as_exported(source_type, message, sorted_keys=True))
        python = records(as_exported(source_type, message, sorted_keys=False))
        assert cpp == python
        assert cpp, "no record came of it"


def test_a_task_line_says_what_it_is_what_happened_and_its_profile() -> None:
    for seed in SEEDS:
        theirs = filled("EXPORT_TASK", seed)
        task, update, profile = records(as_exported("EXPORT_TASK", theirs, sorted_keys=True))
        assert isinstance(task, events.TaskDefinition)
        assert isinstance(update, events.TaskUpdate)
        assert isinstance(profile, events.TaskProfile)
        for one in (task, update, profile):
            assert (one.task_id, one.attempt_number, one.job_id) == (
                theirs.task_id,
                theirs.attempt_number,
                theirs.job_id,
            )
        info, state = theirs.task_info, theirs.state_updates
        assert task.type == common_pb2.TaskType.Name(info.type)
        assert task.language == common_pb2.Language.Name(info.language)
        assert task.name is None, "this dialect doesn't say it"
        for name in ("func_or_class_name", "parent_task_id", "actor_id", "placement_group_id"):
            assert getattr(task, name) == getattr(info, name)
        assert task.required_resources == dict(info.required_resources)
        assert task.label_selector == dict(info.label_selector)
        env = shown(info.runtime_env_info)
        assert task.serialized_runtime_env == env["serialized_runtime_env"]
        assert task.runtime_env_config == env["runtime_env_config"]
        assert task.runtime_env_uris == env["uris"]
        assert dict(update.states) == dict(state.state_ts_ns)
        assert len(update.states) == len(state.state_ts_ns) > 0
        assert (update.node_id, update.worker_id, update.worker_pid) == (
            state.node_id,
            state.worker_id,
            state.worker_pid,
        )
        assert update.error_type == common_pb2.ErrorType.Name(state.error_info.error_type)
        assert update.error_message == state.error_info.error_message
        assert update.is_debugger_paused == state.is_debugger_paused
        assert [(e.start_ns, e.end_ns, e.event_name, e.extra_data) for e in profile.events] == [
            (e.start_time, e.end_time, e.event_name, e.extra_data) for e in theirs.profile_events.events
        ]


def shown(message: Any, ids: list[str] | None = None) -> Any:
    options = {"always_print_fields_with_no_presence": True, "preserving_proto_field_name": True}
    return message_to_dict(message, ids, **options)


def test_a_task_line_says_only_what_it_says() -> None:
    line = (
        b'{"event_data":{"attempt_number":0,"job_id":"AgAAAA==","state_updates":{"state_ts_ns":{"11":"1795379430888587908"}},'
        b'"task_id":"Z6Loz6WgbbP///////////////8CAAAA"},"event_id":"5698","source_type":"EXPORT_TASK","timestamp":1795379431}'
    )
    [update] = records(line)
    assert isinstance(update, events.TaskUpdate)
    assert update == events.TaskUpdate(update.task_id, 0, b"\x02\0\0\0", [(11, 1_795_379_430_888_587_908)])


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (("out", 36, 0), events.TaskLogInfo("out", "err", 36, None, 36, None)),
        (("out", 36, 53), events.TaskLogInfo("out", "err", 36, 53, 36, 53)),
        (("", 0, 53), events.TaskLogInfo(None, None, None, 53, None, 53)),
    ],
)
def test_what_a_log_info_fills_with_nothing_was_not_said(said: tuple[str, int, int], meant: events.TaskLogInfo) -> None:
    """C++ writes all six fields, with "" and 0 for those that arrive in another line."""
    file, start, end = said
    info = {
        "stdout_file": file,
        "stderr_file": file and "err",
        "stdout_start": start,
        "stderr_start": start,
        "stdout_end": end,
        "stderr_end": end,
    }
    data = {"task_id": "AQ==", "state_updates": {"task_log_info": info, "state_ts_ns": {}}}
    [update] = records(json.dumps({"source_type": "EXPORT_TASK", "timestamp": 1, "event_data": data}).encode())
    assert isinstance(update, events.TaskUpdate)
    assert update.log_info == meant


def test_an_actor_line_is_a_definition_and_a_transition() -> None:
    for seed in SEEDS:
        theirs = filled("EXPORT_ACTOR", seed)
        actor, update = records(as_exported("EXPORT_ACTOR", theirs, sorted_keys=True))
        same_fields(actor, theirs)
        ids = ["actor_id", "owner_id", "job_id", "node_id", "placement_group_id"]
        assert update == events.ActorUpdate(
            theirs.actor_id,
            [
                events.ActorTransition(
                    state=type(theirs).ActorState.Name(theirs.state),
                    timestamp_ns=WHEN_NS,
                    node_id=theirs.node_id,
                    pid=theirs.pid,
                    repr_name=theirs.repr_name,
                    death_cause=shown(theirs.death_cause, ids),
                )
            ],
        )


def same_fields(ours: Record, theirs: Any) -> None:
    """Where model and protobuf share a name they share the value."""
    shared = set(ours.__struct_fields__) & set(theirs.DESCRIPTOR.fields_by_name)
    assert len(shared) >= 3
    for name in shared:
        field, value = theirs.DESCRIPTOR.fields_by_name[name], getattr(theirs, name)
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        assert getattr(ours, name) == (dict(value) if is_map else value), name


def test_a_node_line_is_a_definition_and_a_transition() -> None:
    for seed in SEEDS:
        theirs = filled("EXPORT_NODE", seed)
        node, update = records(as_exported("EXPORT_NODE", theirs, sorted_keys=True))
        same_fields(node, theirs)
        assert isinstance(node, events.NodeDefinition)
        assert node.node_ip_address == theirs.node_manager_address
        kind = type(theirs)
        assert update == events.NodeUpdate(
            theirs.node_id,
            [
                events.NodeTransition(
                    state=kind.GcsNodeState.Name(theirs.state),
                    timestamp_ns=WHEN_NS,
                    resources=dict(theirs.resources_total),
                    death_reason=kind.NodeDeathInfo.Reason.Name(theirs.death_info.reason),
                    death_reason_message=theirs.death_info.reason_message,
                )
            ],
            theirs.end_time_ms,
        )


def test_job_lines_are_a_definition_and_an_update() -> None:
    for seed in SEEDS:
        theirs = filled("EXPORT_DRIVER_JOB", seed)
        job, update = records(as_exported("EXPORT_DRIVER_JOB", theirs, sorted_keys=True))
        same_fields(job, theirs)
        assert isinstance(job, events.DriverJobDefinition)
        assert job.metadata == dict(theirs.config.metadata)
        assert job.serialized_runtime_env == theirs.config.runtime_env_info.serialized_runtime_env
        assert update == events.DriverJobUpdate(theirs.job_id, theirs.is_dead, theirs.start_time, theirs.end_time)
        theirs = filled("EXPORT_SUBMISSION_JOB", seed)
        submitted, step = records(as_exported("EXPORT_SUBMISSION_JOB", theirs, sorted_keys=False))
        same_fields(submitted, theirs)
        assert isinstance(step, events.SubmissionJobUpdate)
        assert step.submission_id == theirs.submission_job_id
        assert step.status == type(theirs).JobStatus.Name(theirs.status)
        assert (step.timestamp_ns, step.start_time_ms, step.end_time_ms) == (
            WHEN_NS,
            theirs.start_time,
            theirs.end_time,
        )
        for name in ("message", "error_type", "driver_agent_http_address", "driver_node_id", "driver_exit_code"):
            assert getattr(step, name) == getattr(theirs, name)


def test_train_and_data_lines_are_kept_whole() -> None:
    ids = {
        "EXPORT_TRAIN_RUN": lambda data: data.id,
        "EXPORT_TRAIN_RUN_ATTEMPT": lambda data: data.attempt_id,
        "EXPORT_DATASET_METADATA": lambda data: data.dataset_id,
        "EXPORT_DATASET_OPERATOR_EVENT": lambda data: f"{data.dataset_id}/{data.operator_id}/{data.event_time}",
        "EXPORT_DATASET_OPERATOR_SCHEMA": lambda data: data.operator_uuid,
    }
    for source_type, key in ids.items():
        theirs = filled(source_type, 1)
        line = as_exported(source_type, theirs, sorted_keys=False)
        [ours] = records(line)
        assert isinstance(ours, events.Opaque)
        assert ours.kind == source_type.removeprefix("EXPORT_")
        assert ours.timestamp_ns == WHEN_NS
        assert ours.data == json.loads(line)["event_data"]
        if source_type != "EXPORT_DATASET_OPERATOR_EVENT" or theirs.event_time < 1e16:
            assert ours.key == key(theirs)


def test_a_log_event_says_when_whose_and_what_and_is_kept_whole() -> None:
    cpp = {
        "custom_fields": {"job_id": "02000000", "node_id": "e9"},
        "event_id": "d6aa",
        "host_name": "vm",
        "label": "RAY_WORKER_FAILURE",
        "message": "one\\ntwo",
        "pid": "24",
        "severity": "ERROR",
        "source_type": "RAYLET",
        "timestamp": 1_795_379_459,
    }
    python = {**cpp, "timestamp": "1795379459", "custom_fields": {}}
    for line, job_id in ((cpp, "02000000"), (python, "global"), ({**cpp, "custom_fields": {"job_id": ""}}, "global")):
        [ours] = records(json.dumps(line).encode(), "log_event")
        assert ours == events.LogEvent(
            event_id="d6aa",
            source_type="RAYLET",
            severity="ERROR",
            label="RAY_WORKER_FAILURE",
            message="one\\ntwo",
            timestamp_ns=1_795_379_459 * 10**9,
            job_id=job_id,
            data=line,
        )


def test_a_block_spans_the_times_of_its_events() -> None:
    lines = [b'{"event_id":"x","timestamp":%d}' % when for when in (0, 30, 10, 20)]
    decoded = decode_block(b"\n".join(lines), "log_event")
    assert (decoded.min_time_ns, decoded.max_time_ns) == (10 * 10**9, 30 * 10**9)
    assert decode_block(lines[0], "log_event").max_time_ns == 0

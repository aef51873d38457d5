"""Export API lines (``logs/export_events/event_EXPORT_*.log``) into the typed model.

C++ writes the keys sorted and without defaults of unset optional fields; Python writes envelope first.
A line can say several things at once: what a task is, what happened to it, and its profile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pipeline.decoding.dialects import export_wire as wire
from pipeline.decoding.dialects.posted_cluster import death_cause
from pipeline.decoding.dialects.posted_tasks import profile
from pipeline.decoding.dialects.posted_wire import LogInfo
from pipeline.decoding.dialects.wire import (
    ACTOR_STATE,
    ALIVE_OR_DEAD,
    ERROR_TYPE,
    EXPORT_JOB_STATUS,
    LANGUAGE,
    NODE_DEATH_REASON,
    TASK_STATUS_NUMBER,
    TASK_TYPE,
    UnknownType,
    unsigned,
    without_nulls,
)
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
    Record,
    SubmissionJobDefinition,
    SubmissionJobUpdate,
    TaskDefinition,
    TaskLogInfo,
    TaskUpdate,
)

_event = msgspec.json.Decoder(wire.ExportEvent, strict=False)
_task = msgspec.json.Decoder(wire.ExportTask, strict=False)
_actor = msgspec.json.Decoder(wire.ExportActor, strict=False)
_node = msgspec.json.Decoder(wire.ExportNode, strict=False)
_driver_job = msgspec.json.Decoder(wire.ExportDriverJob, strict=False)
_submission_job = msgspec.json.Decoder(wire.ExportSubmissionJob, strict=False)
_dict = msgspec.json.Decoder(dict[str, Any])
_any = msgspec.json.Decoder()


def decode_line(line: bytes | memoryview, out: list[Record]) -> int:
    """Append the records of one line to ``out``; the event's time in ns. Raises as ``posted.decode_line`` does."""
    before = len(out)
    try:
        return _decode_line(line, out)
    except ValueError:
        plain = without_nulls(_any.decode(line))
    del out[before:]
    return _decode_line(msgspec.json.encode(plain), out)


def _decode_line(line: bytes | memoryview, out: list[Record]) -> int:
    event = _event.decode(line)
    time_ns = unsigned(int(event.timestamp * 1_000_000_000))
    convert = _CONVERT.get(event.source_type)
    if convert is not None:
        convert(event.event_data, time_ns, out)
    elif event.source_type in _OPAQUE:
        out.append(_opaque(event, time_ns))
    else:
        raise UnknownType(str(event.source_type))
    return time_ns


def _export_task(data: msgspec.Raw, time_ns: int, out: list[Record]) -> None:
    task = _task.decode(data)
    if task.task_info is not None:
        out.append(_task_definition(task, task.task_info))
    if task.state_updates is not None:
        out.append(_task_update(task, task.state_updates))
    if task.profile_events is not None:
        out.append(profile(task.task_id, task.attempt_number, task.job_id, task.profile_events))


def _task_definition(task: wire.ExportTask, info: wire.TaskInfo) -> TaskDefinition:
    env = info.runtime_env_info or wire.RuntimeEnvInfo()
    return TaskDefinition(
        task_id=task.task_id,
        attempt_number=task.attempt_number,
        job_id=task.job_id,
        type=TASK_TYPE.name(info.type),
        language=LANGUAGE.name(info.language),
        func_or_class_name=info.func_or_class_name,
        name=None,
        parent_task_id=info.parent_task_id,
        actor_id=info.actor_id,
        placement_group_id=info.placement_group_id,
        required_resources=info.required_resources,
        serialized_runtime_env=env.serialized_runtime_env,
        runtime_env_config=env.runtime_env_config,
        runtime_env_uris=env.uris,
        label_selector=info.label_selector,
    )


def _task_update(task: wire.ExportTask, update: wire.TaskStateUpdate) -> TaskUpdate:
    error = update.error_info
    log = update.task_log_info
    return TaskUpdate(
        task_id=task.task_id,
        attempt_number=task.attempt_number,
        job_id=task.job_id,
        states=sorted((state, unsigned(at)) for state, at in update.state_ts_ns.items() if state in TASK_STATUS_NUMBER),
        node_id=update.node_id,
        worker_id=update.worker_id,
        worker_pid=update.worker_pid,
        error_type=None if error is None else ERROR_TYPE.name(error.error_type),
        error_message=None if error is None else error.error_message,
        log_info=None if log is None else _log_info(log),
        is_debugger_paused=update.is_debugger_paused,
    )


def _log_info(log: LogInfo) -> TaskLogInfo:
    """This dialect fills what it doesn't say with ``""`` and 0: names and starts come together, ends may come later."""
    named = bool(log.stdout_file or log.stderr_file)
    return TaskLogInfo(
        stdout_file=log.stdout_file or None,
        stderr_file=log.stderr_file or None,
        stdout_start=log.stdout_start if named else None,
        stdout_end=(log.stdout_end or None) if named else log.stdout_end,
        stderr_start=log.stderr_start if named else None,
        stderr_end=(log.stderr_end or None) if named else log.stderr_end,
    )


def _export_actor(data: msgspec.Raw, time_ns: int, out: list[Record]) -> None:
    actor = _actor.decode(data)
    out.append(
        ActorDefinition(
            actor_id=actor.actor_id,
            job_id=actor.job_id,
            class_name=actor.class_name,
            name=actor.name,
            ray_namespace=actor.ray_namespace,
            is_detached=actor.is_detached,
            serialized_runtime_env=actor.serialized_runtime_env,
            required_resources=actor.required_resources,
            placement_group_id=actor.placement_group_id,
            label_selector=actor.label_selector,
            labels=actor.labels,
        )
    )
    transition = ActorTransition(
        state=ACTOR_STATE.name(actor.state),
        timestamp_ns=time_ns,
        node_id=actor.node_id,
        pid=actor.pid,
        repr_name=actor.repr_name,
        death_cause=death_cause(actor.death_cause),
    )
    out.append(ActorUpdate(actor.actor_id, [transition]))


def _export_node(data: msgspec.Raw, time_ns: int, out: list[Record]) -> None:
    node = _node.decode(data)
    death = node.death_info
    out.append(
        NodeDefinition(
            node_id=node.node_id,
            node_ip_address=node.node_manager_address,
            node_name=node.node_name,
            labels=node.labels,
            start_time_ms=unsigned(node.start_time_ms),
            is_head_node=node.is_head_node,
        )
    )
    transition = NodeTransition(
        state=ALIVE_OR_DEAD.name(node.state),
        timestamp_ns=time_ns,
        resources=node.resources_total,
        death_reason=None if death is None else NODE_DEATH_REASON.name(death.reason),
        death_reason_message=None if death is None else death.reason_message,
    )
    out.append(NodeUpdate(node.node_id, [transition], unsigned(node.end_time_ms)))


def _export_driver_job(data: msgspec.Raw, time_ns: int, out: list[Record]) -> None:
    job = _driver_job.decode(data)
    config = job.config or wire.ExportJobConfig()
    env = config.runtime_env_info or wire.RuntimeEnvInfo()
    out.append(
        DriverJobDefinition(
            job_id=job.job_id,
            driver_pid=job.driver_pid,
            entrypoint=job.entrypoint,
            driver_ip_address=job.driver_ip_address,
            serialized_runtime_env=env.serialized_runtime_env,
            metadata=config.metadata,
        )
    )
    out.append(DriverJobUpdate(job.job_id, job.is_dead, unsigned(job.start_time), unsigned(job.end_time)))


def _export_submission_job(data: msgspec.Raw, time_ns: int, out: list[Record]) -> None:
    job = _submission_job.decode(data)
    out.append(
        SubmissionJobDefinition(
            submission_id=job.submission_job_id,
            entrypoint=job.entrypoint,
            runtime_env_json=job.runtime_env_json,
            metadata=job.metadata,
        )
    )
    out.append(
        SubmissionJobUpdate(
            submission_id=job.submission_job_id,
            status=EXPORT_JOB_STATUS.name(job.status),
            timestamp_ns=time_ns,
            message=job.message,
            error_type=job.error_type,
            start_time_ms=unsigned(job.start_time),
            end_time_ms=unsigned(job.end_time),
            driver_agent_http_address=job.driver_agent_http_address,
            driver_node_id=job.driver_node_id,
            driver_exit_code=job.driver_exit_code,
        )
    )


def _opaque(event: wire.ExportEvent, time_ns: int) -> Opaque:
    kind, fields = _OPAQUE[event.source_type]
    data = _dict.decode(event.event_data)
    return Opaque(kind, "/".join(str(data.get(field, "")) for field in fields), time_ns, data)


_NAMED: dict[str | int, Callable[[msgspec.Raw, int, list[Record]], None]] = {
    "EXPORT_TASK": _export_task,
    "EXPORT_NODE": _export_node,
    "EXPORT_ACTOR": _export_actor,
    "EXPORT_DRIVER_JOB": _export_driver_job,
    "EXPORT_SUBMISSION_JOB": _export_submission_job,
}
_CONVERT: dict[str | int, Callable[[msgspec.Raw, int, list[Record]], None]] = {
    **_NAMED,
    **dict(enumerate(_NAMED.values())),  # in the order of ExportEvent.SourceType
}
# What tells one from another; a DATASET_OPERATOR_EVENT has no id of its own.
_IDS = {
    "TRAIN_RUN": ("id",),
    "TRAIN_RUN_ATTEMPT": ("attempt_id",),
    "DATASET_METADATA": ("dataset_id",),
    "DATASET_OPERATOR_EVENT": ("dataset_id", "operator_id", "event_time"),
    "DATASET_OPERATOR_SCHEMA": ("operator_uuid",),
}
_OPAQUE: dict[str | int, tuple[str, tuple[str, ...]]] = {
    **{f"EXPORT_{kind}": (kind, fields) for kind, fields in _IDS.items()},
    **dict(enumerate(_IDS.items(), start=5)),
}

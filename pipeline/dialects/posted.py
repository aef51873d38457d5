"""Ray events as the aggregator agent posts them, one JSON object a line, into the typed model.

What an event means follows ``ray/dashboard/modules/task_events/ray_event_converter.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from pipeline.dialects import posted_wire as wire
from pipeline.dialects.wire import (
    ACTOR_STATE,
    ALIVE_OR_DEAD,
    ALIVE_SUB_STATE,
    DRIVER_JOB_STATE,
    ERROR_TYPE,
    LANGUAGE,
    NODE_DEATH_REASON,
    PLACEMENT_GROUP_STATE,
    PLACEMENT_STRATEGY,
    POSTED_JOB_STATUS,
    RESTART_REASON,
    SCHEDULING_STATE,
    TASK_STATUS_NUMBER,
    TASK_TYPE,
    UINT64_MAX,
    WORKER_EXIT_TYPE,
    WORKER_TYPE,
    UnknownType,
    camel_case,
    camel_keys,
    nanoseconds,
    snake_keys,
    unsigned,
    without_nulls,
)
from pipeline.events import (
    ActorDefinition,
    ActorTransition,
    ActorUpdate,
    Bundle,
    DriverJobDefinition,
    DriverJobUpdate,
    NodeDefinition,
    NodeTransition,
    NodeUpdate,
    Opaque,
    PlacementGroupDefinition,
    PlacementGroupTransition,
    PlacementGroupUpdate,
    ProfileEvent,
    Record,
    SubmissionJobDefinition,
    SubmissionJobUpdate,
    TaskDefinition,
    TaskLogInfo,
    TaskProfile,
    TaskUpdate,
    WorkerDefinition,
    WorkerTransition,
    WorkerUpdate,
)

MS = 1_000_000
ACTOR_CAUSE_IDS = frozenset({"actor_id", "owner_id", "job_id", "node_id", "placement_group_id"})
_MAPS = frozenset({"metadata", "customFields", "custom_fields"})

_T = TypeVar("_T")

_snake = msgspec.json.Decoder(wire.Event, strict=False)
_camel = msgspec.json.Decoder(camel_case(wire.Event), strict=False)
_any = msgspec.json.Decoder()


def decode_line(line: bytes | memoryview, out: list[Record]) -> int:
    """Append the records of one event to ``out``; the event's time in ns.

    Raises ``UnknownType`` for a type this program doesn't know, ``ValueError`` or ``RecursionError`` for
    anything that isn't an event.
    """
    try:
        event = _camel.decode(line)
    except ValueError:
        event = _decode_other(line)
    convert = _CONVERT.get(event.event_type)
    if convert is not None:
        convert(event, out)
    elif event.event_type in _PLATFORM:
        out.append(_platform(line, event))
    else:
        raise UnknownType(str(event.event_type))
    return nanoseconds(event.timestamp)


def _decode_other(line: bytes | memoryview) -> wire.Event:
    """The rare ways an event can be written: snake_case, or with nulls for absent fields."""
    try:
        return _snake.decode(line)
    except ValueError:
        plain = _any.decode(line)
    decoder = _snake if isinstance(plain, dict) and "event_type" in plain else _camel
    return decoder.decode(msgspec.json.encode(without_nulls(plain)))


def _there(payload: _T | None, event: wire.Event) -> _T:
    if payload is None:
        raise ValueError(f"a {event.event_type} without its payload")
    return payload


def _function_name(function: wire.FunctionDescriptor | None) -> str:
    """The name as Ray shows it: short for Python, in full for Java and C++."""
    if function is None:
        return ""
    if (python := function.python_function_descriptor) is not None:
        name = _short(python.function_name)
        return f"{_short(python.class_name)}.{name}" if python.class_name else name
    if (java := function.java_function_descriptor) is not None:
        return f"{java.class_name}.{java.function_name}" if java.class_name else java.function_name
    if (cpp := function.cpp_function_descriptor) is not None:
        return cpp.function_name
    return ""


def _short(name: str) -> str:
    return name[name.rfind(".") + 1 :]


def _task_definition(event: wire.Event, out: list[Record]) -> None:
    task = _there(event.task_definition_event, event)
    kind = TASK_TYPE.name(task.task_type)
    creation = kind == "ACTOR_CREATION_TASK"
    out.append(
        TaskDefinition(
            task.task_id,
            task.task_attempt,
            task.job_id,
            kind,
            LANGUAGE.name(task.language),
            _function_name(task.task_func),
            task.task_name,
            task.parent_task_id,
            task.task_id[-16:] if creation else b"",  # a task's id ends in its actor's
            task.placement_group_id,
            task.required_resources,
            task.serialized_runtime_env,
            None,
            None,
            task.call_site,
            task.label_selector,
            snake_keys(task.fallback_strategy),
            creation and task.is_detached_actor,
        )
    )


def _actor_task_definition(event: wire.Event, out: list[Record]) -> None:
    task = _there(event.actor_task_definition_event, event)
    out.append(
        TaskDefinition(
            task.task_id,
            task.task_attempt,
            task.job_id,
            "ACTOR_TASK",
            LANGUAGE.name(task.language),
            _function_name(task.actor_func),
            task.actor_task_name,
            task.parent_task_id,
            task.actor_id,
            task.placement_group_id,
            task.required_resources,
            task.serialized_runtime_env,
            None,
            None,
            task.call_site,
            task.label_selector,
            snake_keys(task.fallback_strategy),
            task.is_detached_actor,
        )
    )


def _task_lifecycle(event: wire.Event, out: list[Record]) -> None:
    task = _there(event.task_lifecycle_event, event)
    error = task.ray_error_info
    log = task.task_log_info
    out.append(
        TaskUpdate(
            task.task_id,
            task.task_attempt,
            task.job_id,
            [
                (TASK_STATUS_NUMBER[transition.state], nanoseconds(transition.timestamp))
                for transition in task.state_transitions
                if transition.state in TASK_STATUS_NUMBER  # not one that a newer Ray has added
            ],
            task.node_id,
            task.worker_id,
            task.worker_pid,
            None if error is None else ERROR_TYPE.name(error.error_type),
            None if error is None else error.error_message,
            None
            if log is None
            else TaskLogInfo(
                log.stdout_file, log.stderr_file, log.stdout_start, log.stdout_end, log.stderr_start, log.stderr_end
            ),
            task.is_debugger_paused,
            task.actor_repr_name,
        )
    )


def _task_profile(event: wire.Event, out: list[Record]) -> None:
    task = _there(event.task_profile_events, event)
    out.append(task_profile(task.task_id, task.attempt_number, task.job_id, task.profile_events or wire.Profile()))


def task_profile(task_id: bytes, attempt_number: int, job_id: bytes, profile: wire.Profile) -> TaskProfile:
    """A profile, which both dialects write alike."""
    events = [
        ProfileEvent(entry.start_time, entry.end_time, entry.event_name, entry.extra_data or "{}")
        for entry in profile.events
    ]
    return TaskProfile(
        task_id, attempt_number, job_id, profile.component_type, profile.component_id, profile.node_ip_address, events
    )


def _driver_job_definition(event: wire.Event, out: list[Record]) -> None:
    job = _there(event.driver_job_definition_event, event)
    config = job.config or wire.DriverJobConfig()
    out.append(
        DriverJobDefinition(
            job_id=job.job_id,
            driver_pid=job.driver_pid,
            entrypoint=job.entrypoint,
            driver_node_id=job.driver_node_id,
            serialized_runtime_env=config.serialized_runtime_env,
            metadata=config.metadata,
        )
    )


def _driver_job_lifecycle(event: wire.Event, out: list[Record]) -> None:
    job = _there(event.driver_job_lifecycle_event, event)
    times = {DRIVER_JOB_STATE.name(step.state): nanoseconds(step.timestamp) // MS for step in job.state_transitions}
    out.append(
        DriverJobUpdate(
            job_id=job.job_id,
            is_dead="FINISHED" in times,
            start_time_ms=times.get("CREATED", 0),
            end_time_ms=times.get("FINISHED", 0),
        )
    )


def _node_definition(event: wire.Event, out: list[Record]) -> None:
    node = _there(event.node_definition_event, event)
    out.append(
        NodeDefinition(
            node_id=node.node_id,
            node_ip_address=node.node_ip_address,
            node_name=node.node_name,
            hostname=node.hostname,
            instance_id=node.instance_id,
            instance_type_name=node.instance_type_name,
            labels=node.labels,
            start_time_ms=nanoseconds(node.start_timestamp) // MS,
        )
    )


def _node_transition(step: wire.NodeStateTransition) -> NodeTransition:
    death = step.death_info
    return NodeTransition(
        state=ALIVE_OR_DEAD.name(step.state),
        timestamp_ns=nanoseconds(step.timestamp),
        resources=step.resources,
        death_reason=None if death is None else NODE_DEATH_REASON.name(death.reason),
        death_reason_message=None if death is None else death.reason_message,
        alive_sub_state=ALIVE_SUB_STATE.name(step.alive_sub_state),
    )


def _node_lifecycle(event: wire.Event, out: list[Record]) -> None:
    node = _there(event.node_lifecycle_event, event)
    transitions = [_node_transition(step) for step in node.state_transitions]
    ends = [step.timestamp_ns // MS for step in transitions if step.state == "DEAD"]
    out.append(NodeUpdate(node.node_id, transitions, max(ends, default=0)))


def _actor_definition(event: wire.Event, out: list[Record]) -> None:
    actor = _there(event.actor_definition_event, event)
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
            call_site=actor.call_site,
            parent_id=actor.parent_id,
        )
    )


def _actor_lifecycle(event: wire.Event, out: list[Record]) -> None:
    actor = _there(event.actor_lifecycle_event, event)
    transitions = [
        ActorTransition(
            state=ACTOR_STATE.name(step.state),
            timestamp_ns=nanoseconds(step.timestamp),
            node_id=step.node_id,
            worker_id=step.worker_id,
            pid=step.pid,
            port=step.port,
            repr_name=step.repr_name,
            death_cause=snake_keys(step.death_cause, ACTOR_CAUSE_IDS),
            restart_reason=RESTART_REASON.name(step.restart_reason),
        )
        for step in actor.state_transitions
    ]
    out.append(ActorUpdate(actor.actor_id, transitions))


def _placement_group_definition(event: wire.Event, out: list[Record]) -> None:
    group = _there(event.placement_group_definition_event, event)
    out.append(
        PlacementGroupDefinition(
            placement_group_id=group.placement_group_id,
            name=group.name,
            creator_job_id=group.creator_job_id,
            strategy=PLACEMENT_STRATEGY.name(group.strategy),
            is_detached=group.is_detached,
            ray_namespace=group.ray_namespace,
            creator_actor_id=group.creator_actor_id,
            bundles=[Bundle(one.bundle_index, one.unit_resources, one.label_selector) for one in group.bundles],
            creation_request_received_ns=group.creation_request_received_ns,
        )
    )


def _placement_group_lifecycle(event: wire.Event, out: list[Record]) -> None:
    group = _there(event.placement_group_lifecycle_event, event)
    transitions = [
        PlacementGroupTransition(
            state=PLACEMENT_GROUP_STATE.name(step.state),
            timestamp_ns=nanoseconds(step.timestamp),
            scheduling_state=SCHEDULING_STATE.name(step.scheduling_state),
            scheduling_attempt=step.scheduling_attempt,
            highest_retry_delay_ms=step.highest_retry_delay_ms,
            placements={one.bundle_index: one.node_id for one in step.bundle_placements},
        )
        for step in group.state_transitions
    ]
    out.append(PlacementGroupUpdate(group.placement_group_id, transitions))


def _submission_job_definition(event: wire.Event, out: list[Record]) -> None:
    job = _there(event.submission_job_definition_event, event)
    config = job.config or wire.SubmissionJobConfig()
    needs = job.entrypoint_resources
    out.append(
        SubmissionJobDefinition(
            submission_id=job.submission_id,
            entrypoint=job.entrypoint,
            runtime_env_json=config.serialized_runtime_env,
            metadata=config.metadata,
            entrypoint_num_cpus=None if needs is None else needs.num_cpus,
            entrypoint_num_gpus=None if needs is None else needs.num_gpus,
            entrypoint_memory=None if needs is None else needs.memory,
            entrypoint_resources=None if needs is None else needs.custom_resources,
        )
    )


def _submission_job_lifecycle(event: wire.Event, out: list[Record]) -> None:
    job = _there(event.submission_job_lifecycle_event, event)
    out.extend(
        SubmissionJobUpdate(
            submission_id=job.submission_id,
            status=POSTED_JOB_STATUS.name(step.state),
            timestamp_ns=nanoseconds(step.timestamp),
            message=step.message or None,
            error_type=step.error_type or None,
            driver_agent_http_address=step.driver_agent_http_address or None,
            driver_node_id=step.driver_node_id.hex() or None,
            driver_exit_code=step.driver_exit_code,
        )
        for step in job.state_transitions
    )


def _worker_definition(event: wire.Event, out: list[Record]) -> None:
    worker = _there(event.worker_definition_event, event)
    kind = WORKER_TYPE.name(worker.worker_type)
    out.append(WorkerDefinition(worker.worker_id, worker.node_id, kind, worker.pid))


def _worker_transition(step: wire.WorkerStateTransition) -> WorkerTransition:
    death = step.death_info
    return WorkerTransition(
        state=ALIVE_OR_DEAD.name(step.state),
        timestamp_ns=nanoseconds(step.timestamp),
        worker_launch_time_ms=unsigned(step.worker_launch_time_ms, UINT64_MAX),
        worker_launched_time_ms=unsigned(step.worker_launched_time_ms, UINT64_MAX),
        start_time_ms=unsigned(step.start_time_ms, UINT64_MAX),
        end_time_ms=unsigned(step.end_time_ms, UINT64_MAX),
        exit_type=None if death is None else WORKER_EXIT_TYPE.name(death.exit_type),
        exit_detail=None if death is None else death.exit_detail,
    )


def _worker_lifecycle(event: wire.Event, out: list[Record]) -> None:
    worker = _there(event.worker_lifecycle_event, event)
    transitions = [_worker_transition(step) for step in worker.state_transitions]
    out.append(WorkerUpdate(worker.worker_id, worker.job_id, transitions))


def _platform(line: bytes | memoryview, event: wire.Event) -> Opaque:
    """Kept as Ray's ``/api/v0/platform_events`` shows it: the whole event in camelCase."""
    _there(event.platform_event, event)
    data = camel_keys(_any.decode(line), _MAPS)
    return Opaque("PLATFORM_EVENT", str(data.get("eventId", "")), nanoseconds(event.timestamp), data)


_NAMED: dict[int | str, Callable[[wire.Event, list[Record]], None]] = {
    "TASK_DEFINITION_EVENT": _task_definition,
    "TASK_LIFECYCLE_EVENT": _task_lifecycle,
    "ACTOR_TASK_DEFINITION_EVENT": _actor_task_definition,
    "TASK_PROFILE_EVENT": _task_profile,
    "DRIVER_JOB_DEFINITION_EVENT": _driver_job_definition,
    "DRIVER_JOB_LIFECYCLE_EVENT": _driver_job_lifecycle,
    "NODE_DEFINITION_EVENT": _node_definition,
    "NODE_LIFECYCLE_EVENT": _node_lifecycle,
    "ACTOR_DEFINITION_EVENT": _actor_definition,
    "ACTOR_LIFECYCLE_EVENT": _actor_lifecycle,
    "PLACEMENT_GROUP_DEFINITION_EVENT": _placement_group_definition,
    "PLACEMENT_GROUP_LIFECYCLE_EVENT": _placement_group_lifecycle,
    "SUBMISSION_JOB_DEFINITION_EVENT": _submission_job_definition,
    "SUBMISSION_JOB_LIFECYCLE_EVENT": _submission_job_lifecycle,
}
_CONVERT: dict[int | str, Callable[[wire.Event, list[Record]], None]] = {
    **_NAMED,
    **dict(enumerate(_NAMED.values(), start=1)),  # in the order of RayEvent.EventType
    "WORKER_LIFECYCLE_EVENT": _worker_lifecycle,
    16: _worker_lifecycle,
    "WORKER_DEFINITION_EVENT": _worker_definition,
    17: _worker_definition,
}
_PLATFORM = frozenset({"PLATFORM_EVENT", 15})

"""Posted task events into the typed model.

What an event means follows ``ray/dashboard/modules/task_events/ray_event_converter.py``. Positional
arguments, for speed: these are most of what is ever decoded.
"""

from __future__ import annotations

from typing import Any

from pipeline.decoding.dialects import posted_wire as wire
from pipeline.decoding.dialects.wire import (
    ERROR_TYPE,
    LABEL_OPERATOR,
    LANGUAGE,
    TASK_STATUS_NUMBER,
    TASK_TYPE,
    EnumPaths,
    name_enums,
    nanoseconds,
    snake_keys,
)
from pipeline.events import (
    ProfileEvent,
    TaskDefinition,
    TaskLogInfo,
    TaskProfile,
    TaskUpdate,
)

_FALLBACK_ENUMS: EnumPaths = {"options": {"label_selector": {"label_constraints": {"operator": LABEL_OPERATOR}}}}


def _fallback(strategy: dict[str, Any] | None) -> dict[str, Any] | None:
    shown: dict[str, Any] | None = strategy and name_enums(snake_keys(strategy), _FALLBACK_ENUMS)
    return shown


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


def task_definition(task: wire.TaskDefinitionEvent) -> TaskDefinition:
    kind = TASK_TYPE.name(task.task_type)
    creation = kind == "ACTOR_CREATION_TASK"
    return TaskDefinition(
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
        _fallback(task.fallback_strategy),
        creation and task.is_detached_actor,
    )


def actor_task_definition(task: wire.ActorTaskDefinitionEvent) -> TaskDefinition:
    return TaskDefinition(
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
        _fallback(task.fallback_strategy),
        task.is_detached_actor,
    )


def task_lifecycle(task: wire.TaskLifecycleEvent) -> TaskUpdate:
    error = task.ray_error_info
    log = task.task_log_info
    return TaskUpdate(
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


def task_profile(task: wire.TaskProfileEvents) -> TaskProfile:
    return profile(task.task_id, task.attempt_number, task.job_id, task.profile_events or wire.Profile())


def profile(task_id: bytes, attempt_number: int, job_id: bytes, spans: wire.Profile) -> TaskProfile:
    """A profile, which both dialects write alike."""
    events = [
        ProfileEvent(entry.start_time, entry.end_time, entry.event_name, entry.extra_data or "{}")
        for entry in spans.events
    ]
    return TaskProfile(
        task_id, attempt_number, job_id, spans.component_type, spans.component_id, spans.node_ip_address, events
    )

"""Ray events as the aggregator agent posts them: the shape on the wire, field for field, in snake_case.

The names are those of ``ray/core/generated/events_*_pb2.py``; ``wire.camel_case`` derives the other
spelling. Only what the model uses is named: msgspec skips the rest.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from pipeline.decoding.dialects.wire import Enum, Id, Int32, Int64, Key, UInt32


class Wire(Struct, gc=False):
    """Base of all: short-lived and free of cycles, so the garbage collector need not look."""


class NamedFunction(Wire):
    class_name: str = ""
    function_name: str = ""


class FunctionDescriptor(Wire):
    python_function_descriptor: NamedFunction | None = None
    java_function_descriptor: NamedFunction | None = None
    cpp_function_descriptor: NamedFunction | None = None


class TaskDefinitionEvent(Wire):
    task_id: Key
    task_type: Enum = 0
    task_func: FunctionDescriptor | None = None
    task_name: str = ""
    job_id: Id = b""
    parent_task_id: Id = b""
    placement_group_id: Id = b""
    task_attempt: Int32 = 0
    language: Enum = 0
    required_resources: dict[str, float] = {}
    serialized_runtime_env: str = ""
    call_site: str | None = None
    label_selector: dict[str, str] = {}
    fallback_strategy: dict[str, Any] | None = None
    is_detached_actor: bool = False


class ActorTaskDefinitionEvent(Wire):
    task_id: Key
    actor_func: FunctionDescriptor | None = None
    actor_task_name: str = ""
    job_id: Id = b""
    actor_id: Id = b""
    parent_task_id: Id = b""
    placement_group_id: Id = b""
    serialized_runtime_env: str = ""
    task_attempt: Int32 = 0
    language: Enum = 0
    required_resources: dict[str, float] = {}
    call_site: str | None = None
    label_selector: dict[str, str] = {}
    fallback_strategy: dict[str, Any] | None = None
    is_detached_actor: bool = False


class TaskTransition(Wire):
    state: Enum = 0
    timestamp: str = ""


class RayErrorInfo(Wire):
    error_message: str = ""
    error_type: Enum = 0


class LogInfo(Wire):
    stdout_file: str | None = None
    stderr_file: str | None = None
    stdout_start: Int64 | None = None
    stderr_start: Int64 | None = None
    stdout_end: Int64 | None = None
    stderr_end: Int64 | None = None


class TaskLifecycleEvent(Wire):
    task_id: Key
    state_transitions: list[TaskTransition] = []
    ray_error_info: RayErrorInfo | None = None
    node_id: Id = b""
    worker_id: Id = b""
    worker_pid: Int32 = 0
    job_id: Id = b""
    task_log_info: LogInfo | None = None
    task_attempt: Int32 = 0
    is_debugger_paused: bool | None = None
    actor_repr_name: str | None = None


class ProfileEntry(Wire):
    start_time: Int64 = 0
    end_time: Int64 = 0
    extra_data: str | None = None
    event_name: str = ""


class Profile(Wire):
    component_type: str = ""
    component_id: Id = b""
    node_ip_address: str = ""
    events: list[ProfileEntry] = []


class TaskProfileEvents(Wire):
    task_id: Key
    job_id: Id = b""
    profile_events: Profile | None = None
    attempt_number: Int32 = 0


class DriverJobConfig(Wire):
    serialized_runtime_env: str = ""
    metadata: dict[str, str] = {}


class DriverJobDefinitionEvent(Wire):
    job_id: Key
    driver_pid: Int64 = 0
    driver_node_id: Id = b""
    entrypoint: str = ""
    config: DriverJobConfig | None = None


class DriverJobLifecycleEvent(Wire):
    job_id: Key
    state_transitions: list[TaskTransition] = []


class NodeDefinitionEvent(Wire):
    node_id: Key
    node_ip_address: str = ""
    labels: dict[str, str] = {}
    start_timestamp: str = ""
    hostname: str = ""
    node_name: str = ""
    instance_id: str = ""
    instance_type_name: str = ""


class DeathInfo(Wire):
    reason: Enum = 0
    reason_message: str = ""


class NodeStateTransition(Wire):
    state: Enum = 0
    timestamp: str = ""
    resources: dict[str, float] = {}
    death_info: DeathInfo | None = None
    alive_sub_state: Enum = 0


class NodeLifecycleEvent(Wire):
    node_id: Key
    state_transitions: list[NodeStateTransition] = []


class ActorDefinitionEvent(Wire):
    actor_id: Key
    job_id: Id = b""
    is_detached: bool = False
    name: str = ""
    ray_namespace: str = ""
    serialized_runtime_env: str = ""
    class_name: str = ""
    required_resources: dict[str, float] = {}
    placement_group_id: Id = b""
    label_selector: dict[str, str] = {}
    call_site: str = ""
    parent_id: Id = b""


class ActorStateTransition(Wire):
    state: Enum = 0
    timestamp: str = ""
    node_id: Id = b""
    worker_id: Id = b""
    repr_name: str = ""
    death_cause: dict[str, Any] | None = None
    pid: UInt32 = 0
    port: Int32 = 0
    restart_reason: Enum = 0


class ActorLifecycleEvent(Wire):
    actor_id: Key
    state_transitions: list[ActorStateTransition] = []


class BundleSpec(Wire):
    bundle_index: Int32 = 0
    unit_resources: dict[str, float] = {}
    label_selector: dict[str, str] = {}


class PlacementGroupDefinitionEvent(Wire):
    placement_group_id: Key
    name: str = ""
    ray_namespace: str = ""
    strategy: Enum = 0
    is_detached: bool = False
    creator_job_id: Id = b""
    creator_actor_id: Id = b""
    bundles: list[BundleSpec] = []
    creation_request_received_ns: Int64 = 0


class BundlePlacement(Wire):
    bundle_index: Int32 = 0
    node_id: Id = b""


class PlacementGroupStateTransition(Wire):
    state: Enum = 0
    timestamp: str = ""
    scheduling_state: Enum = 0
    scheduling_attempt: UInt32 = 0
    highest_retry_delay_ms: float = 0.0
    bundle_placements: list[BundlePlacement] = []


class PlacementGroupLifecycleEvent(Wire):
    placement_group_id: Key
    state_transitions: list[PlacementGroupStateTransition] = []


class SubmissionJobConfig(Wire):
    serialized_runtime_env: str = ""
    metadata: dict[str, str] = {}


class EntrypointResources(Wire):
    num_cpus: float = 0.0
    num_gpus: float = 0.0
    memory: Int64 = 0
    custom_resources: dict[str, float] = {}


class SubmissionJobDefinitionEvent(Wire):
    submission_id: str
    entrypoint: str = ""
    config: SubmissionJobConfig | None = None
    entrypoint_resources: EntrypointResources | None = None


class SubmissionJobStateTransition(Wire):
    state: Enum = 0
    timestamp: str = ""
    message: str = ""
    error_type: str = ""
    driver_node_id: Id = b""
    driver_agent_http_address: str = ""
    driver_exit_code: Int32 | None = None


class SubmissionJobLifecycleEvent(Wire):
    submission_id: str
    state_transitions: list[SubmissionJobStateTransition] = []


class WorkerDefinitionEvent(Wire):
    worker_id: Key
    node_id: Id = b""
    pid: UInt32 = 0
    worker_type: Enum = 0


class WorkerDeathInfo(Wire):
    exit_type: Enum = 0
    exit_detail: str = ""


class WorkerStateTransition(Wire):
    state: Enum = 0
    timestamp: str = ""
    worker_launch_time_ms: int = 0
    worker_launched_time_ms: int = 0
    start_time_ms: int = 0
    end_time_ms: int = 0
    death_info: WorkerDeathInfo | None = None


class WorkerLifecycleEvent(Wire):
    worker_id: Key
    state_transitions: list[WorkerStateTransition] = []
    job_id: Id = b""


class Event(Wire):
    """One posted record: what every event carries, and the one payload that its type names."""

    event_type: Enum
    timestamp: str = ""
    task_definition_event: TaskDefinitionEvent | None = None
    task_lifecycle_event: TaskLifecycleEvent | None = None
    actor_task_definition_event: ActorTaskDefinitionEvent | None = None
    task_profile_events: TaskProfileEvents | None = None
    driver_job_definition_event: DriverJobDefinitionEvent | None = None
    driver_job_lifecycle_event: DriverJobLifecycleEvent | None = None
    node_definition_event: NodeDefinitionEvent | None = None
    node_lifecycle_event: NodeLifecycleEvent | None = None
    actor_definition_event: ActorDefinitionEvent | None = None
    actor_lifecycle_event: ActorLifecycleEvent | None = None
    placement_group_definition_event: PlacementGroupDefinitionEvent | None = None
    placement_group_lifecycle_event: PlacementGroupLifecycleEvent | None = None
    submission_job_definition_event: SubmissionJobDefinitionEvent | None = None
    submission_job_lifecycle_event: SubmissionJobLifecycleEvent | None = None
    platform_event: dict[str, Any] | None = None
    worker_lifecycle_event: WorkerLifecycleEvent | None = None
    worker_definition_event: WorkerDefinitionEvent | None = None


class Envelope(Wire):
    """What a post is sorted by. None: not said."""

    event_id: str | None = None
    session_name: str | None = None
    node_id: Id | None = None

"""The one typed model that all three of Ray's event dialects decode into.

``decode.py`` makes these from bytes; the index applies them. A record is either a *definition* (what
something is, said once) or an *update* (what happened to it, said often). Everything is Ray's own
vocabulary: enum values by their protobuf name, task states by their protobuf number because their
order is what decides a task's latest state.

Units and shapes, throughout:
  ids         ``bytes``, as Ray has them (task 24, actor 16, job 4, node and worker 28, placement
              group 18); ``b""`` where Ray said nothing. Show them with ``.hex()``.
  ``*_ns``    integer nanoseconds since the epoch; ``*_ms`` integer milliseconds; 0 where Ray said nothing
  ``None``    Ray did not say (as opposed to: said it is empty)

``gc=False``: they come from JSON, so they can't hold a cycle, and a million of them need not be looked at
by the garbage collector (a fifth of the time to decode).

Field sources: ``ray/core/generated/events_*_pb2.py`` (posted events), ``export_*_pb2.py`` (export API).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

# Ray's TaskStatus (common.proto): the number is the key in ``state_ts_ns`` and the highest one present is the state.
TASK_STATUS: tuple[str, ...] = (
    "NIL",
    "PENDING_ARGS_AVAIL",
    "PENDING_NODE_ASSIGNMENT",
    "PENDING_OBJ_STORE_MEM_AVAIL",
    "PENDING_ARGS_FETCH",
    "SUBMITTED_TO_WORKER",
    "PENDING_ACTOR_TASK_ARGS_FETCH",
    "PENDING_ACTOR_TASK_ORDERING_OR_CONCURRENCY",
    "RUNNING",
    "RUNNING_IN_RAY_GET",
    "RUNNING_IN_RAY_WAIT",
    "FINISHED",
    "FAILED",
    "GETTING_AND_PINNING_ARGS",
)


class TaskDefinition(Struct, frozen=True, gc=False):
    """What a task attempt is. ``name`` is None in the export dialect, which doesn't carry it."""

    task_id: bytes
    attempt_number: int
    job_id: bytes
    type: str
    language: str
    func_or_class_name: str
    name: str | None
    parent_task_id: bytes = b""
    actor_id: bytes = b""
    placement_group_id: bytes = b""
    required_resources: dict[str, float] = {}
    serialized_runtime_env: str = ""
    runtime_env_config: dict[str, Any] | None = None
    runtime_env_uris: dict[str, Any] | None = None
    call_site: str | None = None
    label_selector: dict[str, str] = {}
    fallback_strategy: dict[str, Any] | None = None
    is_detached_actor: bool = False


class TaskLogInfo(Struct, frozen=True, gc=False):
    """Where in its worker's log files an attempt's output stands. Start and end arrive in different records."""

    stdout_file: str | None = None
    stderr_file: str | None = None
    stdout_start: int | None = None
    stdout_end: int | None = None
    stderr_start: int | None = None
    stderr_end: int | None = None


class TaskUpdate(Struct, frozen=True, gc=False):
    """What happened to a task attempt: any number of (TaskStatus number, time in ns), and what came with them."""

    task_id: bytes
    attempt_number: int
    job_id: bytes
    states: list[tuple[int, int]]
    node_id: bytes = b""
    worker_id: bytes = b""
    worker_pid: int = 0
    error_type: str | None = None
    error_message: str | None = None
    log_info: TaskLogInfo | None = None
    is_debugger_paused: bool | None = None
    actor_repr_name: str | None = None


class ProfileEvent(Struct, frozen=True, gc=False):
    """One timed span inside a task; ``extra_data`` is a JSON text, as Ray sends it."""

    start_ns: int
    end_ns: int
    event_name: str
    extra_data: str = "{}"


class TaskProfile(Struct, frozen=True, gc=False):
    """Timed spans of a task attempt; they add up over records."""

    task_id: bytes
    attempt_number: int
    job_id: bytes
    component_type: str
    component_id: bytes
    node_ip_address: str
    events: list[ProfileEvent]


class ActorDefinition(Struct, frozen=True, gc=False):
    """What an actor is."""

    actor_id: bytes
    job_id: bytes
    class_name: str
    name: str = ""
    ray_namespace: str = ""
    is_detached: bool = False
    serialized_runtime_env: str = ""
    required_resources: dict[str, float] = {}
    placement_group_id: bytes = b""
    label_selector: dict[str, str] = {}
    labels: dict[str, str] = {}
    call_site: str = ""
    parent_id: bytes = b""


class ActorTransition(Struct, frozen=True, gc=False):
    """``death_cause`` is Ray's ActorDeathCause in snake_case with ids in hex, {} or None where there is none."""

    state: str
    timestamp_ns: int
    node_id: bytes = b""
    worker_id: bytes = b""
    pid: int = 0
    port: int = 0
    repr_name: str = ""
    death_cause: dict[str, Any] | None = None
    restart_reason: str = "ACTOR_FAILURE"


class ActorUpdate(Struct, frozen=True, gc=False):
    """An actor's state changes, oldest first. Times of the export dialect are whole seconds: position breaks ties."""

    actor_id: bytes
    transitions: list[ActorTransition]


class NodeDefinition(Struct, frozen=True, gc=False):
    """What a node is. ``is_head_node`` is None in the posted dialect (its resources tell)."""

    node_id: bytes
    node_ip_address: str
    node_name: str = ""
    hostname: str = ""
    instance_id: str = ""
    instance_type_name: str = ""
    labels: dict[str, str] = {}
    start_time_ms: int = 0
    is_head_node: bool | None = None


class NodeTransition(Struct, frozen=True, gc=False):
    """``resources`` is empty where Ray didn't repeat it; ``death_reason`` is NodeDeathInfo.Reason's name."""

    state: str
    timestamp_ns: int
    resources: dict[str, float] = {}
    death_reason: str | None = None
    death_reason_message: str | None = None
    alive_sub_state: str = "UNSPECIFIED"


class NodeUpdate(Struct, frozen=True, gc=False):
    """A node's state changes. ``end_time_ms`` is 0 while it lives or where the dialect doesn't say."""

    node_id: bytes
    transitions: list[NodeTransition]
    end_time_ms: int = 0


class WorkerDefinition(Struct, frozen=True, gc=False):
    """What a worker process is."""

    worker_id: bytes
    node_id: bytes
    worker_type: str
    pid: int


class WorkerTransition(Struct, frozen=True, gc=False):
    """Milliseconds are Ray's own (2**64-1 is its "unknown"; 0: not said in this record)."""

    state: str
    timestamp_ns: int
    worker_launch_time_ms: int = 0
    worker_launched_time_ms: int = 0
    start_time_ms: int = 0
    end_time_ms: int = 0
    exit_type: str | None = None
    exit_detail: str | None = None


class WorkerUpdate(Struct, frozen=True, gc=False):
    """A worker's state changes."""

    worker_id: bytes
    job_id: bytes
    transitions: list[WorkerTransition]


class DriverJobDefinition(Struct, frozen=True, gc=False):
    """A driver that connected. ``metadata`` holds ``job_submission_id`` where it was submitted."""

    job_id: bytes
    driver_pid: int
    entrypoint: str = ""
    driver_node_id: bytes = b""
    driver_ip_address: str = ""
    serialized_runtime_env: str = ""
    metadata: dict[str, str] = {}


class DriverJobUpdate(Struct, frozen=True, gc=False):
    """Whether a driver still runs. Times in ms, 0 where not said."""

    job_id: bytes
    is_dead: bool
    start_time_ms: int = 0
    end_time_ms: int = 0


class SubmissionJobDefinition(Struct, frozen=True, gc=False):
    """A job handed in by the Job API."""

    submission_id: str
    entrypoint: str
    runtime_env_json: str = ""
    metadata: dict[str, str] = {}
    entrypoint_num_cpus: float | None = None
    entrypoint_num_gpus: float | None = None
    entrypoint_memory: int | None = None
    entrypoint_resources: dict[str, float] | None = None


class SubmissionJobUpdate(Struct, frozen=True, gc=False):
    """A submitted job's status at a time; ``driver_node_id`` is hex, as Ray's Python has it."""

    submission_id: str
    status: str
    timestamp_ns: int
    message: str | None = None
    error_type: str | None = None
    start_time_ms: int = 0
    end_time_ms: int = 0
    driver_agent_http_address: str | None = None
    driver_node_id: str | None = None
    driver_exit_code: int | None = None


class Bundle(Struct, frozen=True, gc=False):
    """One bundle of a placement group."""

    bundle_index: int
    unit_resources: dict[str, float] = {}
    label_selector: dict[str, str] = {}


class PlacementGroupDefinition(Struct, frozen=True, gc=False):
    """What a placement group is."""

    placement_group_id: bytes
    name: str
    creator_job_id: bytes
    strategy: str = "PACK"
    is_detached: bool = False
    ray_namespace: str = ""
    creator_actor_id: bytes = b""
    bundles: list[Bundle] = []
    creation_request_received_ns: int = 0


class PlacementGroupTransition(Struct, frozen=True, gc=False):
    """``placements``: bundle index to node id."""

    state: str
    timestamp_ns: int
    scheduling_state: str = "QUEUED"
    scheduling_attempt: int = 0
    highest_retry_delay_ms: float = 0.0
    placements: dict[int, bytes] = {}


class PlacementGroupUpdate(Struct, frozen=True, gc=False):
    """A placement group's state changes."""

    placement_group_id: bytes
    transitions: list[PlacementGroupTransition]


class LogEvent(Struct, frozen=True, gc=False):
    """One line of ``logs/events/event_*.log`` or a PLATFORM_EVENT: what ``/events`` shows. ``data`` is the line as Ray wrote it."""

    event_id: str
    source_type: str
    severity: str
    label: str
    message: str
    timestamp_ns: int
    job_id: str
    data: dict[str, Any]


class Opaque(Struct, frozen=True, gc=False):
    """A record kept whole for those who ask: TRAIN_RUN, TRAIN_RUN_ATTEMPT, the three DATASET ones, PLATFORM_EVENT."""

    kind: str
    key: str
    timestamp_ns: int
    data: dict[str, Any]


Record = (
    TaskDefinition
    | TaskUpdate
    | TaskProfile
    | ActorDefinition
    | ActorUpdate
    | NodeDefinition
    | NodeUpdate
    | WorkerDefinition
    | WorkerUpdate
    | DriverJobDefinition
    | DriverJobUpdate
    | SubmissionJobDefinition
    | SubmissionJobUpdate
    | PlacementGroupDefinition
    | PlacementGroupUpdate
    | LogEvent
    | Opaque
)

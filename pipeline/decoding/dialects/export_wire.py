"""Export API events: the shape of each ``event_data`` on the wire, field for field, always in snake_case.

The names are those of ``ray/core/generated/export_*_pb2.py``.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from pipeline.decoding.dialects.posted_wire import DeathInfo, LogInfo, Profile, RayErrorInfo
from pipeline.decoding.dialects.wire import Enum, Id, Int32, Int64, Key, UInt32


class Data(Struct, gc=False):
    """Base of all, as ``posted_wire.Wire``."""


class ExportEvent(Data):
    source_type: Enum
    timestamp: int | float = 0
    event_id: str = ""
    event_data: msgspec.Raw = msgspec.Raw(b"{}")


class RuntimeEnvInfo(Data):
    serialized_runtime_env: str = ""
    runtime_env_config: dict[str, Any] | None = None
    uris: dict[str, Any] | None = None


class TaskInfo(Data):
    type: Enum = 0
    language: Enum = 0
    func_or_class_name: str = ""
    parent_task_id: Id = b""
    required_resources: dict[str, float] = {}
    runtime_env_info: RuntimeEnvInfo | None = None
    actor_id: Id = b""
    placement_group_id: Id = b""
    label_selector: dict[str, str] = {}


class TaskStateUpdate(Data):
    node_id: Id = b""
    worker_id: Id = b""
    error_info: RayErrorInfo | None = None
    task_log_info: LogInfo | None = None
    worker_pid: Int32 = 0
    is_debugger_paused: bool | None = None
    state_ts_ns: dict[Int32, Int64] = {}


class ExportTask(Data):
    task_id: Key
    attempt_number: Int32 = 0
    job_id: Id = b""
    profile_events: Profile | None = None
    state_updates: TaskStateUpdate | None = None
    task_info: TaskInfo | None = None


class ExportActor(Data):
    actor_id: Key
    class_name: str = ""
    death_cause: dict[str, Any] | None = None
    is_detached: bool = False
    job_id: Id = b""
    label_selector: dict[str, str] = {}
    labels: dict[str, str] = {}
    name: str = ""
    node_id: Id = b""
    pid: UInt32 = 0
    placement_group_id: Id = b""
    ray_namespace: str = ""
    repr_name: str = ""
    required_resources: dict[str, float] = {}
    serialized_runtime_env: str = ""
    state: Enum = 0


class ExportNode(Data):
    node_id: Key
    node_manager_address: str = ""
    state: Enum = 0
    resources_total: dict[str, float] = {}
    node_name: str = ""
    start_time_ms: int = 0
    end_time_ms: int = 0
    is_head_node: bool = False
    labels: dict[str, str] = {}
    death_info: DeathInfo | None = None


class ExportJobConfig(Data):
    runtime_env_info: RuntimeEnvInfo | None = None
    metadata: dict[str, str] = {}


class ExportDriverJob(Data):
    job_id: Key
    is_dead: bool = False
    driver_pid: Int64 = 0
    config: ExportJobConfig | None = None
    start_time: int = 0
    end_time: int = 0
    entrypoint: str = ""
    driver_ip_address: str = ""


class ExportSubmissionJob(Data):
    submission_job_id: str
    status: Enum = 0
    entrypoint: str = ""
    message: str | None = None
    error_type: str | None = None
    start_time: int = 0
    end_time: int = 0
    metadata: dict[str, str] = {}
    runtime_env_json: str = ""
    driver_agent_http_address: str | None = None
    driver_node_id: str | None = None
    driver_exit_code: Int32 | None = None

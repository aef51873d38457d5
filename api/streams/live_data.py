"""What stands in the events of a live stream: Ray's own field names, and what filters look at. Pure.

A field that nobody has said anything about is left out. ``created_ms`` is the time of the change.
"""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import Struct

Kind = Literal["task", "actor", "node", "job", "worker", "log", "session"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Event(Struct, frozen=True, gc=False):
    """One event: its JSON, and what filters look at. It is number ``nth`` of those of the line at ``offset``."""

    kind: Kind
    data: bytes
    offset: int
    nth: int
    time_ms: int = 0
    state: str = ""
    job: str = ""
    node: str = ""
    names: tuple[str, ...] = ()


class TaskData(Struct, omit_defaults=True, gc=False):
    task_id: str
    attempt_number: int
    state: str
    created_ms: int = 0
    name: str | None = None
    job_id: str = ""
    type: str | None = None
    func_or_class_name: str | None = None
    actor_id: str | None = None
    node_id: str | None = None
    worker_id: str | None = None
    worker_pid: int | None = None
    error_type: str | None = None
    error_message: str | None = None


class ActorData(Struct, omit_defaults=True, gc=False):
    actor_id: str
    state: str
    created_ms: int = 0
    class_name: str = ""
    name: str = ""
    job_id: str = ""
    ray_namespace: str = ""
    repr_name: str = ""
    node_id: str | None = None
    pid: int = 0
    death_cause: str | None = None


class NodeData(Struct, omit_defaults=True, gc=False):
    node_id: str
    state: str
    created_ms: int = 0
    node_ip: str = ""
    node_name: str = ""
    is_head_node: bool | None = None
    state_message: str | None = None
    resources_total: dict[str, float] | None = None


class JobData(Struct, omit_defaults=True, gc=False):
    type: str
    status: str
    created_ms: int = 0
    job_id: str | None = None
    submission_id: str | None = None
    entrypoint: str = ""
    message: str | None = None
    error_type: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    driver_node_id: str | None = None
    driver_exit_code: int | None = None


class WorkerData(Struct, omit_defaults=True, gc=False):
    worker_id: str
    state: str
    is_alive: bool
    created_ms: int = 0
    worker_type: str = ""
    node_id: str = ""
    ip: str = ""
    pid: int = 0
    job_id: str | None = None
    exit_type: str | None = None
    exit_detail: str | None = None


class LogData(Struct, omit_defaults=True, gc=False):
    event_id: str
    severity: str = ""
    source_type: str = ""
    label: str = ""
    message: str = ""
    created_ms: int = 0
    job_id: str = ""
    node_id: str | None = None


class SessionData(Struct, omit_defaults=True, gc=False):
    """What a stream is of, and whether that lives. ``heard_ms``: its last word."""

    namespace: str
    name: str
    session: str
    status: Literal["live", "ended", "lost"]
    created_ms: int = 0
    ended_ms: int | None = None
    heard_ms: int | None = None


class ResyncData(Struct, gc=False):
    """Something was missed, and why."""

    reason: str

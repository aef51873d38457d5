"""What each resource's row looks like: Ray's State API columns as plain data.

A schema says which columns exist and in which order, which are shown only in detail, which may be
filtered on, how a filter's text is coerced, by what an answer is sorted, and which filters Ray's own
source applies before the answer is counted. ``query.py`` gives these their meaning.

Source of truth: the ``*State`` classes in Ray's ``util/state/common.py`` and the request builders in
``util/state/state_manager.py``; ``tests/test_query_schemas.py`` holds the two together.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["text", "int", "bool", "float"]


class Column(Struct, frozen=True):
    """One column. ``kind`` is how a filter's text is coerced; Ray leaves optional columns as text.

    ``absent``: Ray leaves it out of a row where it has no value, and such a row passes no filter on it, not even ``!=``.
    """

    name: str
    filterable: bool = True
    detail: bool = False
    kind: Kind = "text"
    absent: bool = False


class SourceFilter(Struct, frozen=True):
    """A filter that Ray hands to the source of the rows, which checks it and may count without the rows it drops.

    ``id_bytes``: the value must be the hex of that many bytes (0: no id).  ``names``: it must be one of these.
    ``values``: only these texts are handed on (empty: all).  ``not_equal``: ``!=`` is handed on too.
    ``narrows``: dropped rows are missing from ``num_after_truncation``.
    """

    column: str
    id_bytes: int = 0
    names: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    not_equal: bool = False
    narrows: bool = False


class Schema(Struct, frozen=True):
    """One resource. ``base`` overrides the order of the columns shown without detail (jobs only)."""

    resource: str
    sort_by: str
    columns: tuple[Column, ...]
    source: tuple[SourceFilter, ...] = ()
    base: tuple[str, ...] = ()

    def column(self, name: str) -> Column | None:
        """The column of exactly this name."""
        return next((column for column in self.columns if column.name == name), None)

    def shown(self, detail: bool) -> tuple[str, ...]:
        """Names of the columns of an answer, in order."""
        if self.base and not detail:
            return self.base
        return tuple(column.name for column in self.columns if detail or not column.detail)

    def filterable(self) -> frozenset[str]:
        """Names that may be filtered on."""
        return frozenset(column.name for column in self.columns if column.filterable)


def _plain(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name) for name in names)


def _hidden(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, filterable=False, detail=True) for name in names)


TASKS = Schema(
    resource="tasks",
    sort_by="task_id",
    columns=(
        Column("task_id"),
        Column("attempt_number", kind="int"),
        *_plain("name", "state", "job_id", "actor_id", "type", "func_or_class_name", "parent_task_id"),
        *_plain("node_id", "worker_id", "worker_pid", "error_type"),
        Column("language", detail=True),
        *_hidden("required_resources", "runtime_env_info"),
        Column("placement_group_id", detail=True),
        *_hidden("events", "profiling_data", "creation_time_ms", "start_time_ms", "end_time_ms"),
        *_hidden("task_log_info", "error_message"),
        Column("is_debugger_paused", detail=True),
        *_hidden("call_site", "label_selector", "fallback_strategy"),
    ),
    source=(
        SourceFilter("task_id", id_bytes=24, not_equal=True, narrows=True),
        SourceFilter("job_id", id_bytes=4, not_equal=True, narrows=True),
        SourceFilter("actor_id", id_bytes=16, not_equal=True, narrows=True),
        SourceFilter("name", not_equal=True, narrows=True),
        SourceFilter("state", not_equal=True, narrows=True),
    ),
)

ACTORS = Schema(
    resource="actors",
    sort_by="actor_id",
    columns=(
        *_plain("actor_id", "class_name", "state", "job_id", "name"),
        Column("node_id", absent=True),
        *_plain("pid", "ray_namespace"),
        *_hidden("serialized_runtime_env", "required_resources", "death_cause", "is_detached"),
        Column("placement_group_id", detail=True, absent=True),
        Column("repr_name", detail=True),
        Column("num_restarts", filterable=False, detail=True, kind="int"),
        Column("num_restarts_due_to_lineage_reconstruction", filterable=False, detail=True, kind="int"),
        Column("num_restarts_due_to_node_preemption", filterable=False, detail=True, kind="int"),
        *_hidden("call_site", "label_selector", "fallback_strategy"),
    ),
    source=(
        SourceFilter("actor_id", id_bytes=16),
        SourceFilter("state", names=("DEPENDENCIES_UNREADY", "PENDING_CREATION", "ALIVE", "RESTARTING", "DEAD")),
        SourceFilter("job_id", id_bytes=4),
    ),
)

NODES = Schema(
    resource="nodes",
    sort_by="node_id",
    columns=(
        *_plain("node_id", "node_ip"),
        Column("is_head_node", kind="bool"),
        Column("state"),
        Column("state_message", filterable=False),
        Column("node_name"),
        Column("resources_total", filterable=False),
        Column("labels", filterable=False),
        *_hidden("start_time_ms", "end_time_ms"),
    ),
    source=(
        SourceFilter("node_id", id_bytes=28, narrows=True),
        SourceFilter("state", names=("ALIVE", "DEAD"), narrows=True),
        SourceFilter("node_name", narrows=True),
    ),
)

WORKERS = Schema(
    resource="workers",
    sort_by="worker_id",
    columns=(
        Column("worker_id"),
        Column("is_alive", kind="bool"),
        Column("worker_type"),
        Column("exit_type", absent=True),
        *_plain("node_id", "ip"),
        Column("pid", kind="int"),
        *_hidden("exit_detail", "worker_launch_time_ms", "worker_launched_time_ms", "start_time_ms", "end_time_ms"),
        Column("debugger_port", detail=True, absent=True),
        Column("num_paused_threads", detail=True, absent=True),
    ),
    source=(SourceFilter("is_alive", values=("True",), narrows=True),),
)

_JOB_COLUMNS = (
    "type",
    "job_id",
    "submission_id",
    "driver_info",
    "status",
    "entrypoint",
    "message",
    "error_type",
    "start_time",
    "end_time",
    "metadata",
    "runtime_env",
    "driver_agent_http_address",
    "driver_node_id",
    "driver_exit_code",
)

JOBS = Schema(
    resource="jobs",
    sort_by="job_id",
    columns=tuple(
        Column(name, filterable=name in {"job_id", "type", "status", "submission_id"}) for name in _JOB_COLUMNS
    ),
    base=("job_id", "submission_id", "entrypoint", "type", "status", "message", "error_type", "driver_info"),
)

PLACEMENT_GROUPS = Schema(
    resource="placement_groups",
    sort_by="placement_group_id",
    columns=(
        *_plain("placement_group_id", "name", "creator_job_id", "state"),
        *_hidden("bundles"),
        Column("is_detached", detail=True),
        *_hidden("stats", "topology_strategy", "topology_assignments"),
    ),
)

OBJECTS = Schema(
    resource="objects",
    sort_by="object_id",
    columns=(
        Column("object_id"),
        Column("object_size", kind="int"),
        Column("task_status"),
        Column("attempt_number", kind="int"),
        *_plain("reference_type", "call_site", "type"),
        Column("pid", kind="int"),
        Column("ip"),
    ),
)

RUNTIME_ENVS = Schema(
    resource="runtime_envs",
    sort_by="node_id",
    columns=(
        Column("runtime_env"),
        Column("success", kind="bool"),
        Column("creation_time_ms", filterable=False),
        Column("node_id"),
        *_hidden("ref_cnt"),
        Column("error", detail=True, absent=True),
    ),
)

CLUSTER_EVENTS = Schema(
    resource="cluster_events",
    sort_by="event_id",
    columns=(
        Column("severity"),
        Column("time", filterable=False),
        Column("source_type"),
        Column("message", filterable=False),
        Column("event_id"),
        *_hidden("custom_fields"),
    ),
)

SCHEMAS: dict[str, Schema] = {
    schema.resource: schema
    for schema in (
        TASKS,
        ACTORS,
        NODES,
        WORKERS,
        JOBS,
        PLACEMENT_GROUPS,
        OBJECTS,
        RUNTIME_ENVS,
        CLUSTER_EVENTS,
    )
}

"""Two answers to one question, row by row: what the live dashboard said, and what the history says."""

from __future__ import annotations

from typing import Any

from support.workload import Rows

KEYS = {
    "tasks": ("task_id", "attempt_number"),
    "actors": ("actor_id",),
    "workers": ("worker_id",),
    "nodes": ("node_id",),
    "jobs": ("submission_id", "job_id"),
}
FIELDS = {
    "tasks": (
        "name",
        "state",
        "type",
        "func_or_class_name",
        "job_id",
        "parent_task_id",
        "actor_id",
        "placement_group_id",
        "node_id",
        "worker_id",
        "worker_pid",
        "error_type",
        "required_resources",
        "creation_time_ms",
        "start_time_ms",
        "end_time_ms",
        "events",
    ),
    "actors": (
        "name",
        "state",
        "class_name",
        "job_id",
        "node_id",
        "pid",
        "ray_namespace",
        "num_restarts",
        "is_detached",
    ),
    "workers": ("node_id", "pid", "worker_type", "is_alive", "exit_type"),
    "nodes": ("state", "node_ip", "is_head_node", "node_name"),
    "jobs": ("status", "type", "entrypoint"),
}


TIMES = ("creation_time_ms", "start_time_ms", "end_time_ms")
CLOSE_MS = 10
"""Where Ray marks a task failed because its job or worker ended, no event has that time: the job's or worker's own is near."""


def differences(kind: str, live: Rows, ours: Rows, *, untold: frozenset[str] = frozenset()) -> list[str]:
    """Every row that one has and the other hasn't, or that differs, as a line; none where the history is right.

    ``untold`` are fields that Ray's events of this dialect don't carry.
    """
    expected, found = _by_key(kind, live), _by_key(kind, ours)
    lines = [f"{key} is missing: {expected[key].get('name', '')}" for key in sorted(expected.keys() - found.keys())]
    lines += [f"{key} was never live: {found[key].get('name', '')}" for key in sorted(found.keys() - expected.keys())]
    if len(found) != len(ours):
        lines.append(f"{len(ours) - len(found)} {kind} are answered more than once")
    for key in sorted(expected.keys() & found.keys()):
        for field in FIELDS[kind]:
            was, is_now = expected[key].get(field), found[key].get(field)
            if field not in untold and not _alike(field, was, is_now) and not _dashboards_own(kind, key, field):
                lines.append(f"{key} {expected[key].get('name', '')} {field}: live {was!r}, history {is_now!r}")
    return lines


def _alike(field: str, was: Any, is_now: Any) -> bool:
    if field == "events" and was and is_now:
        states = [[event["state"] for event in events] for events in (was, is_now)]
        times = zip(was, is_now, strict=False)
        return states[0] == states[1] and all(_near(old["created_ms"], new["created_ms"]) for old, new in times)
    return bool(was == is_now or (field in TIMES and was and is_now and _near(was, is_now)))


def _near(was: float, is_now: float) -> bool:
    return abs(was - is_now) <= CLOSE_MS


def _dashboards_own(kind: str, key: str, field: str) -> bool:
    """The driver inside the dashboard connects before events are recorded: only its task tells of it, not its process."""
    return kind == "workers" and key.startswith("01000000ffff") and field in ("node_id", "pid")


def _by_key(kind: str, rows: Rows) -> dict[str, dict[str, Any]]:
    return {"/".join(str(row.get(part)) for part in KEYS[kind]): row for row in rows}

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


def differences(kind: str, live: Rows, ours: Rows) -> list[str]:
    """Every row that one has and the other hasn't, or that differs, as a line; none where the history is right."""
    expected, found = _by_key(kind, live), _by_key(kind, ours)
    lines = [f"{key} is missing: {expected[key].get('name', '')}" for key in sorted(expected.keys() - found.keys())]
    lines += [f"{key} was never live: {found[key].get('name', '')}" for key in sorted(found.keys() - expected.keys())]
    if len(found) != len(ours):
        lines.append(f"{len(ours) - len(found)} {kind} are answered more than once")
    for key in sorted(expected.keys() & found.keys()):
        for field in FIELDS[kind]:
            was, is_now = expected[key].get(field), found[key].get(field)
            if was != is_now:
                lines.append(f"{key} {expected[key].get('name', '')} {field}: live {was!r}, history {is_now!r}")
    return lines


def _by_key(kind: str, rows: Rows) -> dict[str, dict[str, Any]]:
    return {"/".join(str(row.get(part)) for part in KEYS[kind]): row for row in rows}

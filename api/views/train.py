"""``/api/train/v2/runs/v1``: Ray Train's runs, as the dashboard told of them and as the export API recorded them.

The dashboard's answer is whole; a record lacks what the dashboard adds (statistics of worker processes). A run that
either knows is there; one that the dashboard saw running and a record saw end has ended.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error
from collections.abc import Sequence
from typing import Any

from api.index.session_index import SessionIndex
from api.query.query import Row
from api.snapshots import Snapshots, rows

URL = "/api/train/v2/runs/v1"
TERMINAL = frozenset({"FINISHED", "ERRORED", "ABORTED"})
_OF_STATUS = ("status", "status_detail", "end_time_ns")


def train_runs(index: SessionIndex, snapshots: Snapshots, jobs: Sequence[Row]) -> list[dict[str, Any]]:
    """All runs, the latest first. ``jobs`` are the session's, for the details of a run's own."""
    told = {run["id"]: run for run in rows(snapshots.table(URL).get("train_runs")) if isinstance(run.get("id"), str)}
    attempts: dict[str, list[dict[str, Any]]] = {}
    for _, record in index.opaque.of_kind("TRAIN_RUN_ATTEMPT"):
        attempts.setdefault(str(record.get("run_id")), []).append(_attempt(record))
    for key, record in index.opaque.of_kind("TRAIN_RUN"):
        ours = _run(record) | {"attempts": attempts.get(key, [])}
        ours["job_details"] = next((job for job in jobs if job["job_id"] == ours["job_id"]), None)
        told[key] = _ended(told[key], ours) if key in told else ours
    return sorted(told.values(), key=_start, reverse=True)


def _ended(run: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    if run.get("status") in TERMINAL or ours["status"] not in TERMINAL:
        return run
    return run | {name: ours[name] for name in _OF_STATUS}


def _start(run: dict[str, Any]) -> int:
    return _integer(run.get("start_time_ns")) or 0


def _run(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(record.get("id", "")),
        "name": str(record.get("name", "")),
        "job_id": _hex(record.get("job_id")),
        "controller_actor_id": _hex(record.get("controller_actor_id")),
        **_status(record),
        "controller_log_file_path": record.get("controller_log_file_path"),
        "framework_versions": record.get("framework_versions") or {},
        "run_settings": record.get("run_settings") or {},
    }


def _attempt(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": str(record.get("run_id", "")),
        "attempt_id": str(record.get("attempt_id", "")),
        **_status(record),
        "resources": rows(record.get("resources")),
        "workers": [
            worker | {"actor_id": _hex(worker.get("actor_id")), "node_id": _hex(worker.get("node_id"))}
            for worker in rows(record.get("workers"))
        ],
    }


def _status(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": str(record.get("status", "")),
        "status_detail": record.get("status_detail") or None,
        "start_time_ns": _integer(record.get("start_time_ns")) or 0,
        "end_time_ns": _integer(record.get("end_time_ns")) or None,
    }


def _integer(value: Any) -> int | None:
    """A 64-bit figure, which protobuf's JSON writes as a text."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < 1 << 63 else None


def _hex(value: Any) -> str:
    """An id as Ray shows it."""
    try:
        return b64decode(value, validate=True).hex() if isinstance(value, str) else ""
    except (Error, ValueError):
        return ""

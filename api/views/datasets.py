"""``/api/data/datasets/{job_id}``: Ray Data's runs, as the dashboard told of them and as the export API recorded them.

The dashboard's answer has the figures (progress, rows, memory); a record has what a run is and how it ended. A run
that either knows is there; one that the dashboard saw running and a record saw end has ended. What only a record
knows has no figures: they stand at zero, which the pages need.
"""

from __future__ import annotations

from typing import Any

from api.index.session_index import SessionIndex
from api.snapshots import Snapshots, rows

PATH = "/api/data/datasets/"
TERMINAL = frozenset({"FINISHED", "FAILED"})
_STATES = ("UNKNOWN", "RUNNING", "FINISHED", "FAILED", "PENDING")
_MAX = ("ray_data_output_rows", "ray_data_spilled_bytes")
_VALUE_AND_MAX = (
    "ray_data_current_bytes",
    "ray_data_cpu_usage_cores",
    "ray_data_gpu_usage_cores",
    "ray_data_memory_usage_bytes",
)


def datasets(index: SessionIndex, snapshots: Snapshots, job_id: str) -> list[dict[str, Any]]:
    """The runs of one job, the latest first."""
    told = {run["dataset"]: run for run in map(_run, rows(snapshots.table(PATH + job_id).get("datasets"))) if run}
    for key, record in index.opaque.of_kind("DATASET_METADATA"):
        if record.get("job_id") == job_id:
            told[key] = _ended(told[key], record) if key in told else _recorded(key, record)
    return sorted(told.values(), key=lambda run: run["start_time"], reverse=True)


def _run(value: dict[str, Any]) -> dict[str, Any] | None:
    """A run as the dashboard told of it, None where it isn't one."""
    if not isinstance(value.get("dataset"), str) or _number(value.get("start_time")) is None:
        return None
    return value | {"operators": rows(value.get("operators")), "end_time": _number(value.get("end_time"))}


def _ended(run: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    state = record.get("state")
    if run.get("state") in TERMINAL or state not in TERMINAL:
        return run
    return run | {"state": state, "end_time": _number(record.get("execution_end_time"))}


def _recorded(key: str, record: dict[str, Any]) -> dict[str, Any]:
    topology = record.get("topology")
    operators = rows(topology.get("operators") if isinstance(topology, dict) else None)
    return {
        "dataset": key,
        "job_id": record["job_id"],
        **_figures(record.get("state")),
        "total_rows": 0,
        "start_time": _number(record.get("start_time")) or 0.0,
        "end_time": _number(record.get("execution_end_time")),
        "operators": [
            {"operator": str(each.get("name", "")), **_figures(each.get("state")), "queued_blocks": 0}
            for each in operators
        ],
    }


def _figures(state: Any) -> dict[str, Any]:
    return {
        "state": state if state in _STATES else "UNKNOWN",
        "progress": 0,
        "total": 0,
        **{name: {"max": 0} for name in _MAX},
        **{name: {"value": 0, "max": 0} for name in _VALUE_AND_MAX},
    }


def _number(value: Any) -> float | None:
    """A time in seconds; a record's zero is none."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1 << 40
    return float(value) if known else None

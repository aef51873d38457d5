"""What the dashboard itself last said of jobs, beside what the records say.

The dashboard knows some things that no record carries (the agent's address, exact times in the posted dialect,
a runtime environment); the records may know of an end that came after its last answer. So:

- a job that either knows is there;
- the one that has come further says the status, the message, the end and the exit code; of two that have come as
  far, the dashboard, whose words these are;
- everything else is the dashboard's, where it says anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from api.index.jobs import TERMINAL
from api.query.query import Row
from api.snapshots import Snapshots, rows

URL = "/api/jobs/"
MAX_INT = 1 << 53
_KINDS = ("SUBMISSION", "DRIVER")
_STATUSES = ("PENDING", "RUNNING", *sorted(TERMINAL))
_OF_STATUS = ("status", "message", "error_type", "end_time", "driver_exit_code")


def told_jobs(snapshots: Snapshots) -> list[Row]:
    """The rows of the last answer to ``/api/jobs/``, so far as they are what Ray's rows are."""
    return [job for job in map(_job, rows(snapshots.value(URL))) if job is not None]


def with_told(ours: Sequence[Row], told: Iterable[Row]) -> list[Row]:
    """All rows: those that the dashboard told of in its order, then the others in theirs."""
    by_name = {_name(row): row for row in ours}
    merged = [merge(by_name.pop(_name(row), None), row) for row in told]
    return [*merged, *by_name.values()]


def find(told: Iterable[Row], job_or_submission_id: str, ours: Row | None) -> Row | None:
    """The row that was told of the job that ``ours`` is, or that has this id."""
    for row in told:
        if ours is not None and _name(row) == _name(ours):
            return row
        if ours is None and job_or_submission_id in (row["submission_id"], row["job_id"]):
            return row
    return None


def merge(ours: Row | None, told: Row) -> Row:
    """One job as both say."""
    if ours is None:
        return told
    merged = {name: value if told[name] in (None, "") else told[name] for name, value in ours.items()}
    merged["runtime_env"] = told["runtime_env"]  # null and empty differ, and only the dashboard knows which it is
    if _progress(ours) > _progress(told):
        merged |= {name: ours[name] for name in _OF_STATUS}
    return merged


def _name(row: Row) -> tuple[str, str | None]:
    return (row["type"], row["submission_id"] if row["type"] == "SUBMISSION" else row["job_id"])


def _progress(row: Row) -> int:
    return 2 if row["status"] in TERMINAL else _STATUSES.index(row["status"])


def _job(value: Row) -> Row | None:
    """The row with each column of its kind, None where a job must have what this one hasn't."""
    job = {name: value[name] if name in value and fits(value[name]) else None for name, fits in _COLUMNS.items()}
    named = job["submission_id"] if job["type"] == "SUBMISSION" else job["job_id"]
    if job["type"] not in _KINDS or job["status"] not in _STATUSES or not named:
        return None
    job["entrypoint"] = job["entrypoint"] or ""
    return job


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_INT


def _table(value: Any) -> bool:
    return isinstance(value, dict)


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


_COLUMNS: dict[str, Callable[[Any], bool]] = {
    "type": _text,
    "job_id": _text,
    "submission_id": _text,
    "driver_info": _texts,
    "status": _text,
    "entrypoint": _text,
    "message": _text,
    "error_type": _text,
    "start_time": _number,
    "end_time": _number,
    "metadata": _texts,
    "runtime_env": _table,
    "driver_agent_http_address": _text,
    "driver_node_id": _text,
    "driver_exit_code": _number,
}

"""Ray's answer to ``/events``: what its components logged, by job."""

from __future__ import annotations

from typing import Any

from api.index.session_index import SessionIndex
from api.views.google_style import google_style

ALL_FETCHED = "All events fetched."
JOB_FETCHED = "Job events fetched."


def all_events(index: SessionIndex) -> dict[str, Any]:
    """``/events``: those of every job, ``global`` for those of none."""
    return google_style({"events": {job_id: _events(index, job_id) for job_id in index.log_events.jobs()}})


def job_events(index: SessionIndex, job_id: str) -> dict[str, Any]:
    """``/events?job_id=``: those of one job."""
    return google_style({"job_id": job_id, "events": _events(index, job_id)})


def _events(index: SessionIndex, job_id: str) -> list[dict[str, Any]]:
    return [restored(event) for event in index.log_events.of_job(job_id)]


def restored(event: dict[str, Any]) -> dict[str, Any]:
    """Ray writes an event's line breaks as ``\\\\n``, to keep it on one line, and turns them back here."""
    message = event.get("message")
    if isinstance(message, str):
        event["message"] = message.replace("\\n", "\n").replace("\\r", "\n")
    return event

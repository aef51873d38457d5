"""``/api/v0/cluster_events``: Ray's log events as State API rows, oldest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from api.index.session_index import SessionIndex
from api.query.query import ListOptions, Row, list_response
from api.query.schemas import CLUSTER_EVENTS
from api.views.events import restored

_MAX_S = 1 << 33


def list_cluster_events(index: SessionIndex, options: ListOptions, offset: str = "+00:00") -> dict[str, Any]:
    """All events of all jobs. ``offset`` is the cluster's time zone, in which Ray writes their time."""
    zone = _zone(offset)
    rows = [_row(event, zone) for job_id in index.log_events.jobs() for event in index.log_events.of_job(job_id)]
    return list_response(rows, CLUSTER_EVENTS, options, order=_time)


def _row(event: dict[str, Any], zone: timezone) -> Row:
    seconds = _seconds(event.get("timestamp"))
    told = restored(event)
    return {
        **{name: _text(told.get(name)) for name in ("severity", "source_type", "message", "event_id")},
        "time": datetime.fromtimestamp(int(seconds), zone).strftime("%Y-%m-%d %H:%M:%S"),
        "custom_fields": told.get("custom_fields"),
        "timestamp": seconds,
    }


def _time(row: Row) -> float:
    return float(row["timestamp"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return 0.0
    return seconds if 0 <= seconds < _MAX_S else 0.0


def _zone(offset: str) -> timezone:
    """``+05:30`` as a time zone; UTC for anything else."""
    try:
        told = datetime.strptime(offset, "%z").utcoffset()
    except ValueError:
        told = None
    return timezone(told) if told is not None and abs(told) < timedelta(hours=24) else UTC

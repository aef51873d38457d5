"""Lines of ``logs/events/event_*.log``, what ``/events`` shows, into the typed model.

Which field means what follows ``ray/dashboard/modules/event/event_head.py``. A line is kept whole; the
``\\\\n`` that Ray writes for a line break stays as it is, turning it back is the view's business.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.decoding.dialects.wire import unsigned
from pipeline.events import LogEvent, Record

GLOBAL_JOB = "global"

_dict = msgspec.json.Decoder(dict[str, Any])


def decode_line(line: bytes | memoryview, out: list[Record]) -> int:
    """Append the record of one line to ``out``; the event's time in ns. Raises as ``posted.decode_line`` does."""
    data = _dict.decode(line)
    event_id = data.get("event_id")
    if not isinstance(event_id, str) or not event_id:
        raise ValueError("no event_id")
    time_ns = _time_ns(data.get("timestamp"))
    out.append(
        LogEvent(
            event_id=event_id,
            source_type=_text(data, "source_type"),
            severity=_text(data, "severity"),
            label=_text(data, "label"),
            message=_text(data, "message"),
            timestamp_ns=time_ns,
            job_id=_job_id(data.get("custom_fields")),
            data=data,
        )
    )
    return time_ns


def _text(data: dict[str, Any], name: str) -> str:
    value = data.get(name)
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value)


def _job_id(custom: object) -> str:
    job_id = custom.get("job_id") if isinstance(custom, dict) else None
    return job_id if isinstance(job_id, str) and job_id else GLOBAL_JOB


def _time_ns(value: object) -> int:
    """Seconds: C++ writes a number, Python a text."""
    if value is None or value == "":
        return 0
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("timestamp is not a number")
    try:
        seconds: int | float = int(value)
        if isinstance(value, float):
            seconds = value
    except ValueError:
        seconds = float(value)
    return unsigned(int(seconds * 1_000_000_000))

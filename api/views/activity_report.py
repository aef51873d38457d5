"""``/api/component_activities``: whether drivers were at work, as autoscalers and idle checks ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.index.jobs import TERMINAL
from api.query.query import Row


def component_activities(jobs: Sequence[Row], ends_ms: Sequence[int], at_ms: int, over: bool) -> dict[str, Any]:
    """``jobs`` as ``/api/jobs/`` has them; nothing is active in a session that is over.

    ``ends_ms``: when each driver ended, 0 of one that hasn't. A submission ends a little after its driver, which is what
    Ray looks at; where no record tells of drivers, what the jobs say.
    """
    active = 0 if over else sum(job["status"] not in TERMINAL and job["job_id"] is not None for job in jobs)
    last_ms = max(ends_ms or [job["end_time"] or 0 for job in jobs], default=0)
    return {
        "driver": {
            "is_active": "ACTIVE" if active else "INACTIVE",
            "reason": f"Number of active drivers: {active}" if active else None,
            "timestamp": at_ms / 1000,
            "last_activity_at": last_ms / 1000 if last_ms else None,
        }
    }

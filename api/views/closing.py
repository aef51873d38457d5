"""An end for what a session left behind, for pages that count on for ever.

A job, task or actor that was running when its session ended has no end, and never will have one. Ray's API says
so, and so do we. Ray's pages show such a duration up to the browser's clock: hours after a cluster died they
would go on counting. So what a *page* asks for gets the session's last moment as its end, while the state stays
what it was; programs get what Ray's programs got.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from api.query.query import Row

_TERMINAL = frozenset({"FINISHED", "FAILED"})


def close_tasks(rows: Iterable[Row], at_ms: int) -> None:
    """State API rows of tasks in detail."""
    for row in rows:
        if row.get("start_time_ms") and row.get("end_time_ms") is None and row.get("state") not in _TERMINAL:
            row["end_time_ms"] = float(max(at_ms, int(row["start_time_ms"])))


def close_jobs(rows: Iterable[Row], at_ms: int) -> list[Row]:
    """Rows of ``/api/jobs/``."""
    return [
        row | {"end_time": max(at_ms, row["start_time"])} if row["start_time"] and not row["end_time"] else row
        for row in rows
    ]


def close_actors(actors: Iterable[dict[str, Any] | None], at_ms: int) -> None:
    """Actors as the pages know them."""
    for actor in actors:
        if actor and actor.get("startTime") and not actor.get("endTime"):
            actor["endTime"] = max(at_ms, actor["startTime"])


def close_datasets(datasets: Iterable[dict[str, Any]], at_ms: int) -> None:
    """Ray Data's runs, whose times are in seconds."""
    for dataset in datasets:
        if dataset.get("start_time") and dataset.get("end_time") is None:
            dataset["end_time"] = at_ms / 1000

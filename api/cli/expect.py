"""A server's answers over HTTP held against what a recording says they must be.

Placement groups are left out: Ray 2.60 knows events about them, and sends none.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

TIMEOUT = 30


class Said(Struct, frozen=True):
    """One comparison, in words."""

    what: str
    got: object
    wanted: object

    @property
    def right(self) -> bool:
        return self.got == self.wanted

    @property
    def line(self) -> str:
        return f"right  {self.what}: {self.got}" if self.right else f"WRONG  {self.what}: {self.got}, not {self.wanted}"


def compare(base: str, session: str, wanted: dict[str, Any]) -> list[Said]:
    """Ask the server at ``base`` about ``session`` (``namespace/cluster/session``)."""
    return list(_compare(base, f"{base}/sessions/{session}", session, wanted))


def _compare(base: str, at: str, session: str, wanted: dict[str, Any]) -> Iterator[Said]:
    listed = [f"{row['namespace']}/{row['name']}/{row['sessionName']}" for row in _get(f"{base}/clusters")[1]]
    yield Said(f"sessions listed as {session}", listed.count(session), 1)
    tasks = _rows(f"{at}/api/v0/tasks?limit=10000")
    yield Said("tasks", len(tasks), wanted["tasks"])
    yield Said("tasks by state", _by_state(tasks), wanted["tasks_by_state"])
    drivers = [
        row for row in _rows(f"{at}/api/v0/tasks?limit=10000&exclude_driver=false") if row["type"] == "DRIVER_TASK"
    ]
    yield Said("drivers by state", _by_state(drivers), wanted["driver_tasks_by_state"])
    actors = _rows(f"{at}/api/v0/actors?limit=10000")
    yield Said("actors", len(actors), wanted["actors"])
    yield Said("actors by state", _by_state(actors), wanted["actors_by_state"])
    known = _get(f"{at}/completeness")[1]
    yield Said("complete", (known["complete"], known["rejected"]["count"]), (True, 0))
    yield Said("status of a session that isn't there", _get(f"{base}/sessions/none/none/none/api/v0/tasks")[0], 404)


def _rows(url: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _get(url)[1]["data"]["result"]["result"]
    return rows


def _by_state(rows: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(row["state"] for row in rows))


def _get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read()

"""What the dashboard itself last said of placement groups, beside what the records say.

Ray 2.60 writes no record of them, so mostly its dashboard's answer is all there is. Where there are records, the
ones that came after the answer count, and what was removed stays removed.
"""

from __future__ import annotations

from typing import Any

from api.query.query import Row
from api.query.schemas import PLACEMENT_GROUPS
from api.snapshots import Snapshots

URL = "/api/v0/placement_groups?detail=1&limit=10000"
STATES = ("PENDING", "PREPARED", "CREATED", "REMOVED", "RESCHEDULING")
_COLUMNS = PLACEMENT_GROUPS.shown(detail=True)


def told_groups(snapshots: Snapshots) -> tuple[list[Row], int]:
    """The rows of the last answer, so far as they are what Ray's rows are, and when it came (ms)."""
    answer = snapshots.good(URL)
    found = [group for group in map(_group, snapshots.state_rows(URL)) if group is not None]
    return found, answer.time_ms if answer is not None else 0


def _group(value: Row) -> Row | None:
    """The row with Ray's columns, None where its own are missing; the page can't do without a list of bundles."""
    row: dict[str, Any] = {name: value.get(name) for name in _COLUMNS}
    if not _is_id(row["placement_group_id"]) or row["state"] not in STATES:
        return None
    for name in ("name", "creator_job_id"):
        row[name] = row[name] if isinstance(row[name], str) else ""
    bundles = row["bundles"]
    row["bundles"] = [each for each in bundles if isinstance(each, dict)] if isinstance(bundles, list) else []
    return row


def _is_id(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(bytes.fromhex(value))
    except ValueError:
        return False

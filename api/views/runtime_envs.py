"""``/api/v0/runtime_envs``: what the agents of the nodes made, which only the dashboard asked them."""

from __future__ import annotations

import re
from typing import Any

from api.query.query import ListOptions, Row, list_response
from api.query.schemas import RUNTIME_ENVS
from api.snapshots import Snapshots

URL = "/api/v0/runtime_envs?detail=1&limit=10000"
_COLUMNS = RUNTIME_ENVS.shown(detail=True)
_DIGITS = re.compile(r"[0-9]{1,20}")


def list_runtime_envs(snapshots: Snapshots, options: ListOptions) -> dict[str, Any]:
    """Those of the last answer; none where the dashboard never answered."""
    rows = [row for row in map(_row, snapshots.state_rows(URL)) if row is not None]
    return list_response(rows, RUNTIME_ENVS, options, order=_newest_first)


def _row(value: Row) -> Row | None:
    """The row with Ray's columns, None where it isn't one."""
    row = {name: value.get(name) for name in _COLUMNS}
    fits = (
        isinstance(row["runtime_env"], dict | str)
        and isinstance(row["success"], bool)
        and isinstance(row["node_id"], str)
        and (row["creation_time_ms"] is None or _time(row["creation_time_ms"]) is not None)
    )
    return row if fits else None


def _newest_first(row: Row) -> float:
    """Ray puts those first that were never made."""
    time = _time(row["creation_time_ms"])
    return float("-inf") if time is None else -time


def _time(value: Any) -> float | None:
    """Ray writes this number as a text, as protobuf's JSON does with 64 bits."""
    number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
    return float(number) if isinstance(number, int | float) and not isinstance(number, bool) else None

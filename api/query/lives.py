"""When each resource lived, from its row: what ``start_time_ms`` and ``end_time_ms`` of a list are held against.

    nodes             start_time_ms … end_time_ms
    workers           start_time_ms (else worker_launched_time_ms, else worker_launch_time_ms) … end_time_ms
    jobs              start_time … end_time
    actors            first heard of … died
    placement groups  asked for … removed
    cluster events    the moment they tell of

Attempts of tasks have theirs in columns (``views/task_order.py``). Runtime environments and objects carry no time.
Some of these times no column shows: a row carries them beside its columns, as ``BEGIN`` and ``END``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from api.query.refusal import BadQuery
from api.query.schemas import Schema

BEGIN, END = "_begin_ms", "_end_ms"
_UNKNOWN = 1 << 62
"""Times from here on are Ray's word for one that it doesn't know."""

Life = tuple[float | None, float | None]
"""When it began, None where nothing says; when it ended, None where it hasn't."""
LifeOf = Callable[[Mapping[str, Any]], Life]


def life_of(schema: Schema) -> LifeOf:
    """How to read a row's life. Raises ``BadQuery`` where rows have none."""
    if schema.resource not in _LIVES:
        raise BadQuery(f"start_time_ms and end_time_ms: {schema.resource} carry no time")
    return _LIVES[schema.resource]


def _ms(value: Any, unit: float = 1) -> float | None:
    try:
        told = float(value) / unit
    except (TypeError, ValueError, OverflowError):
        return None
    return told if 0 < told < _UNKNOWN else None


def _of(begins: tuple[str, ...], end: str) -> LifeOf:
    def life(row: Mapping[str, Any]) -> Life:
        begin = next((ms for ms in (_ms(row.get(name)) for name in begins) if ms is not None), None)
        ended = _ms(row.get(end))
        return (ended if begin is None else begin), ended

    return life


def _event(row: Mapping[str, Any]) -> Life:
    at_ms = _ms(row.get("timestamp"), 1 / 1000)
    return at_ms, at_ms


def _group(row: Mapping[str, Any]) -> Life:
    stats = row.get("stats")
    asked = _ms(stats.get("creation_request_received_ns"), 1e6) if isinstance(stats, dict) else None
    ended = _ms(row.get(END))
    return (ended if asked is None else asked), ended


_LIVES: dict[str, LifeOf] = {
    "nodes": _of(("start_time_ms",), "end_time_ms"),
    "workers": _of(("start_time_ms", "worker_launched_time_ms", "worker_launch_time_ms"), "end_time_ms"),
    "jobs": _of(("start_time",), "end_time"),
    "actors": _of((BEGIN,), END),
    "placement_groups": _group,
    "cluster_events": _event,
}

"""Ray's answer about placement groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.index.order import time_of
from api.index.placement_groups import PlacementGroup
from api.index.session_index import SessionIndex
from api.query.lives import END
from api.query.query import ListOptions, Row, list_response
from api.query.schemas import PLACEMENT_GROUPS
from pipeline.events import Bundle

_SCHEDULING = {"SCHEDULING_REMOVED": "REMOVED"}


def list_placement_groups(
    index: SessionIndex, options: ListOptions, told: tuple[Sequence[Row], int] = ((), 0)
) -> dict[str, Any]:
    """``/api/v0/placement_groups``; ``told`` is what the dashboard told of them, and when (``told_groups.py``)."""
    rows, time_ms = told
    by_id = {row["placement_group_id"]: row for row in rows}
    for group in index.placement_groups.values():
        name = group.placement_group_id.hex()
        by_id[name] = _newer(group, by_id.get(name), time_ms)
    return list_response(list(by_id.values()), PLACEMENT_GROUPS, options)


def _newer(group: PlacementGroup, told: Row | None, time_ms: int) -> Row:
    """What the records say, unless the dashboard said something later; what was removed stays so."""
    later = group.state == "REMOVED" or time_of(group.latest) // 1_000_000 >= time_ms
    if told is None or (later and group.definition is not None):
        return _row(group)
    return told | {"state": group.state} if later else told


def _row(group: PlacementGroup) -> Row:
    what = group.definition
    return {
        "placement_group_id": group.placement_group_id.hex(),
        "name": what.name if what is not None else "",
        "creator_job_id": group.creator_job_id.hex(),
        "state": group.state,
        "bundles": [_bundle(group, bundle) for bundle in what.bundles] if what is not None else [],
        "is_detached": what.is_detached if what is not None else False,
        "stats": _stats(group),
        "topology_strategy": {},
        "topology_assignments": {},
        END: time_of(group.latest) // 1_000_000 if group.state == "REMOVED" else None,
    }


def _bundle(group: PlacementGroup, bundle: Bundle) -> dict[str, Any]:
    return {
        "bundle_id": {
            "placement_group_id": group.placement_group_id.hex(),
            "bundle_index": bundle.bundle_index,
        },
        "unit_resources": bundle.unit_resources,
        "node_id": group.placements.get(bundle.bundle_index, b"").hex(),
        "label_selector": bundle.label_selector,
    }


def _stats(group: PlacementGroup) -> dict[str, Any]:
    """Ray's PlacementGroupStats; its 64-bit figures are texts."""
    last = group.transition
    asked = group.definition.creation_request_received_ns if group.definition is not None else 0
    created, began = group.created_ns, group.scheduling_ns
    return {
        "creation_request_received_ns": str(asked),
        "scheduling_started_time_ns": str(began),
        "scheduling_latency_us": str((created - began) // 1000 if began and created > began else 0),
        "end_to_end_creation_latency_us": str((created - asked) // 1000 if asked and created > asked else 0),
        "scheduling_attempt": last.scheduling_attempt if last is not None else 0,
        "scheduling_state": _SCHEDULING.get(last.scheduling_state, last.scheduling_state) if last else "QUEUED",
        "highest_retry_delay_ms": last.highest_retry_delay_ms if last is not None else 0.0,
    }

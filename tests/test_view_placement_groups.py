"""A placement group is listed as Ray lists its table row, through all of its life."""

from __future__ import annotations

from typing import Any

import pytest
from support.indexes import DETAIL, index_of, sent

from api.views import placement_groups
from pipeline.events import (
    Bundle,
    PlacementGroupDefinition,
    PlacementGroupTransition,
    PlacementGroupUpdate,
    Record,
)

JOB, NODE = b"\2\0\0\0", b"\7" * 28
GROUP = b"\5" * 14 + JOB
ASKED, BEGAN, CREATED = 1_000_000_000, 1_000_500_000, 1_003_600_000
DEFINED = PlacementGroupDefinition(
    GROUP, "kept", JOB, is_detached=True, bundles=[Bundle(0, {"CPU": 0.2}), Bundle(1, {"GPU": 1.0}, {"a": "b"})],
    creation_request_received_ns=ASKED,
)  # fmt: skip
LIFE: list[Record] = [
    DEFINED,
    PlacementGroupUpdate(GROUP, [PlacementGroupTransition("PENDING", ASKED, "QUEUED")]),
    PlacementGroupUpdate(GROUP, [PlacementGroupTransition("PENDING", BEGAN, "SCHEDULING_STARTED", 1)]),
    PlacementGroupUpdate(GROUP, [PlacementGroupTransition("CREATED", CREATED, "FINISHED", 1, 0.5, {0: NODE, 1: NODE})]),
]
REMOVED = PlacementGroupUpdate(GROUP, [PlacementGroupTransition("REMOVED", 2 * CREATED, "SCHEDULING_REMOVED", 1)])


def row(records: list[Record]) -> dict[str, Any]:
    [only] = sent(placement_groups.list_placement_groups(index_of(records), DETAIL))["result"]
    found: dict[str, Any] = only
    return found


def test_a_created_group_is_shown_as_ray_shows_its_table_row() -> None:
    common = pytest.importorskip("ray.util.state.common")
    gcs_pb2 = pytest.importorskip("ray.core.generated.gcs_pb2")
    table = gcs_pb2.PlacementGroupTableData(
        placement_group_id=GROUP, name="kept", creator_job_id=JOB, is_detached=True,
        state=gcs_pb2.PlacementGroupTableData.CREATED,
        bundles=[
            {"bundle_id": {"placement_group_id": GROUP, "bundle_index": 0}, "unit_resources": {"CPU": 0.2}, "node_id": NODE},
            {"bundle_id": {"placement_group_id": GROUP, "bundle_index": 1}, "unit_resources": {"GPU": 1.0}, "node_id": NODE,
             "label_selector": {"a": "b"}},
        ],
        stats={
            "creation_request_received_ns": ASKED, "scheduling_started_time_ns": BEGAN, "scheduling_latency_us": 3_100,
            "end_to_end_creation_latency_us": 3_600, "scheduling_attempt": 1, "highest_retry_delay_ms": 0.5,
            "scheduling_state": gcs_pb2.PlacementGroupStats.FINISHED,
        },
    )  # fmt: skip
    theirs = common.protobuf_message_to_dict(table, ["placement_group_id", "creator_job_id", "node_id"])
    assert row(LIFE) == common.filter_fields(theirs, common.PlacementGroupState, detail=True)


def test_a_pending_group_has_its_bundles_on_no_node() -> None:
    pending = row(LIFE[:2])
    assert pending["state"] == "PENDING"
    assert [bundle["node_id"] for bundle in pending["bundles"]] == ["", ""]
    assert pending["stats"]["scheduling_latency_us"] == "0"


def test_a_removed_group_stays_removed_and_is_spelled_as_ray_spells_it() -> None:
    late = PlacementGroupUpdate(GROUP, [PlacementGroupTransition("CREATED", 9 * CREATED, "FINISHED")])
    removed = row([*LIFE, REMOVED, late])
    assert (removed["state"], removed["stats"]["scheduling_state"]) == ("REMOVED", "REMOVED")
    assert [bundle["node_id"] for bundle in row([*LIFE, REMOVED])["bundles"]] == [NODE.hex(), NODE.hex()]


def test_a_group_known_only_by_an_update_has_every_column_that_ray_requires() -> None:
    bare = row([REMOVED])
    assert (bare["name"], bare["creator_job_id"], bare["state"], bare["bundles"]) == ("", JOB.hex(), "REMOVED", [])

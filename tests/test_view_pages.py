"""The dashboard's pages find what they can't do without, and unknown ids get what keeps a page from going blank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.indexes import index_of, index_of_capture, recorded, sent

from api.index.session_index import SessionIndex
from api.views import actors, cluster, events, nodes
from pipeline.events import (
    ActorDefinition,
    ActorUpdate,
    LogEvent,
    NodeDefinition,
    NodeTransition,
    NodeUpdate,
)

JOB, NODE = b"\1\0\0\0", b"\7" * 28
ACTOR = b"\3" * 12 + JOB


def every_node_page(index: SessionIndex) -> list[dict[str, Any]]:
    pages = [nodes.node_detail(index, node.node_id.hex()) for node in index.nodes.values()]
    return [sent(page)["detail"] for page in pages if page is not None]


@pytest.mark.parametrize("capture", recorded(), ids=lambda path: path.name)
def test_a_node_page_has_what_it_would_be_blank_without_dead_or_alive(capture: Path) -> None:
    index = index_of_capture(capture)
    pages = every_node_page(index)
    assert len(pages) == len(index.nodes) > 0
    for page in pages:
        assert page["raylet"]["nodeId"]
        assert page["raylet"]["state"] in ("ALIVE", "DEAD")
        assert page["loadAvg"] == [[0, 0, 0], [0, 0, 0]]
        for name in ("workers", "networkSpeed", "cmdline"):
            assert isinstance(page[name], list)
        assert isinstance(page["bootTime"], float)
        assert all(isinstance(actor["address"], dict) for actor in page["actors"].values())


@pytest.mark.parametrize("capture", recorded(), ids=lambda path: path.name)
def test_the_node_list_has_what_every_page_asks_it_for(capture: Path) -> None:
    for node in sent(nodes.nodes_summary(index_of_capture(capture)))["summary"]:
        assert {"nodeId", "state", "objectStoreUsedMemory", "objectStoreAvailableMemory"} <= set(node["raylet"])
        assert isinstance(node["networkSpeed"], list)
        assert node["ip"]


def test_an_actor_that_never_started_has_an_address_all_the_same() -> None:
    index = index_of([ActorDefinition(ACTOR, JOB, "C")])
    detail = actors.logical_actor_detail(index, ACTOR.hex())["detail"]
    assert detail["address"] == {"nodeId": "ff" * 28, "ipAddress": "", "port": 0, "workerId": "ff" * 28}
    assert (detail["state"], detail["exitDetail"]) == ("DEPENDENCIES_UNREADY", "-")


@pytest.mark.parametrize("unknown", ["00" * 16, "", "zz", "../../etc", "é"])
def test_unknown_ids_are_none(unknown: str) -> None:
    index = index_of([ActorDefinition(ACTOR, JOB, "C"), NodeDefinition(NODE, "192.0.2.2")])
    assert actors.logical_actor_detail(index, unknown) == {"detail": None}
    assert actors.logical_actors(index, [unknown, ACTOR.hex()])["actors"][unknown] is None
    assert nodes.node_detail(index, unknown) is None


def test_a_host_name_that_a_definition_lacks_is_taken_from_rays_own_events() -> None:
    lost = LogEvent(
        "e", "RAYLET", "ERROR", "", "lost", 0, JOB.hex(), {"host_name": "h2", "custom_fields": {"node_id": NODE.hex()}}
    )
    head = LogEvent("f", "GCS", "INFO", "", "up", 0, "global", {"host_name": "h1"})
    told = [NodeDefinition(NODE, "192.0.2.2"), NodeDefinition(b"\x09" * 28, "192.0.2.3", is_head_node=True), lost, head]
    index = index_of(told)
    assert nodes.nodes_host_names(index) == {"hostNameList": ["h1", "h2"]}
    named = index_of([*told, NodeDefinition(NODE, "192.0.2.2", hostname="h3")])
    assert nodes.nodes_host_names(named) == {"hostNameList": ["h1", "h3"]}


def test_host_names_are_those_of_living_nodes() -> None:
    node = NodeDefinition(NODE, "", hostname="h")
    assert nodes.nodes_host_names(index_of([node])) == {"hostNameList": ["h"]}
    assert nodes.nodes_host_names(index_of([node, NodeUpdate(NODE, [NodeTransition("DEAD", 5)])])) == {
        "hostNameList": []
    }


def test_an_actor_without_state_changes_or_definition_is_shown() -> None:
    index = index_of([ActorUpdate(ACTOR, [])])
    assert actors.logical_actors(index)["actors"][ACTOR.hex()]["jobId"] == JOB.hex()


def test_one_jobs_events_are_told_apart_from_the_others() -> None:
    told = [
        LogEvent("a", "RAYLET", "ERROR", "", "m", 1, JOB.hex(), {"event_id": "a", "message": "m"}),
        LogEvent("b", "GCS", "INFO", "", "n", 2, "global", {"event_id": "b", "message": "n"}),
    ]
    index = index_of(told)
    assert events.job_events(index, JOB.hex()) == {"jobId": JOB.hex(), "events": [{"eventId": "a", "message": "m"}]}
    assert events.job_events(index, "unknown")["events"] == []


def test_rays_clients_accept_the_version_whether_or_not_it_is_known() -> None:
    assert cluster.version("s", "2.55.1")["ray_version"] == "2.55.1"
    assert cluster.version("s")["ray_version"] == cluster.SPOKEN_RAY_VERSION
    assert cluster.cluster_metadata("s") == {"rayVersion": None, "pythonVersion": None, "sessionId": "s"}

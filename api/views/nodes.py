"""Ray's answers about nodes: the State API's list and the dashboard's ``/nodes``.

The dashboard's answers are half the node's table (``raylet``) and half what its agent measured. Of the
latter events carry nothing; what the pages can't do without stands there empty. Where a live dashboard
forgets all but the id of a node that died, this one goes on telling what the node was.

A node's state is what a dashboard could last see: the last head is ALIVE, since its death ended the dashboard too
(``NodeTable.standing``). How the session ended is told by its own pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.index.actors import Actor
from api.index.nodes import Node
from api.index.session_index import SessionIndex
from api.query.query import ListOptions, Row
from api.query.schemas import NODES
from api.views.actors import logical_actor
from api.views.google_style import google_style
from api.views.listing import list_entities
from api.views.measured import NOTHING, Measured
from api.views.node_workers import node_workers
from pipeline.events import NodeDefinition

SUMMARY_FETCHED = "Node summary fetched."
HOST_NAMES_FETCHED = "Node hostname list fetched."
DETAILS_FETCHED = "Node details fetched."
UNKNOWN_VIEW = "Unknown view {view}"

_UNDEFINED = NodeDefinition(b"", "")
_REGISTERED = {"state": "ACTIVE", "idleDurationMs": "0", "nodeActivity": []}
"""What Ray notes of a node when it joins, and never again."""
NO_TEXTS: Mapping[str, str] = {}
_NO_FOLDERS = {"tempDir": "", "sessionDir": ""}
_REASONS = {
    "EXPECTED_TERMINATION": "Expected termination",
    "UNEXPECTED_TERMINATION": "Unexpected termination",
    "AUTOSCALER_DRAIN_PREEMPTED": "Terminated due to preemption",
    "AUTOSCALER_DRAIN_IDLE": "Terminated due to idle (no Ray activity)",
}


def list_nodes(index: SessionIndex, options: ListOptions) -> dict[str, Any]:
    """``/api/v0/nodes``."""
    stands = index.nodes.standing()
    nodes = index.nodes.values()
    return list_entities(nodes, lambda node: node.node_id, lambda node: _row(node, stands(node)), NODES, options)


def _row(node: Node, stands: bool) -> Row:
    what = node.definition or _UNDEFINED
    return {
        "node_id": node.node_id.hex(),
        "node_ip": what.node_ip_address,
        "is_head_node": node.is_head,
        "state": "ALIVE" if stands else "DEAD",
        "state_message": None if stands else state_message(node),
        "node_name": what.node_name,
        "resources_total": node.resources,
        "labels": what.labels,
        "start_time_ms": what.start_time_ms,
        "end_time_ms": 0 if stands else node.end_ms,
    }


def state_message(node: Node) -> str | None:
    """Why a node died, in Ray's words; None where there is nothing to say."""
    transition = node.transition
    if node.is_alive or transition is None:
        return None
    parts = (_REASONS.get(transition.death_reason or "", ""), transition.death_reason_message or "")
    return ": ".join(part for part in parts if part) or None


def nodes_summary(
    index: SessionIndex, figures: Measured = NOTHING, in_use: Mapping[str, str] = NO_TEXTS
) -> dict[str, Any]:
    """``/nodes?view=summary``, in the order they joined; ``figures`` and what is ``in_use`` as ``measured.py`` has them."""
    nodes = sorted(index.nodes.values(), key=lambda node: (node.start_ms, node.node_id))
    stands = index.nodes.standing()
    summary = [_with(_summary(index, node, stands(node)), figures) for node in nodes]
    joined = {each["raylet"]["nodeId"] for each in summary}
    resources = {node_id: text for node_id, text in in_use.items() if node_id in joined}
    return google_style({"summary": summary, "nodeLogicalResources": resources})


def nodes_host_names(index: SessionIndex, figures: Measured = NOTHING) -> dict[str, Any]:
    """``/nodes?view=hostNameList``: those of living nodes, each once."""
    stands = index.nodes.standing()
    names = {
        _hostname(index, node) or str(figures.get(node.node_id.hex(), {}).get("hostname", ""))
        for node in index.nodes.values()
        if stands(node)
    }
    return {"hostNameList": sorted(names)}


def _with(summary: dict[str, Any], figures: Measured) -> dict[str, Any]:
    told = figures.get(summary["raylet"]["nodeId"])
    return summary if told is None else {**summary, **told, "raylet": summary["raylet"] | told["raylet"]}


def node_detail(index: SessionIndex, node_id: str, figures: Measured = NOTHING) -> dict[str, Any] | None:
    """``/nodes/{node_id}``; None for an unknown node, whose page would be blank."""
    try:
        node = index.nodes.get(bytes.fromhex(node_id))
    except ValueError:
        return None
    if node is None:
        return None
    actors = {
        actor.actor_id.hex(): logical_actor(index, actor, figures)
        for actor in index.actors.values()
        if _lived_on(index, actor, node)
    }
    stands = index.nodes.standing()(node)
    workers = node_workers(index, node) if stands else []
    summary = _with(_summary(index, node, stands), figures)
    return google_style({"detail": {**summary, "actors": actors, "workers": workers}})


def _lived_on(index: SessionIndex, actor: Actor, node: Node) -> bool:
    """A dashboard keeps an actor on the page of a node that it has left."""
    if actor.place is None:
        begun = index.process(actor.pid)
        return begun is not None and begun[1] == node.node_id
    return actor.lived_on(node.node_id) and actor.has_address


def _summary(index: SessionIndex, node: Node, stands: bool) -> dict[str, Any]:
    what = node.definition or _UNDEFINED
    return {
        "hostname": _hostname(index, node),
        "ip": what.node_ip_address,
        "raylet": _raylet(index, node, stands),
        "bootTime": node.start_ms / 1000,  # the machine's own isn't known, and none shows as "Invalid Date"
        "cpu": 0,
        "loadAvg": [[0, 0, 0], [0, 0, 0]],
        "networkSpeed": [0, 0],
        "cmdline": [],
        "gpus": [],
        "tpus": [],
    }


def _raylet(index: SessionIndex, node: Node, stands: bool) -> dict[str, Any]:
    """Ray's GcsNodeInfo, its unset fields as Ray shows them, and the two figures that the pages add up."""
    what = node.definition or _UNDEFINED
    return {
        "objectStoreUsedMemory": 0,
        "objectStoreAvailableMemory": int(node.resources.get("object_store_memory", 0)),
        "nodeId": node.node_id.hex(),
        "nodeManagerAddress": what.node_ip_address,
        "rayletSocketName": "",
        "objectStoreSocketName": "",
        "nodeManagerPort": 0,
        "objectManagerPort": 0,
        "nodeManagerHostname": _hostname(index, node),
        "metricsExportPort": 0,
        "runtimeEnvAgentPort": 0,
        "metricsAgentPort": 0,
        "dashboardAgentListenPort": 0,
        "resourcesTotal": node.resources,
        "nodeName": what.node_name,
        "startTimeMs": str(what.start_time_ms),
        "isHeadNode": node.is_head,
        "labels": what.labels,
        **(_folders(index) if stands else _NO_FOLDERS),
        "state": "ALIVE" if stands else "DEAD",
        "instanceId": what.instance_id,
        "nodeTypeName": "",
        "instanceTypeName": what.instance_type_name,
        "endTimeMs": "0" if stands else str(node.end_ms),
        **({"stateSnapshot": _REGISTERED} if stands else _death_info(node)),
        "stateMessage": None if stands else state_message(node),
    }


def _folders(index: SessionIndex) -> dict[str, str]:
    """Where Ray kept the session on its nodes, as far as a task's log tells."""
    folder = index.session_folder()
    return {"tempDir": folder.rpartition("/")[0], "sessionDir": folder} if folder else _NO_FOLDERS


def _death_info(node: Node) -> dict[str, Any]:
    transition = node.transition
    if node.is_alive or transition is None or transition.death_reason is None:
        return {}
    told = {"reason": transition.death_reason, "reasonMessage": transition.death_reason_message or ""}
    return {"deathInfo": told}


def _hostname(index: SessionIndex, node: Node) -> str:
    """As its definition says; the export dialect doesn't, there Ray's log events may have let it slip."""
    named = node.definition.hostname if node.definition is not None else ""
    overheard = index.log_events.hostname(node.node_id.hex())
    return named or overheard or (index.log_events.hostname("head") if node.is_head else "")

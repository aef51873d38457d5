"""Ray's answers about actors: the State API's list and summary, and the dashboard's ``/logical/actors``."""

from __future__ import annotations

import heapq
import re
from typing import Any

from api.index.actors import Actor
from api.index.session_index import SessionIndex
from api.query.lives import BEGIN, END
from api.query.query import ListOptions, Row, SummaryOptions, envelope
from api.query.schemas import ACTORS
from api.views.google_style import google_style
from api.views.listing import list_entities
from api.views.measured import NOTHING, Measured, memory
from pipeline.events import ActorDefinition
from pipeline.redact import show_masked

ALL_FETCHED = "All actors fetched."
ONE_FETCHED = "Actor details fetched."
MAX_SUMMARIZED = 10_000
MAX_DEAD = 100_000
"""Dead actors that the dashboard keeps: Ray's ``maximum_gcs_destroyed_actor_cached_count``."""

NIL_NODE = "ff" * 28
NIL_WORKER = "ff" * 28
_MS = 1_000_000
_UNDEFINED = ActorDefinition(b"", b"", "")
_BUNDLED = re.compile(r"(.+)_group_(\d+)_([0-9a-zA-Z]+)")
_GROUPED = re.compile(r"(.+)_group_([0-9a-zA-Z]+)")
_EXPLANATIONS = (
    ("actor_died_error_context", "error_message"),
    ("runtime_env_failed_context", "error_message"),
    ("actor_unschedulable_context", "error_message"),
    ("creation_task_failure_context", "formatted_exception_string"),
)


def list_actors(index: SessionIndex, options: ListOptions) -> dict[str, Any]:
    """``/api/v0/actors``."""
    row = _row if options.beyond is None else _whole_row
    answer = list_entities(index.actors.values(), _id, row, ACTORS, options)
    if options.detail and options.beyond is None:
        for row in answer["result"]:
            actor = index.actors.get(bytes.fromhex(row["actor_id"]))
            if actor is not None:
                row.update(_detail(actor))
    return answer


def _id(actor: Actor) -> bytes:
    return actor.actor_id


def _row(actor: Actor) -> Row:
    """The columns that can be filtered on, which are looked at in every actor."""
    what = actor.definition or _UNDEFINED
    place = actor.place
    return {
        "actor_id": actor.actor_id.hex(),
        "class_name": what.class_name,
        "state": actor.state,
        "job_id": actor.job_id.hex(),
        "name": what.name,
        "node_id": place.node_id.hex() if place is not None else None,
        "pid": actor.pid,
        "ray_namespace": what.ray_namespace,
        "placement_group_id": what.placement_group_id.hex() or None,
        "repr_name": place.repr_name if place is not None else "",
    }


def _detail(actor: Actor) -> Row:
    """The other columns, of the rows that are shown."""
    what = actor.definition or _UNDEFINED
    return {
        "serialized_runtime_env": show_masked(what.serialized_runtime_env),
        "required_resources": what.required_resources,
        "death_cause": actor.death_cause,
        "is_detached": what.is_detached,
        "num_restarts": str(actor.num_restarts()),
        "num_restarts_due_to_lineage_reconstruction": str(actor.num_restarts("LINEAGE_RECONSTRUCTION")),
        "num_restarts_due_to_node_preemption": str(actor.num_restarts("NODE_PREEMPTION")),
        "call_site": what.call_site or None,
        "label_selector": what.label_selector,
        "fallback_strategy": None,
    }


def _whole_row(actor: Actor) -> Row:
    """Every column, and when the actor lived."""
    life = {BEGIN: actor.created_ns // _MS, END: actor.end_ns // _MS if actor.state == "DEAD" else None}
    return _row(actor) | _detail(actor) | life


def summarize_actors(index: SessionIndex, options: SummaryOptions) -> dict[str, Any]:
    """``/api/v0/actors/summarize``: state counts by class, over the first 10,000 actors as in Ray."""
    asked = ListOptions(limit=MAX_SUMMARIZED, filters=options.filters)
    listed = list_entities(index.actors.values(), _id, _row, ACTORS, asked)
    classes: dict[str, dict[str, Any]] = {}
    for row in listed["result"]:
        name, state = row["class_name"], row["state"]
        counts = classes.setdefault(name, {"class_name": name, "state_counts": {}})["state_counts"]
        counts[state] = counts.get(state, 0) + 1
    summary = {"summary": classes, "total_actors": len(listed["result"]), "summary_by": "class"}
    result = {"node_id_to_summary": {"cluster": summary}}
    return envelope(listed["total"], listed["num_after_truncation"], listed["num_filtered"], result)


def logical_actors(
    index: SessionIndex, actor_ids: list[str] | None = None, figures: Measured = NOTHING
) -> dict[str, Any]:
    """``/logical/actors``, of ``actor_ids`` only where given; an unknown one is None."""
    if actor_ids is not None:
        return {"actors": {actor_id: _logical_or_none(index, actor_id, figures) for actor_id in actor_ids}}
    return {"actors": {actor.actor_id.hex(): logical_actor(index, actor, figures) for actor in _shown(index)}}


def logical_actor_detail(index: SessionIndex, actor_id: str, figures: Measured = NOTHING) -> dict[str, Any]:
    """``/logical/actors/{actor_id}``; the detail of an unknown one is None."""
    return google_style({"detail": _logical_or_none(index, actor_id, figures)})


def _logical_or_none(index: SessionIndex, actor_id: str, figures: Measured) -> dict[str, Any] | None:
    try:
        actor = index.actors.get(bytes.fromhex(actor_id))
    except ValueError:
        return None
    return None if actor is None else logical_actor(index, actor, figures)


def _shown(index: SessionIndex) -> list[Actor]:
    actors = list(index.actors.values())
    if len(actors) <= MAX_DEAD:
        return actors
    living = [actor for actor in actors if actor.state != "DEAD"]
    dead = (actor for actor in actors if actor.state == "DEAD")
    return living + heapq.nlargest(MAX_DEAD, dead, key=lambda actor: (actor.died, actor.actor_id))


def logical_actor(index: SessionIndex, actor: Actor, figures: Measured = NOTHING) -> dict[str, Any]:
    """One actor as the dashboard's pages know it."""
    what = actor.definition or _UNDEFINED
    place, address = actor.place, _address(index, actor)
    told = {
        "placementGroupId": what.placement_group_id.hex(),
        "callSite": what.call_site,
    }
    return {
        "actorId": actor.actor_id.hex(),
        "jobId": actor.job_id.hex(),
        "address": address,
        "name": what.name,
        "className": what.class_name,
        "labelSelector": what.label_selector,
        "state": actor.state,
        "numRestarts": str(actor.num_restarts()),
        "timestamp": float(actor.timestamp_ns // _MS),
        "pid": actor.pid,
        "startTime": actor.start_ns // _MS,
        "endTime": actor.end_ns // _MS,
        "reprName": place.repr_name if place is not None else "",
        **{name: value for name, value in told.items() if value},
        "actorClass": what.class_name,
        "exitDetail": _exit_detail(actor.death_cause),
        "requiredResources": original_resources(what.required_resources),
        "gpus": [],
        "processStats": None,
        "mem": memory(figures, address["nodeId"]),
        "tpus": [],
    }


def _address(index: SessionIndex, actor: Actor) -> dict[str, Any]:
    place = actor.place
    if place is None:
        begun = index.process(actor.pid)
        if begun is None:
            return {"nodeId": NIL_NODE, "ipAddress": "", "port": 0, "workerId": NIL_WORKER}
        worker_id, node_id = begun
        ip = index.nodes.ip(node_id)
        return {"nodeId": node_id.hex(), "ipAddress": ip, "port": 0, "workerId": worker_id.hex()}
    if not actor.has_address:
        return {"nodeId": "", "ipAddress": "", "port": 0, "workerId": ""}
    return {
        "nodeId": place.node_id.hex(),
        "ipAddress": index.nodes.ip(place.node_id),
        "port": place.port,
        "workerId": (place.worker_id or index.worker_at(place.node_id, place.pid)).hex(),
    }


def _exit_detail(cause: dict[str, Any] | None) -> str:
    for context, field in _EXPLANATIONS:
        told = (cause or {}).get(context)
        if isinstance(told, dict):
            return str(told.get(field, ""))
    return "-"


def original_resources(resources: dict[str, float]) -> dict[str, float]:
    """Resources as the user asked for them: inside a placement group Ray renames ``CPU`` to ``CPU_group_0_<id>``."""
    if not any("_group_" in name for name in resources):
        return resources
    original: dict[str, float] = {}
    for name, amount in resources.items():
        found = _BUNDLED.match(name) or _GROUPED.match(name)
        if found is None:
            original[name] = amount
        elif found[1] != "bundle":
            original[found[1]] = amount
    return original

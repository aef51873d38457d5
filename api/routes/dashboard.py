"""What the dashboard's pages and Ray's Job client ask for beside the State API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import Route

from api.answers import TextAnswer, enveloped
from api.index.session_index import SessionIndex
from api.routes.session import Asked, answering
from api.views import actors, events, jobs, nodes
from api.views.closing import close_actors, close_jobs
from api.views.measured import logical_resources, measured
from api.views.redaction import redacted_rows


def _nodes(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    view = asked.first("view")
    if view == "summary":
        told = measured(asked.snapshots), logical_resources(asked.snapshots)
        return enveloped(nodes.nodes_summary(index, *told), nodes.SUMMARY_FETCHED)
    if view is not None and view.lower() == "hostnamelist":
        return enveloped(nodes.nodes_host_names(index, measured(asked.snapshots)), nodes.HOST_NAMES_FETCHED)
    raise HTTPException(500, nodes.UNKNOWN_VIEW.format(view=view))  # Ray's own status


def _node(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    """Ray answers an unknown node with one that has no fields, which leaves its page blank: 404 does better."""
    detail = nodes.node_detail(index, asked.path["node_id"], measured(asked.snapshots))
    if detail is None:
        raise HTTPException(404, f"no node {asked.path['node_id'][:80]} in this session")
    _actors_for_asker(detail["detail"]["actors"].values(), asked)
    return enveloped(detail, nodes.DETAILS_FETCHED)


def _actors(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    ids = asked.first("ids")
    found = actors.logical_actors(index, None if ids is None else ids.split(","), measured(asked.snapshots))
    _actors_for_asker(found["actors"].values(), asked)
    return enveloped(found, actors.ALL_FETCHED)


def _actor(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    found = actors.logical_actor_detail(index, asked.path["actor_id"], measured(asked.snapshots))
    _actors_for_asker([found["detail"]], asked)
    return enveloped(found, actors.ONE_FETCHED)


def _actors_for_asker(rows: Iterable[dict[str, Any] | None], asked: Asked) -> None:
    """A browser's pages show ``NaN%`` for a machine's memory beside a process of which nothing was measured."""
    for row in rows:
        if row is not None and asked.browser and row["processStats"] is None:
            row["mem"] = None
    if asked.close_ms:
        close_actors(rows, asked.close_ms)


def _events(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    job_id = asked.first("job_id")
    if job_id is None:
        return enveloped(events.all_events(index), events.ALL_FETCHED)
    return enveloped(events.job_events(index, job_id), events.JOB_FETCHED)


def _jobs(index: SessionIndex, asked: Asked) -> list[dict[str, Any]]:
    return _for_asker(jobs.jobs_rest(index), asked)


def _job(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    job_id = asked.path["job_id"]
    row = jobs.job_rest(index, job_id)
    if row is None:
        raise TextAnswer(404, jobs.does_not_exist(job_id))
    return _for_asker([row], asked)[0]


def _for_asker(rows: list[dict[str, Any]], asked: Asked) -> list[dict[str, Any]]:
    """What a browser isn't shown, and what its pages need."""
    if asked.close_ms:
        rows = close_jobs(rows, asked.close_ms)
    return redacted_rows(rows) if asked.browser else rows


ROUTES = [
    Route("/nodes", answering(_nodes)),
    Route("/nodes/{node_id}", answering(_node)),
    Route("/logical/actors", answering(_actors)),
    Route("/logical/actors/{actor_id}", answering(_actor)),
    Route("/events", answering(_events)),
    Route("/api/jobs", answering(_jobs)),
    Route("/api/jobs/", answering(_jobs)),
    Route("/api/jobs/{job_id}", answering(_job)),
]

"""Ray's State API, ``/api/v0/…``: what ``ray list``, ``ray get`` and ``ray summary`` ask for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answers import enveloped
from api.index.session_index import SessionIndex
from api.query.query import ListOptions, SummaryOptions, parse_summary_options
from api.query.schemas import (
    ACTORS,
    CLUSTER_EVENTS,
    JOBS,
    NODES,
    OBJECTS,
    PLACEMENT_GROUPS,
    RUNTIME_ENVS,
    TASKS,
    WORKERS,
)
from api.routes.lists import View, listing
from api.routes.session import Asked, Question, answering, put_question
from api.views.actors import list_actors, summarize_actors
from api.views.closing import close_tasks
from api.views.cluster import cluster_metadata, timezone
from api.views.cluster_events import list_cluster_events
from api.views.jobs import list_jobs
from api.views.nodes import list_nodes
from api.views.objects import list_objects, summarize_objects
from api.views.placement_groups import list_placement_groups
from api.views.runtime_envs import list_runtime_envs
from api.views.summaries import summarize_tasks
from api.views.tasks import list_tasks
from api.views.timeline import timeline
from api.views.told_groups import told_groups
from api.views.workers import list_workers

ListView = Callable[[SessionIndex, ListOptions], dict[str, Any]]
SummaryView = Callable[[SessionIndex, SummaryOptions], dict[str, Any]]


def _of(view: ListView) -> View:
    """A view that the index is enough for."""
    return lambda index, options, asked: view(index, options)


def _summary(view: SummaryView) -> Question:
    def question(index: SessionIndex, asked: Asked) -> dict[str, Any]:
        return _warned(view(index, parse_summary_options(asked.query)), asked)

    return question


def _warned(answer: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """Ray's place for saying that an answer may not be whole."""
    answer["partial_failure_warning"] = answer["partial_failure_warning"] or asked.warning
    return enveloped({"result": answer})


def _close_tasks(rows: list[dict[str, Any]], asked: Asked) -> None:
    if asked.close_ms:
        close_tasks(rows, asked.close_ms)


def _groups(index: SessionIndex, options: ListOptions, asked: Asked) -> dict[str, Any]:
    return list_placement_groups(index, options, told_groups(asked.snapshots))


def _runtime_envs(index: SessionIndex, options: ListOptions, asked: Asked) -> dict[str, Any]:
    return list_runtime_envs(asked.snapshots, options)


def _cluster_events(index: SessionIndex, options: ListOptions, asked: Asked) -> dict[str, Any]:
    return list_cluster_events(index, options, timezone(asked.snapshots)["offset"])


def _cluster_metadata(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    return enveloped(cluster_metadata(asked.key.session, asked.ray_version, asked.snapshots))


async def _timeline(request: Request) -> Response:
    """A Chrome trace, without Ray's envelope; ``download=1`` names a file."""
    headers = {}
    if request.query_params.get("download") == "1":
        job = "".join(c for c in request.query_params.get("job_id", "all") if c.isascii() and c.isalnum())[:64]
        now = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S")
        headers["Content-Disposition"] = f'attachment; filename="timeline-{job}-{now}.json"'
    return await put_question(request, lambda index, asked: timeline(index, asked.first("job_id")), headers)


ROUTES = [
    Route("/api/v0/tasks", listing(TASKS, _of(list_tasks), _close_tasks)),
    Route("/api/v0/tasks/summarize", answering(_summary(summarize_tasks))),
    Route("/api/v0/tasks/timeline", _timeline),
    Route("/api/v0/actors", listing(ACTORS, _of(list_actors))),
    Route("/api/v0/actors/summarize", answering(_summary(summarize_actors))),
    Route("/api/v0/nodes", listing(NODES, _of(list_nodes))),
    Route("/api/v0/workers", listing(WORKERS, _of(list_workers))),
    Route("/api/v0/jobs", listing(JOBS, _of(list_jobs))),
    Route("/api/v0/placement_groups", listing(PLACEMENT_GROUPS, _groups)),
    Route("/api/v0/runtime_envs", listing(RUNTIME_ENVS, _runtime_envs)),
    Route("/api/v0/cluster_events", listing(CLUSTER_EVENTS, _cluster_events)),
    Route("/api/v0/objects", listing(OBJECTS, _of(lambda index, options: list_objects(options)))),
    Route("/api/v0/objects/summarize", answering(_summary(lambda index, options: summarize_objects(options)))),
    Route("/api/v0/cluster_metadata", answering(_cluster_metadata)),
]

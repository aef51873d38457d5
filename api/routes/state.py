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
from api.query import ListOptions, SummaryOptions, parse_list_options, parse_summary_options
from api.routes.session import Asked, Question, answering, put_question
from api.views.actors import list_actors, summarize_actors
from api.views.cluster import cluster_metadata
from api.views.jobs import list_jobs
from api.views.nodes import list_nodes
from api.views.placement_groups import list_placement_groups
from api.views.redaction import redacted_rows
from api.views.summaries import summarize_tasks
from api.views.tasks import list_tasks
from api.views.timeline import timeline
from api.views.workers import list_workers

ListView = Callable[[SessionIndex, ListOptions], dict[str, Any]]
SummaryView = Callable[[SessionIndex, SummaryOptions], dict[str, Any]]


def _list(view: ListView) -> Question:
    def question(index: SessionIndex, asked: Asked) -> dict[str, Any]:
        answer = view(index, parse_list_options(asked.query))
        if asked.browser:
            answer["result"] = redacted_rows(answer["result"])
        return _warned(answer, asked)

    return question


def _summary(view: SummaryView) -> Question:
    def question(index: SessionIndex, asked: Asked) -> dict[str, Any]:
        return _warned(view(index, parse_summary_options(asked.query)), asked)

    return question


def _warned(answer: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """Ray's place for saying that an answer may not be whole."""
    answer["partial_failure_warning"] = answer["partial_failure_warning"] or asked.warning
    return enveloped({"result": answer})


def _cluster_metadata(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    return enveloped(cluster_metadata(asked.key.session, asked.ray_version))


async def _timeline(request: Request) -> Response:
    """A Chrome trace, without Ray's envelope; ``download=1`` names a file."""
    headers = {}
    if request.query_params.get("download") == "1":
        job = "".join(c for c in request.query_params.get("job_id", "all") if c.isascii() and c.isalnum())[:64]
        now = datetime.now(UTC).strftime("%Y-%m-%d_%H-%M-%S")
        headers["Content-Disposition"] = f'attachment; filename="timeline-{job}-{now}.json"'
    return await put_question(request, lambda index, asked: timeline(index, asked.first("job_id")), headers)


ROUTES = [
    Route("/api/v0/tasks", answering(_list(list_tasks))),
    Route("/api/v0/tasks/summarize", answering(_summary(summarize_tasks))),
    Route("/api/v0/tasks/timeline", _timeline),
    Route("/api/v0/actors", answering(_list(list_actors))),
    Route("/api/v0/actors/summarize", answering(_summary(summarize_actors))),
    Route("/api/v0/nodes", answering(_list(list_nodes))),
    Route("/api/v0/workers", answering(_list(list_workers))),
    Route("/api/v0/jobs", answering(_list(list_jobs))),
    Route("/api/v0/placement_groups", answering(_list(list_placement_groups))),
    Route("/api/v0/cluster_metadata", answering(_cluster_metadata)),
]

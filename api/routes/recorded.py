"""The rest of what Ray's dashboard answers: the cluster's own facts, its libraries, and what a recording can't do.

Three kinds:

- what the dashboard said last of the cluster, of Serve, Ray Data and Ray Train;
- what a page asks only to know what to show: answered so that it shows nothing that isn't there;
- what needs the living cluster (profiles, packages, stopping a job): refused in words, never as if it weren't an
  address. A 404 would mean to Ray's ``--proxy-server-url`` that the cluster it runs in should answer instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from api.answers import TextAnswer, enveloped, refused
from api.index.session_index import SessionIndex
from api.routes.freshness import over_ms
from api.routes.session import Asked, answering, opened, put_question
from api.views import cluster
from api.views.activity_report import component_activities
from api.views.closing import close_datasets
from api.views.datasets import datasets
from api.views.google_style import google_style
from api.views.jobs import does_not_exist, job_rest, jobs_rest
from api.views.redaction import redacted_deep
from api.views.train import train_runs

SERVE = "/api/serve/applications/"
NOT_RECORDED = "this is a recorded session: nothing of the kind is known of it"
NOT_LIVING = "this is a recorded session: it can be read, but nothing in it can be run, changed or measured"
NOTHING = "nothing is recorded of platform events in this session"
PROFILING = {
    "native": False,
    "subprocesses": False,
    "idle": False,
    "leaks": False,
    "trace_python_allocators": False,
    "cpu_duration": 5,
    "memory_duration": 10,
    "max_duration": 60,
    "cpu_format": "flamegraph",
    "memory_format": "flamegraph",
    "pyspy_native_supported": True,
}
_NO_GRPC = {"port": "-"}
_NEEDED_TABLES = ("controller_info", "proxies", "http_options", "grpc_options")


def _version(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    return cluster.version(asked.key.session, asked.ray_version, asked.snapshots)


def _timezone(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    return cluster.timezone(asked.snapshots)


def _cluster_status(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    if asked.first("format") == "1":
        return enveloped(cluster.formatted_cluster_status(asked.snapshots), cluster.FORMATTED_FETCHED)
    return enveloped(cluster.cluster_status(asked.snapshots), cluster.STATUS_FETCHED)


def _serve(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    """Without Serve a live head says 501, which its pages can't do without retrying; an empty answer suits them.

    Its pages go blank where a table that they look into is null, or that of gRPC absent while Serve runs; where it is
    empty they show "undefined" for its port.
    """
    told = asked.snapshots.table(SERVE)
    if not isinstance(told.get("applications"), dict):
        return {"applications": {}}
    told = {name: value for name, value in told.items() if value is not None or name not in _NEEDED_TABLES}
    if not asked.browser:
        return told
    if told.get("http_options") and not told.get("grpc_options"):
        told |= {"grpc_options": _NO_GRPC}
    return dict(redacted_deep(told))


def _datasets(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    found = datasets(index, asked.snapshots, asked.path["job_id"])
    if asked.close_ms:
        close_datasets(found, asked.close_ms)
    return {"datasets": found}


def _train(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    jobs = jobs_rest(index)
    runs = train_runs(index, asked.snapshots, jobs)
    return {"train_runs": redacted_deep(runs) if asked.browser else runs}


def _train_v1(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    told = asked.snapshots.table("/api/train/v2/runs")
    return told if isinstance(told.get("train_runs"), list) else {"train_runs": []}


def _component_activities(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    jobs = jobs_rest(index)
    ends_ms = [driver.end_ms for driver in index.jobs.drivers()]
    return component_activities(jobs, ends_ms, asked.over_ms or asked.now_ms, asked.over_ms > 0)


def _platform_events(index: SessionIndex, asked: Asked) -> dict[str, Any]:
    """Where there are none the address is none: by that the pages leave out their menu entry."""
    found = [data for _, data in index.opaque.of_kind("PLATFORM_EVENT")]
    if not found:
        raise HTTPException(404, NOTHING)
    return enveloped({"events": found[::-1]}, "Retrieved platform events")


async def _gcs_healthz(request: Request) -> Response:
    """Whether the cluster's control plane lives."""
    over = over_ms(request, await opened(request))
    if over:
        return PlainTextResponse("Health check failed: this session is over", 503)
    return Response("success", media_type="application/text")


def _always(value: Any) -> Callable[[Request], Awaitable[Response]]:
    """The same answer for every session there is."""
    return answering(lambda index, asked: value)


async def _not_living(request: Request) -> Response:
    await opened(request)
    return refused(501, NOT_LIVING)


async def _not_recorded(request: Request) -> Response:
    await opened(request)
    return refused(501, NOT_RECORDED)


async def _read_only(request: Request) -> Response:
    """What would change a cluster: Ray's Job client shows the text."""
    await opened(request)
    return PlainTextResponse(NOT_LIVING, 405, {"Allow": "GET, HEAD"})


async def _job_read_only(request: Request) -> Response:
    """The same of one job, which must be one."""
    job_id = request.path_params["job_id"]

    def known(index: SessionIndex, asked: Asked) -> None:
        if job_rest(index, job_id) is None:
            raise TextAnswer(404, does_not_exist(job_id))
        raise TextAnswer(405, NOT_LIVING)

    return await put_question(request, known)


async def _package(request: Request) -> Response:
    await opened(request)
    uri = "{protocol}://{package}".format(**request.path_params)
    return PlainTextResponse(f"Package {uri[:300]} does not exist", 404)


GRAFANA = enveloped({"grafanaHost": "DISABLED"}, "Grafana disabled")
PROMETHEUS = enveloped({"reason": NOT_RECORDED}, "prometheus healthcheck failed.", result=False)
USAGE = enveloped({"usageStatsEnabled": False, "usageStatsPromptEnabled": True}, "Fetched usage stats enabled")
NEED_THE_CLUSTER = (
    "/task/traceback",
    "/task/cpu_profile",
    "/worker/traceback",
    "/worker/cpu_profile",
    "/worker/gpu_profile",
    "/worker/jax_profile",
    "/memory_profile",
)
CHANGING = ("POST", "PUT", "DELETE", "PATCH")

ROUTES = [
    Route("/api/version", answering(_version)),
    Route("/api/ray/version", answering(_version)),
    Route("/timezone", answering(_timezone)),
    Route("/api/cluster_status", answering(_cluster_status)),
    Route(SERVE, answering(_serve)),
    Route("/api/data/datasets/{job_id}", answering(_datasets)),
    Route("/api/train/v2/runs/v1", answering(_train)),
    Route("/api/train/v2/runs", answering(_train_v1)),
    Route("/api/component_activities", answering(_component_activities)),
    Route("/api/v0/platform_events", answering(_platform_events)),
    Route("/api/v0/runtime_env_redaction", _always(enveloped({"redactionEnabled": True}))),
    Route(
        "/api/profiling_enabled",
        _always(enveloped(google_style({"profiling_enabled": False, "profiling_defaults": PROFILING}))),
    ),
    Route("/api/grafana_health", _always(GRAFANA)),
    Route("/api/prometheus_health", _always(PROMETHEUS)),
    Route("/api/prometheus/sd", _always([])),
    Route("/usage_stats_enabled", _always(USAGE)),
    Route("/api/gcs_healthz", _gcs_healthz),
    Route("/cluster_id", _not_recorded),
    *(Route(path, _not_living) for path in NEED_THE_CLUSTER),
    Route("/api/packages/{protocol}/{package}", _package),
    Route("/api/packages/{protocol}/{package}", _read_only, methods=CHANGING),
    Route("/api/jobs", _read_only, methods=CHANGING),
    Route("/api/jobs/", _read_only, methods=CHANGING),
    Route("/api/jobs/{job_id}", _job_read_only, methods=CHANGING),
    Route("/api/jobs/{job_id}/stop", _job_read_only, methods=CHANGING),
    Route(SERVE, _read_only, methods=CHANGING),
]

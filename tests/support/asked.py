"""What a dashboard is asked when its session is recorded: every GET that Ray's pages, command line and Python API make.

Which ids to ask about is found in the dashboard's own lists. Left out are objects (what was in the object store of a
session that is over is known nowhere), and Serve and Train where they aren't installed: their refusal is no state of
the session, and asking makes the dashboard connect a driver of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

from support.rayhead import fetch
from support.workload import Rows, rows

TASKS, ACTORS = "/api/v0/tasks", "/api/v0/actors"
FIXED = (
    "/api/version",
    "/timezone",
    "/api/authentication_mode",
    "/api/v0/runtime_env_redaction",
    "/usage_stats_enabled",
    "/api/v0/cluster_metadata",
    "/nodes?view=hostNameList",
    "/nodes?view=summary",
    "/api/jobs/",
    "/api/jobs/nobody",
    "/api/v0/jobs?detail=1",
    "/api/v0/nodes?detail=1",
    "/api/v0/workers?detail=1&limit=10000",
    "/api/v0/placement_groups?detail=1&limit=10000",
    "/api/v0/runtime_envs?detail=1&limit=10000",
    f"{TASKS}?detail=1&limit=10000&exclude_driver=false",
    f"{TASKS}?limit=10000",
    f"{TASKS}?limit=3",
    f"{TASKS}?limit=20000",
    f"{TASKS}?limit=abc",
    f"{TASKS}/summarize",
    f"{TASKS}/summarize?summary_by=lineage",
    f"{TASKS}/timeline",
    f"{ACTORS}?detail=1&limit=10000",
    f"{ACTORS}?limit=3",
    f"{ACTORS}/summarize",
    "/logical/actors",
    "/logical/actors/00000000000000000000000099000000",
    "/events",
    "/api/cluster_status",
    "/api/cluster_status?format=1",
)
LIBRARIES = ("/api/serve/applications/", "/api/train/v2/runs/v1")
FILTERS = (
    (TASKS, {}, (("state", "=", "failed"),)),
    (TASKS, {"limit": "5"}, (("name", "!=", "leaf"), ("state", "=", "FINISHED"))),
    (TASKS, {}, (("error_type", "!=", "WORKER_DIED"),)),
    (TASKS, {}, (("func_or_class_name", "=", "leaf"),)),
    (TASKS, {}, (("bogus", "=", "1"),)),
    (TASKS, {}, (("task_id", "=", "xyz"),)),
    (ACTORS, {}, (("state", "=", "dead"),)),
    (ACTORS, {}, (("class_name", "!=", "Plain"), ("ray_namespace", "=", "work"))),
    ("/api/v0/nodes", {}, (("state", "=", "ALIVE"),)),
    ("/api/v0/workers", {"detail": "1"}, (("worker_type", "=", "DRIVER"),)),
    ("/api/v0/placement_groups", {}, (("state", "=", "CREATED"),)),
)


def filtered(path: str, options: dict[str, str], *filters: tuple[str, str, str]) -> str:
    """A list's request with filters, as Ray's clients write it."""
    pairs = list(options.items())
    for key, predicate, value in filters:
        pairs += [("filter_keys", key), ("filter_predicates", predicate), ("filter_values", value)]
    return f"{path}?{urlencode(pairs)}"


def requests(base: str) -> Iterator[str]:
    """The path and query of each request, in the order to ask."""
    yield from FIXED
    yield from (filtered(path, options, *filters) for path, options, filters in FILTERS)
    yield from _about_ids(base)
    yield from _logs(base)


def about_libraries(base: str) -> Iterator[str]:
    """What the pages of Serve and Train and the jobs' own pages ask for, tasks left out."""
    yield from LIBRARIES
    yield from (url for url in FIXED if "/tasks" not in url)
    yield from (
        f"/api/jobs/{job[name]}" for job in _jobs(base) for name in ("job_id", "submission_id") if job.get(name)
    )
    yield from (f"/logical/actors/{actor['actor_id']}" for actor in _one_of_each(rows(base, "actors"), "state"))


def _about_ids(base: str) -> Iterator[str]:
    tasks, actors = rows(base, "tasks"), rows(base, "actors")
    nodes = rows(base, "nodes")
    if len(nodes) > 1:  # the larger captures have it of a single one
        yield from (f"/nodes/{node['node_id']}" for node in nodes)
    jobs = _jobs(base)
    for job in jobs:
        yield from (f"/api/jobs/{job[name]}" for name in ("job_id", "submission_id") if job.get(name))
        if job.get("job_id"):
            yield filtered(f"{TASKS}/summarize", {}, ("job_id", "=", str(job["job_id"])))
            yield f"/events?job_id={job['job_id']}"
    if len(jobs) > 1:
        yield f"{TASKS}/timeline?job_id={jobs[-1]['job_id']}"
    if any(actor["name"] == "datasets_stats_actor" for actor in actors):
        yield from (f"/api/data/datasets/{job['job_id']}" for job in jobs if job.get("job_id"))
    for task in _one_of_each(tasks, "state"):
        yield filtered(TASKS, {"detail": "1", "limit": "1"}, ("task_id", "=", str(task["task_id"])))
    for actor in _one_of_each(actors, "state"):
        yield f"/logical/actors/{actor['actor_id']}"
        yield filtered(ACTORS, {"detail": "True"}, ("actor_id", "=", str(actor["actor_id"])))


def _logs(base: str) -> Iterator[str]:
    """The logs as people reach them: a node's files, a submission's, a task's, an actor's, a process's."""
    nodes = [row["node_id"] for row in rows(base, "nodes") if row["state"] == "ALIVE"]
    log = "/api/v0/logs/file"
    for node in nodes:
        yield f"/api/v0/logs?node_id={node}"
        yield f"/api/v0/logs?node_id={node}&glob={quote('*worker*')}"
    for job in _jobs(base):
        if job.get("submission_id"):
            yield f"/api/jobs/{job['submission_id']}/logs"
            node = job["driver_node_id"]
            yield f"{log}?node_id={node}&submission_id={job['submission_id']}&lines=-1"
            yield f"{log}?node_id={node}&filename=job-driver-{job['submission_id']}.log&lines=2&filter_ansi_code=true"
    for task in _one_of_each([row for row in rows(base, "tasks") if row["node_id"] in nodes], "name"):
        if task["type"] == "NORMAL_TASK" and task["task_log_info"]:
            asked = {"task_id": task["task_id"], "attempt_number": task["attempt_number"], "lines": -1}
            yield from (f"{log}?{urlencode(asked | {'suffix': suffix})}" for suffix in ("out", "err"))
    for actor in rows(base, "actors"):
        if actor["state"] == "ALIVE" and actor["node_id"] in nodes:
            yield f"{log}?actor_id={actor['actor_id']}&suffix=out&lines=-1"
            yield f"{log}?node_id={actor['node_id']}&pid={actor['pid']}&suffix=err&lines=50"


def _jobs(base: str) -> Rows:
    jobs: Rows = json.loads(fetch(f"{base}/api/jobs/")[1])
    return jobs


def _one_of_each(listed: Rows, column: str) -> Rows:
    found: dict[str, dict[str, object]] = {}
    for row in listed:
        found.setdefault(str(row[column]), row)
    return list(found.values())


def save(base: str, folder: Path, urls: Callable[[str], Iterator[str]] = requests) -> None:
    """Write what the dashboard at ``base`` answers now as ``folder/live``."""
    live = folder / "live"
    live.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, url in enumerate(urls(base), 1):
        status, body = fetch(base + url)
        body = _pruned(body) if url.startswith("/nodes") else body
        name = f"{number:03d}.{'json' if _is_json(body) else 'txt'}"
        (live / name).write_bytes(body)
        lines.append(f"{name}\t{status}\t{url}\n")
    (live / "index.tsv").write_text("".join(lines))


def _pruned(body: bytes) -> bytes:
    """A node's answer with the figures of its first process only and no arguments: long, and nothing of the session."""

    def pruned(value: object) -> object:
        if isinstance(value, list):
            return [pruned(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {name: _first_only(name, pruned(item)) for name, item in value.items()}

    return json.dumps(pruned(json.loads(body))).encode()


def _first_only(name: str, value: object) -> object:
    if isinstance(value, list) and name == "cmdline":
        return value[:1]
    if not isinstance(value, list) or name not in ("coreWorkersStats", "workers"):
        return value
    return value[:1] + [{"pid": each["pid"]} for each in value[1:]]


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True

"""Ray's own command line and Python API, asked for a dead session by its prefix: exit 0, and the same rows as live.

``ray logs`` and ``ray timeline`` take no address of a dashboard; ``ray-history logs`` is there instead.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import workload
from support.lived import Lived, assert_stopped, live_through
from support.processes import collector, on_disk, server, session_url, wait_for_session
from support.rayhead import RAY, free_ports, ray_head, short_folder
from support.receiver import receiver
from support.workload import Rows

pytestmark = [pytest.mark.ray, pytest.mark.timeout(480)]
Given = dict[str, subprocess.CompletedProcess[str]]

AT_ONCE = 3
"""Commands: each is two seconds of processor time before it asks anything."""
KEYS = {
    "tasks": ("task_id", "attempt_number"),
    "actors": ("actor_id",),
    "nodes": ("node_id",),
    "workers": ("worker_id",),
    "jobs": ("job_id", "submission_id"),
    "placement-groups": ("placement_group_id",),
    "runtime-envs": ("runtime_env",),
}
LISTS = {
    "every task": "tasks --limit 1000",
    "every task in detail": "tasks --limit 1000 --detail",
    "the failed tasks": "tasks --filter state=FAILED",
    "the tasks of a function": "tasks --filter func_or_class_name=leaf --filter state!=FAILED",
    "every actor in detail": "actors --detail",
    "the dead actors": "actors --filter STATE=dead",
    "every node in detail": "nodes --detail",
    "every worker in detail": "workers --detail",
    "every job in detail": "jobs --detail",
    "the jobs that succeeded": "jobs --filter status=SUCCEEDED",
    "every placement group in detail": "placement-groups --detail",
    "the created placement groups": "placement-groups --filter state=CREATED",
    "every runtime environment": "runtime-envs --detail",
}
DEAD_ONLY = {
    # The live dashboard answers 500 for cluster events, and what is in its object store changes by being asked.
    "cluster events": ["list", "cluster-events", "--format=json"],
    "objects": ["list", "objects", "--format=json"],
    "summary objects": ["summary", "objects"],
}
GETS = {
    "tasks": "task_id",
    "actors": "actor_id",
    "nodes": "node_id",
    "workers": "worker_id",
    "placement-groups": "placement_group_id",
}
PYTHON = """
import dataclasses, json, sys
from ray.job_submission import JobSubmissionClient
from ray.util import state

address, ids = sys.argv[1], json.loads(sys.argv[2])
def plain(value):
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else dict(value)
told = {}
for kind in ("actors", "jobs", "nodes", "placement_groups", "runtime_envs", "tasks", "workers"):
    rows = getattr(state, "list_" + kind)(address=address, detail=True, limit=1000)
    told["list_" + kind] = [plain(row) for row in rows]
for kind, one in ids.items():
    if kind != "submission":
        found = getattr(state, "get_" + kind)(one, address=address)
        told["get_" + kind] = [plain(row) for row in (found if isinstance(found, list) else [found])]
for kind in ("tasks", "actors"):
    told["summarize_" + kind] = getattr(state, "summarize_" + kind)(address=address)
client, job = JobSubmissionClient(address), ids["submission"]
told["job_list"] = sorted((dict(one) for one in client.list_jobs()), key=lambda one: str(one["submission_id"]))
told["job_info"] = dict(client.get_job_info(job))
told["job_status"] = client.get_job_status(job)
told["job_logs"] = client.get_job_logs(job)
print(json.dumps(told, default=str))
"""


@dataclass
class Asked:
    """All commands' words on one session, live and dead."""

    ids: dict[str, str] = field(default_factory=dict)
    live: Given = field(default_factory=dict)
    dead: Given = field(default_factory=dict)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """One head, asked and killed; a collector that heard its events and asked its dashboard; a server on what is stored."""
    folder, found = tmp_path_factory.mktemp("cli"), Asked()
    store, dashboard_port = on_disk(folder / "store"), free_ports(1)[0]
    polling = (f"--dashboard=http://127.0.0.1:{dashboard_port}", "--poll-interval=1s", "--keep-secrets")
    with short_folder() as short, collector(store, folder, short / "r", *polling) as collecting:
        with (
            receiver(forward_to=collecting.port) as received,
            ray_head(
                "posted",
                events_port=received.port,
                folder=short,
                environment=workload.ENVIRONMENT,
                dashboard_port=dashboard_port,
            ) as head,
        ):

            def ask_live(lived: Lived) -> None:
                found.ids = ids_of(lived.live)
                found.live = ask(head.dashboard_url, found.ids, commands(found.ids))

            lived = live_through(head, received, meanwhile=ask_live)
        assert_stopped(collecting)
    with server(store, folder) as serving:
        wait_for_session(serving, lived.session)
        found.dead = ask(session_url(serving, lived.session), found.ids, commands(found.ids) | of_the_dead(found.ids))
    return found


def ids_of(live: dict[str, Rows]) -> dict[str, str]:
    """One of each kind to ask for: of those that can't change any more."""
    finished = next(row for row in live["tasks"] if row["state"] == "FINISHED" and row["name"] == "leaf")
    return {
        "task": finished["task_id"],
        "worker": finished["worker_id"],
        "node": finished["node_id"],
        "actor": next(row["actor_id"] for row in live["actors"] if row["name"] == "keeper"),
        "placement_group": next(row["placement_group_id"] for row in live["placement_groups"] if row["name"] == "kept"),
        "submission": next(row["submission_id"] for row in live["jobs"] if row["status"] == "SUCCEEDED"),
    }


def of_the_dead(ids: dict[str, str]) -> dict[str, list[str]]:
    """What is asked of a session that is over only."""
    return DEAD_ONLY | {
        "job logs followed": ["job", "logs", "--follow", ids["submission"]],
        "a table": ["list", "nodes"],
        "yaml": ["list", "nodes", "--detail"],
    }


def commands(ids: dict[str, str]) -> dict[str, list[str]]:
    """What follows ``ray``, by the name a test knows it by."""
    listed = {what: ["list", *options.split(), "--format=json"] for what, options in LISTS.items()}
    got = {f"get {kind}": ["get", kind, ids[key.removesuffix("_id")]] for kind, key in GETS.items()}
    summed = {f"summary {kind}": ["summary", kind] for kind in ("tasks", "actors")}
    job = ids["submission"]
    jobs = {"job list": ["job", "list"], "job status": ["job", "status", job], "job logs": ["job", "logs", job]}
    return listed | got | summed | jobs


def ask(address: str, ids: dict[str, str], asking: dict[str, list[str]]) -> Given:
    """Every command, a few at a time."""
    wanted = {name: [str(RAY), *words, f"--address={address}"] for name, words in asking.items()}
    wanted["python"] = [sys.executable, "-c", PYTHON, address, json.dumps(ids)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(wanted, pool.map(run, wanted.values()), strict=True))


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """As in a shell that knows of no cluster; not in a folder with modules of ours."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"RAY_AUTH_MODE": "disabled", "COLUMNS": "200", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, env=env, cwd=Path.home(), capture_output=True, text=True, timeout=120, check=False)


def output(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.returncode == 0, f"{ended.args}: {ended.stdout[-1500:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


def by_id(kind: str, rows: Rows) -> dict[str, dict[str, Any]]:
    """What a session's events can tell of each row."""
    kept = {}
    for row in rows:
        key = "/".join(str(row.get(part)) for part in KEYS[kind])
        kept[key] = {name: value for name, value in row.items() if name not in untold(kind, row)}
    assert len(kept) == len(rows), f"{kind} are listed more than once"
    return kept


def untold(kind: str, row: dict[str, Any]) -> set[str]:
    """Fields that no event carries, so that a session that is over can't know them."""
    if kind == "tasks" and row["state"] == "FAILED":
        return {"end_time_ms", "events"}  # of a task that ended with its job or worker: the GCS's own clock
    if kind == "workers" and row["worker_type"] == "DRIVER":
        untimed = {"start_time_ms", "end_time_ms"}  # its job's are milliseconds off
        # The driver inside the dashboard connects before events are recorded.
        return untimed | ({"pid"} if row["worker_id"].startswith("01000000ffff") else set())
    return set()


def assert_alike(kind: str, live: Rows, dead: Rows) -> None:
    """The same rows with the same fields; each difference is a line of the message."""
    was, is_now = by_id(kind, live), by_id(kind, dead)
    lines = [f"{key} is missing" for key in was.keys() - is_now.keys()]
    lines += [f"{key} was never live" for key in is_now.keys() - was.keys()]
    for key in was.keys() & is_now.keys():
        for name in sorted(was[key].keys() | is_now[key].keys()):
            old, new = was[key].get(name, "(absent)"), is_now[key].get(name, "(absent)")
            if old != new:
                lines.append(f"{key} {name}: live {old!r}, dead {new!r}")
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("what", LISTS)
def test_ray_list_shows_the_same_rows_as_live(asked: Asked, what: str) -> None:
    live, dead = json.loads(output(asked.live[what])), json.loads(output(asked.dead[what]))
    assert live
    assert_alike(LISTS[what].split()[0], live, dead)


def test_ray_list_shows_cluster_events_though_live_fails(asked: Asked) -> None:
    assert any("Started a ray job" in row["message"] for row in json.loads(output(asked.dead["cluster events"])))


def test_objects_are_kept_nowhere_and_their_list_is_empty_and_no_failure(asked: Asked) -> None:
    assert "No resource in the cluster" in output(asked.dead["objects"])
    assert "total_objects: 0" in output(asked.dead["summary objects"])


def test_a_jobs_log_that_is_followed_ends_by_itself_with_all_of_it(asked: Asked) -> None:
    whole, followed = (output(asked.dead[name]) for name in ("job logs", "job logs followed"))
    printed = [line for line in whole.splitlines() if line and "cli.py" not in line]
    assert printed
    assert [line for line in printed if line not in followed] == []


def test_lists_are_shown_as_a_table_and_as_yaml_too(asked: Asked) -> None:
    assert asked.ids["node"] in output(asked.dead["a table"])
    assert [row["node_id"] for row in yaml.safe_load(output(asked.dead["yaml"]))] == [asked.ids["node"]]


@pytest.mark.parametrize("kind", GETS)
def test_ray_get_shows_the_same_as_live(asked: Asked, kind: str) -> None:
    live, dead = (yaml.safe_load(output(given[f"get {kind}"])) for given in (asked.live, asked.dead))
    rows = [told if isinstance(told, list) else [told] for told in (live, dead)]
    assert rows[0][0][GETS[kind]] == asked.ids[GETS[kind].removesuffix("_id")]
    assert_alike(kind, *rows)


@pytest.mark.parametrize("kind", ["tasks", "actors"])
def test_ray_summary_counts_the_same_as_live(asked: Asked, kind: str) -> None:
    live, dead = (summary_lines(output(given[f"summary {kind}"])) for given in (asked.live, asked.dead))
    assert len(live) > 5
    assert live == dead


def summary_lines(printed: str) -> list[str]:
    """All but when it was asked, as of equal counts any may come first."""
    lines = (re.sub(r"^\d+ +", "", line.strip()) for line in printed.splitlines())
    return sorted(line for line in lines if line and "Summary:" not in line)


@pytest.mark.parametrize("what", ["job list", "job status", "job logs"])
def test_ray_job_says_the_same_as_live(asked: Asked, what: str) -> None:
    live, dead = (said(output(given[what])) for given in (asked.live, asked.dead))
    assert live
    assert dead == live


def said(printed: str) -> list[str]:
    """All but when it was asked and at which address; jobs in any order."""
    plain = re.sub(r"\x1b\[\d+m", "", printed)
    lines = [re.sub(r"^\S+ \S+\s+[A-Z]+ cli\.py:\d+ -- ", "", line) for line in plain.splitlines()]
    text = "\n".join(line for line in lines if "Job submission server address" not in line)
    return sorted(job.strip(" \n[],") for job in text.split("JobDetails("))


@pytest.mark.parametrize("kind", list(KEYS))
def test_the_python_api_lists_the_same_rows_as_live(asked: Asked, kind: str) -> None:
    live, dead = python(asked)
    name = "list_" + kind.replace("-", "_")
    assert live[name]
    assert_alike(kind, live[name], dead[name])


@pytest.mark.parametrize("kind", GETS)
def test_the_python_api_gets_the_same_as_live(asked: Asked, kind: str) -> None:
    live, dead = python(asked)
    name = "get_" + GETS[kind].removesuffix("_id")
    assert live[name][0]
    assert_alike(kind, live[name], dead[name])


@pytest.mark.parametrize("name", ["summarize_tasks", "summarize_actors"])
def test_the_python_api_summarizes_the_same_as_live(asked: Asked, name: str) -> None:
    live, dead = python(asked)
    assert live[name] == dead[name]


@pytest.mark.parametrize("name", ["job_list", "job_info", "job_status", "job_logs"])
def test_the_job_submission_client_says_the_same_as_live(asked: Asked, name: str) -> None:
    live, dead = python(asked)
    assert live[name]
    assert dead[name] == live[name]


def python(asked: Asked) -> tuple[dict[str, Any], dict[str, Any]]:
    return json.loads(output(asked.live["python"])), json.loads(output(asked.dead["python"]))

"""Has a Ray head do the work of ``workload_{tasks,actors,nodes,data,serve,train}.py``: hands jobs in, kills the node that is to die."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from support import asked
from support.rayhead import RayHead, fetch, free_ports, joined_node, until
from support.workload import ENVIRONMENT, job_logs

SCRIPTS = Path(__file__).parent
SECRET = "hunter2"
"""Begins every value of ``env_vars`` that must not leave the machine."""
RUNTIME_ENV = {"env_vars": {"TOKEN": f"{SECRET}-of-job", "PASSWORD": f'{SECRET} "of" job\\n'}}
LABELS = "zone=east,size=small"
QUICK_DEATH = {"RAY_health_check_period_ms": "400", "RAY_health_check_failure_threshold": "3"}
HEAD_ENVIRONMENT = ENVIRONMENT | QUICK_DEATH


def tasks(head: RayHead) -> None:
    """Ends with two tasks waiting for ever."""
    submit(head, "workload_tasks.py", runtime_env=RUNTIME_ENV, says="ready")


def actors(head: RayHead) -> None:
    """Ends with actors alive, dead and never started."""
    submit(head, "workload_actors.py", says="ready")


def nodes(head: RayHead) -> None:
    """Ends with a dead node and two jobs, one started by hand and over."""
    with joined_node(head, labels="zone=west") as second:
        job = submit(head, "workload_nodes.py", second.node_id, says="ready")
        by_hand(head, "workload_nodes.py")
        second.kill()
        said(head, job, "over it")


def data(head: RayHead) -> None:
    """Ends with a finished job that used Ray Data."""
    job = submit(head, "workload_data.py")
    until(lambda: _succeeded(head, job), "the job's end", timeout=120)
    # The first time, the dashboard connects a driver to find out: it belongs to what is recorded.
    until(lambda: fetch(f"{head.dashboard_url}/api/data/datasets/02000000")[0] == 200, "the datasets")


def serve(head: RayHead) -> None:
    """Ends with two Serve applications, one healthy, and two runs of Train that are over. Needs ``ray[serve,train]``."""
    submit(head, "workload_train.py", says="ready")
    submit(head, "workload_serve.py", str(free_ports(1)[0]), says="ready")
    # The first time, the dashboard connects a driver to find out: it belongs to what is recorded.
    until(
        lambda: all(fetch(head.dashboard_url + url)[0] == 200 for url in asked.LIBRARIES), "Serve's and Train's state"
    )


def everything(head: RayHead) -> None:
    """All but Ray Data, which few have."""
    for work in (tasks, actors, nodes):
        work(head)


WORK: dict[str, Callable[[RayHead], None]] = {
    "tasks": tasks,
    "actors": actors,
    "nodes": nodes,
    "data": data,
    "serve": serve,
    "everything": everything,
}


def submit(
    head: RayHead, script: str, *arguments: str, says: str = "", runtime_env: Mapping[str, object] | None = None
) -> str:
    """Hand a script in as a job, and wait until it ``says`` so; its submission id."""
    job = {"entrypoint": " ".join([sys.executable, str(SCRIPTS / script), *arguments]), "metadata": {"team": "history"}}
    body = json.dumps(job | ({"runtime_env": runtime_env} if runtime_env else {})).encode()
    ask = urllib.request.Request(f"{head.dashboard_url}/api/jobs/", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(ask, timeout=60) as answer:
        submission_id = str(json.load(answer)["submission_id"])
    if says:
        said(head, submission_id, says)
    return submission_id


def said(head: RayHead, submission_id: str, word: str) -> None:
    """Wait for a line of a job's log."""
    until(lambda: _said(head, submission_id, word), f"the job to say {word!r}", timeout=120, pause=0.3)


def by_hand(head: RayHead, script: str) -> None:
    """Run a driver to its end without handing it in."""
    command = [sys.executable, str(SCRIPTS / script)]
    subprocess.run(command, env=head.environment | {"RAY_ADDRESS": head.address}, check=True, capture_output=True)


def _said(head: RayHead, submission_id: str, word: str) -> bool:
    return f"{word}\n" in job_logs(head, submission_id) or _status(head, submission_id) not in ("PENDING", "RUNNING")


def _succeeded(head: RayHead, submission_id: str) -> bool:
    return _status(head, submission_id) == "SUCCEEDED"


def _status(head: RayHead, submission_id: str) -> str:
    """Raises what the job says where it failed."""
    status, body = fetch(f"{head.dashboard_url}/api/jobs/{submission_id}")
    job = json.loads(body) if status == 200 else {"status": "PENDING"}
    if job["status"] in ("FAILED", "STOPPED"):
        raise RuntimeError(f"{job['message']}\n{job_logs(head, submission_id)}")
    return str(job["status"])

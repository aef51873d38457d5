"""The containers' own command lines and environments, run beside a real Ray: what a dead RayJob did is answered afterwards.

Everything is as the manifests of k8s/overlays/kind say. Only what one machine can't have is put in its place: a folder for
each volume, a free port for each fixed one, SeaweedFS for MinIO, and the values that KubeRay's labels and the Secrets hold.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.manifests import K8S, NAMESPACE, Object, Pod, environment, labels_of, named, ours, overlay, ray_pods
from support.processes import Program
from support.rayhead import RayHead, fetch, free_ports, ray_head, short_folder, until
from support.seaweed import SeaweedServer, seaweed

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.timeout(150)]

CLUSTER = "sample-x7k2p"
"""As KubeRay names the cluster of a RayJob."""
PUSH_TOKEN = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


@dataclass(frozen=True)
class Places:
    """What takes the place of the manifests' addresses and folders."""

    folder: Path
    ray_tmp: Path
    store: SeaweedServer
    events: int
    server: int
    dashboard: int

    def put(self, text: str) -> str:
        """``text`` of a manifest as it is on this machine."""
        for there, here in (
            ("http://minio:9000", self.store.endpoint),
            ("http://ray-history:8080", f"http://127.0.0.1:{self.server}"),
            ("127.0.0.1:8265", f"127.0.0.1:{self.dashboard}"),
            ("127.0.0.1:8084", f"127.0.0.1:{self.events}"),
            ('"127.0.0.1", 8084', f'"127.0.0.1", {self.events}'),
            ("--events-port=8084", f"--events-port={self.events}"),
            ("--port=8080", f"--port={self.server}"),
            ("/tmp/ray", str(self.ray_tmp)),
            ("/var/lib/ray-history", str(self.folder)),
        ):
            text = text.replace(there, here)
        return text

    def put_all(self, variables: dict[str, str]) -> dict[str, str]:
        return {name: self.put(value) for name, value in variables.items()}


@dataclass(frozen=True)
class Lived:
    """What was seen while the head lived, and the server that is asked afterwards."""

    server: Program
    collector: Program
    head: RayHead
    status: str
    liveness: int
    driver: str
    ended_with: int
    seconds: float
    grace: int


@pytest.fixture(scope="module")
def lived() -> Iterator[Lived]:
    """The RayJob's head pod from its start to its end, in the order that Kubernetes keeps for a sidecar."""
    objects = overlay("kind")
    pod = next(one for one in ray_pods(objects) if one.owner == "RayJob/sample head")
    with short_folder() as folder, seaweed() as store:
        events, serving, dashboard = free_ports(3)
        places = Places(folder, folder / "r", store, events, serving, dashboard)
        with started(places, objects, *ours(objects, "serve")[0], port=serving) as server:
            until(lambda: fetch(f"{server.url}/livez")[0] == 200, "the server")
            assert fetch(f"{server.url}/readyz")[0] == 503  # no bucket yet, nor has the collector one when it starts
            with started(places, objects, pod, pod.container("collector"), port=events) as collector:
                make_bucket(store, "ray-history")
                yield live(places, objects, pod, server, collector)


def live(places: Places, objects: list[Object], pod: Pod, server: Program, collector: Program) -> Lived:
    said = places.put_all(environment(objects, pod.container("ray-head")))
    # Asked for files the helper sets nothing that makes Ray post: that stands in the manifest alone.
    with ray_head("export", folder=places.folder, dashboard_port=places.dashboard, environment=said) as head:
        driver = run_the_job(head, said)
        url = f"{server.url}/sessions/{NAMESPACE}/{CLUSTER}/{head.session_name}"
        # The driver tells that it failed, its worker a moment later where its log stands: both are on their way till then.
        until(lambda: log_of_the_failed_task(url)[0] == 200, "the failed task to be told", timeout=30)
        status = next(one["status"] for one in clusters(server) if one["sessionName"] == head.session_name)
        liveness = probe(places, pod.container("collector"))
        os.kill(head.leader, signal.SIGTERM)  # what `ray start --block` gets when the pod is deleted
        until(lambda: not head.processes(), "Ray to end", timeout=30)
        begun = time.monotonic()
        ended_with = collector.stop()
        seconds = time.monotonic() - begun
    grace = pod.spec["terminationGracePeriodSeconds"]
    return Lived(server, collector, head, status, liveness, driver, ended_with, seconds, grace)


@contextmanager
def started(places: Places, objects: list[Object], pod: Pod, container: Object, *, port: int) -> Iterator[Program]:
    """The container's program, listening; killed at the end if it still runs then."""
    secrets = {
        "ray-history-s3": {
            "AWS_ACCESS_KEY_ID": places.store.access_key,
            "AWS_SECRET_ACCESS_KEY": places.store.secret_key,
        },
        "ray-history-tokens": {"push-token": PUSH_TOKEN},
    }
    variables = places.put_all(environment(objects, container, secrets, labels_of(pod, CLUSTER)))
    arguments = [places.put(each) for each in container["args"]]
    # A pod has no home and none of this machine's settings of the AWS tools.
    program = Program(
        arguments, port, places.folder / f"{arguments[0]}.log", variables | {"HOME": str(places.folder / "home")}
    )
    try:
        until(program.listening, f"ray-history {arguments[0]} to listen", timeout=30)
        yield program
    finally:
        program.end()


def make_bucket(store: SeaweedServer, name: str) -> None:
    """What the Job does."""
    client = store.client()
    try:
        client.create_bucket(Bucket=name)
    finally:
        client.close()


def run_the_job(head: RayHead, said: dict[str, str]) -> str:
    """The RayJob's script, as its driver; what it printed."""
    address = {"RAY_ADDRESS": head.address}
    job = [sys.executable, str(K8S / "samples" / "job.py")]
    done = subprocess.run(
        job, env=head.environment | said | address, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def probe(places: Places, container: Object) -> int:
    """The exit code of the liveness probe's command."""
    python, *arguments = container["livenessProbe"]["exec"]["command"]
    assert python == "python"
    command = [sys.executable, *map(places.put, arguments)]
    return subprocess.run(command, check=False, timeout=container["livenessProbe"]["timeoutSeconds"]).returncode


def clusters(server: Program) -> list[dict[str, Any]]:
    status, body = fetch(f"{server.url}/clusters")
    assert status == 200
    found: list[dict[str, Any]] = json.loads(body)
    return found


def tasks(url: str) -> list[dict[str, Any]]:
    status, body = fetch(f"{url}/api/v0/tasks?detail=1&limit=1000")
    rows: list[dict[str, Any]] = json.loads(body)["data"]["result"]["result"] if status == 200 else []
    return rows


def log_of_the_failed_task(url: str) -> tuple[int, bytes]:
    """The status and what the task printed; 404 while nobody knows of the task."""
    divided = [row["task_id"] for row in tasks(url) if row["name"] == "divide" and row["state"] == "FAILED"]
    return fetch(f"{url}/api/v0/logs/file?task_id={divided[0]}&suffix=out") if divided else (404, b"")


def session(lived: Lived) -> str:
    return f"{lived.server.url}/sessions/{NAMESPACE}/{CLUSTER}/latest"


def test_the_tasks_of_the_dead_cluster_are_answered(lived: Lived) -> None:
    rows = tasks(session(lived))
    states = sorted((row["name"], row["attempt_number"], row["state"]) for row in rows if row["name"] != "square")
    assert ("divide", 0, "FAILED") in states
    assert [each for each in states if each[0] == "third_time_lucky"] == [
        ("third_time_lucky", 0, "FAILED"),
        ("third_time_lucky", 1, "FAILED"),
        ("third_time_lucky", 2, "FINISHED"),
    ]
    assert [row["state"] for row in rows if row["name"] == "square"] == ["FINISHED"] * 20
    divided = next(row for row in rows if row["name"] == "divide")
    assert "ZeroDivisionError" in divided["error_message"]


def test_the_command_that_the_docs_end_with_shows_them(lived: Lived) -> None:
    ray = Path(sys.executable).with_name("ray")
    said = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [str(ray), "list", "tasks", "--address", session(lived), "--filter", "state=FAILED", "--format", "json"]
    done = subprocess.run(command, env=said, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(row["name"] for row in json.loads(done.stdout)) == ["divide", "third_time_lucky", "third_time_lucky"]


def test_the_session_lived_and_has_ended_and_belongs_to_the_job(lived: Lived) -> None:
    found = next(one for one in clusters(lived.server) if one["sessionName"] == lived.head.session_name)
    assert lived.status == "live"
    assert found["status"] == "ended"
    assert (found["namespace"], found["name"]) == (NAMESPACE, CLUSTER)
    assert (found["ownerKind"], found["ownerName"]) == ("rayjob", "sample")


def test_what_the_dashboard_alone_knew_and_the_logs_are_there(lived: Lived) -> None:
    status, body = fetch(f"{session(lived)}/nodes?view=summary")
    assert status == 200
    assert json.loads(body)["data"]["summary"][0]["raylet"]["nodeId"] == lived.head.node_id
    status, body = log_of_the_failed_task(session(lived))
    assert status == 200
    assert b"dividing 7 by zero" in body


def test_all_came_by_the_posts_that_the_manifest_asks_for(lived: Lived) -> None:
    found = json.loads(fetch(f"{session(lived)}/completeness")[1])
    assert found["complete"]
    assert {source["source"].partition("/")[0] for source in found["sources"]} == {"spool"}


def test_the_liveness_probe_passes(lived: Lived) -> None:
    assert lived.liveness == 0


def test_all_was_stored_when_the_pod_ended_and_in_time(lived: Lived) -> None:
    assert lived.ended_with == 0
    assert "stopped, all is stored" in lived.collector.log()
    assert lived.seconds < lived.grace / 2


def test_nothing_secret_is_in_the_logs(lived: Lived) -> None:
    for program in (lived.server, lived.collector):
        assert PUSH_TOKEN not in program.log()


def test_every_address_was_put_in_its_place() -> None:
    """A manifest that says another host or port than is known here would be tested as something else."""
    objects = overlay("kind")
    said = json.dumps([named(objects, "ConfigMap", f"ray-history-{each}")["data"] for each in ("store", "collector")])
    assert set(re.findall(r"https?://([\w.-]+:\d+)", said)) == {"minio:9000", "ray-history:8080"}

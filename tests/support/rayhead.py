"""A real Ray head on this machine, started as a user starts it and kept away from any other Ray.

Own temp dir, own free ports, an own marker in the environment. ``kill`` is SIGKILL for every process
that carries the marker: never ``ray stop``, which ends other people's Ray too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from support.skips import need

Dialect = Literal["posted", "export"]
T = TypeVar("T")

RAY = Path(sys.executable).with_name("ray")
MARKER = "RAY_HISTORY_TEST_HEAD"
NODE_MARKER = "RAY_HISTORY_TEST_NODE"
HEAD_PORTS = ("--port", "--dashboard-port", "--ray-client-server-port")
PORTS = (
    "--port",
    "--dashboard-port",
    "--dashboard-agent-listen-port",
    "--dashboard-agent-grpc-port",
    "--metrics-export-port",
    "--ray-client-server-port",
    "--runtime-env-agent-port",
    "--node-manager-port",
    "--object-manager-port",
)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def until(ask: Callable[[], T | None], what: str, *, timeout: float = 60, pause: float = 0.1) -> T:
    """Ask again until the answer is neither None nor False nor empty; TimeoutError says what was waited for."""
    end = time.monotonic() + timeout
    while True:
        if answer := ask():
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout} s for {what}")
        time.sleep(pause)


def fetch(url: str, *, timeout: float = 30) -> tuple[int, bytes]:
    """Status and body; status 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return int(answer.status), bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


@dataclass(frozen=True)
class RayHead:
    """A head that answers. ``address`` is the GCS, ``dashboard_url`` where jobs are handed in and lists are asked for."""

    address: str
    dashboard_url: str
    temp_dir: Path
    session_dir: Path
    node_id: str
    log: Path
    marker: str
    leader: int
    environment: dict[str, str]
    """What it was started with: a driver or a node that joins by hand needs the same."""

    @property
    def session_name(self) -> str:
        return self.session_dir.name

    def processes(self) -> list[int]:
        """Every living process of this head: its daemons, workers and drivers."""
        return _processes(self.marker, self.leader)

    def kill(self) -> None:
        """The machine loses power: SIGKILL for all of them, until none is left."""
        until(
            lambda: _kill_all(self.marker, self.leader),
            f"the processes of {self.session_name} to end",
            timeout=20,
            pause=0.02,
        )


@dataclass(frozen=True)
class JoinedNode:
    """A node that isn't the head."""

    node_id: str
    marker: str
    leader: int

    def kill(self) -> None:
        """SIGKILL for its daemons and workers: nobody says goodbye to the head."""
        until(lambda: _kill_all(self.marker, self.leader), "the node's processes to end", timeout=20, pause=0.02)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for Ray's sockets below it: Linux allows a socket 107 bytes of path, pytest's take most."""
    folder = Path(tempfile.mkdtemp(prefix="rh", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ray_head(
    dialect: Dialect,
    *,
    events_port: int = 0,
    folder: Path | None = None,
    num_cpus: int = 3,
    snake_case: bool = False,
    labels: str = "",
    options: Sequence[str] = (),
    environment: dict[str, str] | None = None,
    dashboard_port: int = 0,
) -> Iterator[RayHead]:
    """Start a head that posts its events to ``events_port`` of loopback, or writes export API files; killed at the end.

    ``options`` are further ones of ``ray start``. ``folder / "r"`` becomes its temp dir: for a collector that is to be
    there first. Keep it short (``short_folder``). ``dashboard_port`` is for one who must know it before; else any free one.
    """
    need(RAY.is_file(), "needs Ray: pip install 'ray[default]'")
    temp_dir = folder or Path(tempfile.mkdtemp(prefix="rh", dir="/tmp"))
    marker = f"{MARKER}={temp_dir.name}"
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    if dashboard_port:
        ports["--dashboard-port"] = dashboard_port
    log = temp_dir / "head.log"
    command = [str(RAY), "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"{option}={port}" for option, port in ports.items()]
    # Worker ports: Ray's default is a fixed range from 10002 on, that any other port may fall into; 0 means any free one.
    command += ["--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={temp_dir / 'r'}"]
    command += [f"--num-cpus={num_cpus}", f"--object-store-memory={100 << 20}"]
    command += [*([f"--labels={labels}"] if labels else []), *options]
    env = _environment(dialect, events_port, snake_case) | (environment or {})
    env[MARKER] = temp_dir.name
    url = f"http://127.0.0.1:{ports['--dashboard-port']}"
    try:
        with log.open("wb") as out:
            # A process group of its own, so that nothing sent to the tests' group reaches it.
            process = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
        try:
            node_id = until(lambda: _ready(url, process, log), "the Ray head's dashboard", timeout=60)
            session_dir = (temp_dir / "r" / "session_latest").resolve()
            address = f"127.0.0.1:{ports['--port']}"
            yield RayHead(address, url, temp_dir / "r", session_dir, node_id, log, marker, process.pid, env)
        finally:
            until(lambda: _kill_all(marker, process.pid), "the Ray head to end", timeout=20, pause=0.02)
            process.wait(10)
    finally:
        if folder is None:
            shutil.rmtree(temp_dir, ignore_errors=True)


@contextmanager
def joined_node(head: RayHead, *, num_cpus: int = 2, labels: str = "") -> Iterator[JoinedNode]:
    """Another node of the same cluster, on this machine and in the same temp dir; killed at the end, or with the head."""
    names = [name for name in PORTS if name not in HEAD_PORTS]
    ports = [f"{name}={port}" for name, port in zip(names, free_ports(len(names)), strict=True)]
    command = [str(RAY), "start", f"--address={head.address}", "--block", "--disable-usage-stats", *ports]
    command += ["--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={head.temp_dir}", f"--labels={labels}"]
    command += [f"--num-cpus={num_cpus}", f"--object-store-memory={100 << 20}"]
    marker = f"{NODE_MARKER}={head.temp_dir.parent.name}"
    env = head.environment | {NODE_MARKER: head.temp_dir.parent.name}
    before = {node["node_id"] for node in _nodes(head.dashboard_url)}
    with head.log.open("ab") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        found = until(
            lambda: [node["node_id"] for node in _nodes(head.dashboard_url) if node["node_id"] not in before],
            "the node to join",
        )
        yield JoinedNode(str(found[0]), marker, process.pid)
    finally:
        until(lambda: _kill_all(marker, process.pid), "the node to end", timeout=20, pause=0.02)
        process.wait(10)


def _environment(dialect: Dialect, events_port: int, snake_case: bool) -> dict[str, str]:
    """What a user sets before ``ray start``. All of it is read by several processes, so it stands in the head's own environment."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env["PATH"] = f"{Path(sys.executable).parent}:{env.get('PATH', '')}"
    env["RAY_USAGE_STATS_ENABLED"] = "0"
    # Otherwise Ray 2.60 makes a token in the user's home and the dashboard asks for it.
    env["RAY_AUTH_MODE"] = "disabled"
    if dialect == "export":
        env["RAY_enable_export_api_write"] = "true"
        return env
    env["RAY_enable_ray_event"] = "true"  # actors, nodes, workers, jobs: the GCS
    env["RAY_enable_core_worker_ray_event_to_aggregator"] = "true"  # tasks: drivers and workers
    env["RAY_DASHBOARD_AGGREGATOR_AGENT_EVENTS_EXPORT_ADDR"] = f"http://127.0.0.1:{events_port}/v1/events"
    env["RAY_DASHBOARD_AGGREGATOR_AGENT_EXPOSABLE_EVENT_TYPES"] = "ALL"
    # Actors, nodes, workers and jobs otherwise come ten seconds late.
    env["RAY_ray_events_report_interval_ms"] = "1000"
    if snake_case:
        env["RAY_DASHBOARD_AGGREGATOR_AGENT_PRESERVE_PROTO_FIELD_NAME"] = "1"
    return env


def _ready(url: str, process: subprocess.Popen[bytes], log: Path) -> str | None:
    """The head node's id once the dashboard, the job agent and the node are there."""
    if process.poll() is not None:
        raise RuntimeError(f"ray start ended with {process.returncode}:\n{log.read_text()[-3000:]}")
    return next((str(row["node_id"]) for row in _nodes(url) if row["state"] == "ALIVE"), None)


def _nodes(url: str) -> list[dict[str, Any]]:
    """The dashboard's list of nodes, empty while it doesn't answer."""
    status, body = fetch(f"{url}/api/v0/nodes?detail=1", timeout=5)
    rows: list[dict[str, Any]] = json.loads(body)["data"]["result"]["result"] if status == 200 else []
    return rows


def _processes(marker: str, leader: int) -> list[int]:
    """Processes of the head's session or with the marker in their environment, zombies not among them.

    Both, because a worker overwrites its environment with its title, and a job's driver starts a session of its own.
    """
    wanted, found = marker.encode(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, *fields = (entry / "stat").read_text().rpartition(")")[2].split()
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if state != "Z" and (int(fields[2]) == leader or wanted in environment):
            found.append(int(entry.name))
    return found


def _kill_all(marker: str, leader: int) -> bool:
    """One round of SIGKILL; True once there was nobody to send it to."""
    found = _processes(marker, leader)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return not found

"""``ray-history`` as a user runs it: commands as processes of their own, with their logs kept.

``collector`` and ``server`` return once the process listens, and end it by its pid. What it said is
in ``log()`` and in the message of whatever goes wrong.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.rayhead import fetch, free_ports, until
from support.s3server import S3Server

PROGRAM = Path(sys.executable).with_name("ray-history")


class Program:
    """One running command, on ``port`` of loopback."""

    def __init__(self, arguments: list[str], port: int, log: Path, environment: dict[str, str]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._name = f"ray-history {arguments[0]}"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(PROGRAM), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=_environment(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, *, timeout: float = 40) -> int:
        """SIGTERM, as Kubernetes does it; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait(timeout=timeout)

    def kill(self) -> None:
        """SIGKILL: it gets to do nothing more."""
        self._process.kill()
        self._process.wait(10)

    def wait(self, *, timeout: float = 40) -> int:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self._name} still runs after {timeout} s:\n{self.log()[-4000:]}") from None

    def end(self) -> None:
        if self.running():
            self.kill()

    def listening(self) -> bool:
        if not self.running():
            raise AssertionError(f"{self._name} ended with {self._process.returncode}:\n{self.log()[-4000:]}")
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def cpu_seconds(self) -> float:
        """Processor time it has used, in all its threads."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def peak_rss(self) -> int:
        """Bytes of memory it had at most, as the kernel counts them."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the kernel doesn't say VmHWM")


def on_disk(folder: Path) -> list[str]:
    """How a command is told of a store in a folder."""
    return [f"--store=file://{folder}"]


def on_s3(server: S3Server, bucket: str) -> list[str]:
    """How a command is told of a bucket; ``server.environment()`` has the keys to it."""
    return [
        f"--store=s3://{bucket}/history",
        f"--s3-endpoint={server.endpoint}",
        f"--s3-region={server.region}",
        "--s3-path-style",
    ]


def start_collector(
    store: list[str],
    folder: Path,
    ray_tmp: Path,
    *extra: str,
    port: int | None = None,
    environment: dict[str, str] | None = None,
) -> Program:
    """A collector that listens. ``store`` are the options that name the store; ``folder`` holds its data dir and log."""
    events_port = port or free_ports(1)[0]
    arguments = [
        "collect",
        *store,
        f"--ray-tmp={ray_tmp}",
        f"--data-dir={folder / 'data'}",
        f"--events-port={events_port}",
    ]
    return _started(Program([*arguments, *extra], events_port, folder / "collector.log", environment or {}))


def start_server(
    store: list[str], folder: Path, *extra: str, port: int | None = None, environment: dict[str, str] | None = None
) -> Program:
    """A server that answers."""
    port = port or free_ports(1)[0]
    return _started(
        Program(["serve", *store, f"--port={port}", *extra], port, folder / "server.log", environment or {})
    )


@contextmanager
def both_in_one(folder: Path, ray_tmp: Path, *extra: str) -> Iterator[Program]:
    """``ray-history up``, answering; killed at the end if it still runs then."""
    port, events_port = free_ports(2)
    arguments = ["up", f"--data-dir={folder / 'up'}", f"--ray-tmp={ray_tmp}", f"--port={port}"]
    program = _started(Program([*arguments, f"--events-port={events_port}", *extra], port, folder / "up.log", {}))
    try:
        yield program
    finally:
        program.end()


@contextmanager
def collector(store: list[str], folder: Path, ray_tmp: Path, *extra: str, **options: Any) -> Iterator[Program]:
    """A running collector; killed at the end if it still runs then."""
    program = start_collector(store, folder, ray_tmp, *extra, **options)
    try:
        yield program
    finally:
        program.end()


@contextmanager
def server(store: list[str], folder: Path, *extra: str, **options: Any) -> Iterator[Program]:
    """A running server; killed at the end."""
    program = start_server(store, folder, *extra, **options)
    try:
        yield program
    finally:
        program.end()


def session_url(program: Program, session: str, *, namespace: str = "default", cluster: str = "ray") -> str:
    """The address of one session on a server: any dashboard path goes below it."""
    return f"{program.url}/sessions/{namespace}/{cluster}/{session}"


def wait_for_session(program: Program, session: str, *, timeout: float = 30) -> None:
    """Until the server lists the session."""
    until(lambda: session in fetch(f"{program.url}/clusters")[1].decode(), f"{session} in /clusters", timeout=timeout)


def _started(program: Program) -> Program:
    try:
        until(program.listening, "it to listen", timeout=30, pause=0.02)
    except BaseException:
        program.end()
        raise
    return program


def _environment(more: dict[str, str]) -> dict[str, str]:
    """This process's, without what would set options behind the test's back."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "S3_", "AWS_")) and k != "EVENTS_PORT"}
    return kept | more

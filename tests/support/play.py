"""A recording as if it happened now: posted to, and laid before, a collector process, its dashboard played too."""

from __future__ import annotations

import http.client
import shutil
from pathlib import Path

from support.captures import lay_out, posts
from support.dashboard import Dashboard, dashboard, recorded
from support.processes import Program, collector, on_disk
from support.rayhead import until


def play(capture: Path, folder: Path, *options: str, everything: bool = False) -> list[str]:
    """Play a whole recording through one collector's life; how to tell a command of the store it is in then.

    ``options`` are the collector's; ``everything``: the dashboard answers all that was recorded.
    """
    store = on_disk(folder / "store")
    lay_out(capture, folder / "ray")
    with (
        dashboard(recorded(capture, everything=everything)) as answering,
        collector(store, folder, folder / "ray", f"--dashboard={answering.url}", *options) as collecting,
    ):
        for body in posts(capture):
            status = post(collecting, body)
            if status != 200:
                raise AssertionError(f"a post was answered {status}:\n{collecting.log()[-3000:]}")
        until(lambda: _asked(answering), "the dashboard to be asked")
        code = collecting.stop()
        if code != 0:
            raise AssertionError(f"the collector ended with {code}:\n{collecting.log()[-3000:]}")
    shutil.rmtree(folder / "ray")
    return store


def _asked(answering: Dashboard) -> bool:
    """Whether a round of questions was begun: the one at the end makes it whole."""
    return bool(answering.asked)


def post(program: Program, body: bytes) -> int:
    """Hand one body in as Ray does; the status."""
    connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=10)
    try:
        connection.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()

"""A recording as if it happened now: posted to, and laid before, a collector process."""

from __future__ import annotations

import http.client
import shutil
from pathlib import Path

from support.captures import lay_out, posts
from support.processes import Program, collector, on_disk


def play(capture: Path, folder: Path) -> list[str]:
    """Play a whole recording through one collector's life; how to tell a command of the store it is in then."""
    store = on_disk(folder / "store")
    lay_out(capture, folder / "ray")
    with collector(store, folder, folder / "ray") as collecting:
        for body in posts(capture):
            status = post(collecting, body)
            if status != 200:
                raise AssertionError(f"a post was answered {status}:\n{collecting.log()[-3000:]}")
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

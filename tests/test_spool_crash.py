"""kill -9 between any two steps of taking a post, and the post again: each record is stored exactly once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.posted import SESSION, body, quarantined, spooled

from pipeline.receive.post import BadRecord, split_post
from pipeline.receive.spool import Spool

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent
KILLED = -9
NEVER = 999


def start(*arguments: str) -> subprocess.Popen[str]:
    """A real process, so that a kill is a kill."""
    return subprocess.Popen(
        [sys.executable, "-m", "support.dies", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )


def append(data_dir: Path, call: int, when: str = "before") -> tuple[int, list[str]]:
    """Post the records 3..8 and a bad one, and die on the way; the exit code and the calls made."""
    with start("append", str(data_dir), "3", "9", str(call), when) as process:
        out, _ = process.communicate(timeout=30)
        return process.returncode, out.split()


async def post(data_dir: Path, numbers: Iterable[int]) -> tuple[int, int]:
    bad = [BadRecord(b"?", "malformed", "bad")]
    result = await Spool(data_dir, limit_bytes=1 << 30).append(split_post(body(numbers)).records, bad)
    return result.accepted, result.accepted + result.duplicates + result.quarantined


@pytest.mark.parametrize("when", ["before", "half", "after"])
async def test_a_post_cut_short_at_any_call_and_posted_again_is_stored_once(tmp_path: Path, when: str) -> None:
    before = tmp_path / "before"
    assert await post(before, range(5)) == (5, 6)
    shutil.copytree(before, tmp_path / "whole")
    code, calls = append(tmp_path / "whole", NEVER)
    assert code == 0
    assert {"open", "write", "fsync", "rename"} <= set(calls)
    for number, call in enumerate(calls):
        if when == "half" and call != "write":
            continue
        data_dir = tmp_path / str(number)
        shutil.copytree(before, data_dir)
        assert append(data_dir, number, when)[0] == KILLED
        accepted, answered = await post(data_dir, range(3, 9))
        assert accepted in range(5)
        assert answered == 7
        assert spooled(data_dir) == list(range(9)), f"killed {when} call {number}, {call}"
        assert {one["raw"] for one in quarantined(data_dir)} == {"?"}
        assert not list(data_dir.rglob("*.tmp")), "nothing half-written is left"


@contextmanager
def server(data_dir: Path, call: int, when: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = start("serve", str(data_dir), str(call), when)
    try:
        assert process.stdout is not None
        yield process, f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.communicate(timeout=30)


# the calls of a first post: two folders and a file, each made and synced, then the write and its sync
@pytest.mark.parametrize(
    ("call", "when"), [(4, "after"), (6, "before"), (6, "half"), (6, "after"), (7, "before"), (7, "after")]
)
def test_a_server_killed_before_it_answers_has_the_post_once_when_it_comes_again(
    tmp_path: Path, call: int, when: str
) -> None:
    again = body(range(100))
    with server(tmp_path, call, when) as (process, url):
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{url}/v1/events", content=again, timeout=30)
        assert process.wait(30) == KILLED
    with server(tmp_path, NEVER, "before") as (_, url):
        answer = httpx.post(f"{url}/v1/events", content=again, timeout=30)
        assert answer.status_code == 200
        assert answer.json()["accepted"] + answer.json()["duplicates"] == 100
        assert httpx.post(f"{url}/v1/events", content=again, timeout=30).json() == {
            "accepted": 0,
            "duplicates": 100,
            "quarantined": 0,
        }
    assert spooled(tmp_path) == list(range(100))
    assert (tmp_path / "spool" / SESSION).is_dir()

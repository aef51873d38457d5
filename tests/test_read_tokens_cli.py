"""Ray's own commands and ours say the token where a server asks for one, and say in a line that they lack it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from support.processes import PROGRAM, Program, server
from support.rayhead import RAY, fetch, until
from support.sessions import KEY, SegmentWriter, tasks

from pipeline.config import StoreConfig
from pipeline.stores.open_store import open_store

pytestmark = pytest.mark.timeout(120)
TOKEN = "opens-this-server"
RAYS = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


async def record(url: str) -> None:
    async with open_store(StoreConfig(url=url)) as store:
        writer = SegmentWriter(store)
        await writer.begin(ended_ms=1)
        await writer.write(tasks(3))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    root = tmp_path_factory.mktemp("guarded")
    url = f"file://{root / 'store'}"
    anyio.run(record, url)
    with server(["--store", url], root, environment={"RAY_HISTORY_TOKEN": TOKEN}) as program:
        until(lambda: fetch(f"{program.url}/readyz")[0] == 200, "the server is ready", timeout=20, pause=0.05)
        yield program


def run(program: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def at(program: Program) -> str:
    return f"{program.url}/sessions/{KEY}"


def test_rays_own_list_says_the_token(guarded: Program) -> None:
    listed = run(RAY, "list", "tasks", "--format=json", "--address", at(guarded), **RAYS)

    assert listed.returncode == 0, listed.stderr
    assert len(json.loads(listed.stdout)) == 3


def test_rays_own_list_without_it_fails(guarded: Program) -> None:
    refused = run(RAY, "list", "tasks", "--address", at(guarded))

    assert refused.returncode != 0
    assert "Unauthorized: Missing authentication token" in refused.stderr + refused.stdout


def test_our_commands_say_the_token(guarded: Program, tmp_path: Path) -> None:
    trace = run(PROGRAM, "timeline", "--address", at(guarded), "--output=-", RAY_HISTORY_TOKEN=TOKEN)
    refused = run(PROGRAM, "timeline", "--address", at(guarded), "--output=-")

    assert isinstance(json.loads(trace.stdout), list), trace.stderr
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "ray-history: Unauthorized: Missing authentication token\n"


def test_the_log_says_how_many_tokens_there_are_and_never_which(guarded: Program) -> None:
    fetch(f"{guarded.url}/clusters")

    assert TOKEN not in guarded.log()
    assert '"tokens":1' in guarded.log()

"""The server as a command: it counts by itself, says what it leaves, and stops when it is told to, whatever it counts."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.counting import key, put
from support.processes import Program, on_disk, server
from support.rayhead import fetch, until

from pipeline.stores.filestore import FileStore

pytestmark = pytest.mark.timeout(120)

MANY = 30


async def fill(folder: Path, count: int, finished: int) -> None:
    store = FileStore(folder)
    for number in range(count):
        await put(store, key(number), failed=number, finished=finished)


def listed(program: Program, query: str = "") -> Any:
    return json.loads(fetch(f"{program.url}/v1/sessions?limit=200{query}")[1])


def metric(program: Program, name: str) -> float:
    found = re.search(
        rf"^ray_history_{re.escape(name)} ([0-9.e+-]+)$", fetch(f"{program.url}/metrics")[1].decode(), re.M
    )
    return float(found[1]) if found else 0.0


def test_a_server_counts_all_by_itself_and_tells_so_in_its_metrics(tmp_path: Path) -> None:
    anyio.run(fill, tmp_path / "store", MANY, 2)
    with server(on_disk(tmp_path / "store"), tmp_path) as program:
        until(lambda: listed(program)["uncounted"] == 0, "all are counted", timeout=60, pause=0.1)
        failures = [
            row["summary"]["counts"]["tasks"].get("FAILED", 0) for row in listed(program, "&sort=-failed")["sessions"]
        ]
        assert failures == list(range(MANY - 1, -1, -1))
        assert metric(program, 'backfill_sessions_total{result="counted"}') == MANY
        until(lambda: metric(program, "backfill_pending") == 0, "none is pending", timeout=10, pause=0.1)
        assert metric(program, "sessions_cached") == 0
        assert metric(program, "backfill_skipped") == metric(program, "backfill_failing") == 0


def test_a_server_that_was_told_not_to_counts_none(tmp_path: Path) -> None:
    anyio.run(fill, tmp_path / "store", 3, 2)
    with server(on_disk(tmp_path / "store"), tmp_path, "--backfill-bytes=0") as program:
        time.sleep(4)  # it would have begun after two
        assert listed(program)["uncounted"] == 3


def test_a_server_that_is_stopped_in_the_middle_ends_at_once_and_the_next_goes_on(tmp_path: Path) -> None:
    anyio.run(fill, tmp_path / "store", MANY, 3000)
    with server(on_disk(tmp_path / "store"), tmp_path) as program:
        until(lambda: listed(program)["uncounted"] < MANY, "it has begun", timeout=60, pause=0.05)
        begun = time.monotonic()
        assert program.stop() == 0
        took = time.monotonic() - begun
        assert "Traceback" not in program.log()
    kept = len(list((tmp_path / "store").glob("**/summary.json")))
    assert 0 < kept < MANY, "it was stopped before or after its work"
    assert took < 5  # nobody was being answered
    with server(on_disk(tmp_path / "store"), tmp_path) as program:
        until(lambda: listed(program)["uncounted"] == 0, "all are counted", timeout=60, pause=0.1)
        assert metric(program, 'backfill_sessions_total{result="found"}') >= kept
        assert metric(program, 'backfill_sessions_total{result="counted"}') == MANY - kept

"""Recorded sessions, posted to or laid before a real collector process, come out of a real server process as they were.

The small ones of this repository always; the larger captures where they are at hand.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.captures import (
    DATA,
    captures,
    event_files,
    live_answers,
    live_rows,
    parity_tool,
    posts,
    session_name,
)
from support.compare import differences
from support.play import play
from support.processes import server, session_url, wait_for_session
from support.rayhead import fetch
from support.skips import extra
from support.workload import Rows

pytestmark = pytest.mark.timeout(120)
NAMES = ("posted", "export", "ray-event-export", "export-api-files")


ANSWERED = (
    "/api/version",
    "/timezone",
    "/nodes",
    "/api/jobs/",
    "/api/v0/tasks",
    "/api/v0/tasks/summarize",
    "/api/v0/actors",
    "/api/v0/actors/summarize",
    "/api/v0/nodes",
    "/api/v0/workers",
    "/api/v0/jobs",
    "/api/v0/placement_groups",
    "/logical/actors",
    "/events",
    "/api/v0/cluster_metadata",
)
LISTED = {
    "tasks": "/api/v0/tasks?detail=1&limit=10000",
    "actors": "/api/v0/actors?detail=1",
    "workers": "/api/v0/workers?detail=1",
    "nodes": "/api/v0/nodes?detail=1",
}
UNTOLD = {
    # A task's own name (``.options(name=…)``) is not in the export API: its function's is answered.
    ("export", "tasks"): frozenset({"name"}),
    # Recorded to Ray's clean end, its live answers before that.
    ("export-api-files", "nodes"): frozenset({"state"}),
}


@dataclass
class Played:
    """A recording and the server that has it."""

    capture: Path
    records: int
    base: str


@pytest.fixture(scope="module", params=NAMES)
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """The whole recording through one collector's life, then a server on what that left."""
    capture = DATA / request.param
    if not capture.is_dir():
        larger = captures()
        extra(larger, "needs the larger captures: RAY_HISTORY_CAPTURES names their folder")
        capture = Path(str(larger)) / request.param
    folder = tmp_path_factory.mktemp("played")
    store = play(capture, folder)
    with server(store, folder) as program:
        wait_for_session(program, session_name(capture))
        yield Played(capture, recorded(capture), session_url(program, session_name(capture)))


def recorded(capture: Path) -> int:
    """How many records Ray sent and wrote."""
    files = event_files(capture, "export_events") + event_files(capture, "events")
    return sum(len(json.loads(body)) for body in posts(capture)) + sum(file.read_bytes().count(b"\n") for file in files)


def longest_list(capture: Path, kind: str) -> tuple[str, Rows]:
    """The recorded list of the most rows, and what it was asked with."""
    lists = {url: live_rows(capture, url) for url in live_answers(capture) if url.startswith(LISTED[kind])}
    url = max(lists, key=lambda url: len(lists[url]))
    assert lists[url]
    return url, lists[url]


def completeness(played: Played) -> dict[str, Any]:
    status, body = fetch(f"{played.base}/completeness")
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


def test_no_record_is_undecodable(played: Played) -> None:
    found = completeness(played)
    assert found["rejected"]["count"] == 0, found["rejected"]
    assert found["unknown_types"] == {}
    assert found["quarantine"]["objects"] == 0


def test_every_record_is_stored_once(played: Played) -> None:
    assert completeness(played)["records"] == played.records


def test_the_history_is_complete(played: Played) -> None:
    assert completeness(played)["complete"], completeness(played)


@pytest.mark.parametrize("kind", LISTED)
def test_every_row_of_the_live_dashboard_is_answered_alike(played: Played, kind: str) -> None:
    if kind == "workers" and not any(True for _ in posts(played.capture)):
        pytest.skip("export API files don't tell of workers")
    url, expected = longest_list(played.capture, kind)
    status, body = fetch(played.base + url)
    assert status == 200
    untold = UNTOLD.get((played.capture.name, kind), frozenset())
    lines = differences(kind, expected, json.loads(body)["data"]["result"]["result"], untold=untold)
    assert not lines, "\n".join(lines)


def test_the_parity_table_counts_no_wrong_status_among_what_is_answered(played: Played) -> None:
    tool = parity_tool()
    extra(tool, "needs parity.py beside the repository")
    ran = subprocess.run(
        [sys.executable, str(tool), str(played.capture), played.base, "--json"],
        capture_output=True,
        check=True,
        text=True,
    )
    table = json.loads(ran.stdout)
    ours = [row for row in table["rows"] if row["url"].partition("?")[0] in ANSWERED]
    assert ours
    assert [row["url"] for row in ours if row["status"] != row["live_status"]] == []

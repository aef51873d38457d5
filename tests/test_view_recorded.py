"""For a recorded session the views say what the live dashboard said, leaf by leaf, but for what no event carries.

Each exception is named with its reason; one that no longer occurs in any recording fails the test too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from support.captures import DATA, captures, live_answers
from support.indexes import index_of_capture, recorded, sent

from api.index.session_index import SessionIndex
from api.query.query import parse_list_options, parse_summary_options
from api.views import actors, events, jobs, nodes, workers

LISTS: dict[str, Callable[..., Any]] = {
    "/api/v0/actors": actors.list_actors,
    "/api/v0/nodes": nodes.list_nodes,
    "/api/v0/workers": workers.list_workers,
    "/api/v0/jobs": jobs.list_jobs,
}
KEYS = ("actor_id", "worker_id", "node_id", "submission_id", "eventId", "nodeId")
SECOND_MS = 1000
TIMES = re.compile(r".*(start_time|end_time|_time_ms|startTime|endTime|endTimeMs|timestamp)")

NODE = r"\S+ /nodes\S* (?:summary\[\w+\]|detail)"

# "dialect path leaf" -> why the history can't say it, or says something else
EXCEPTIONS: dict[str, str] = {
    rf"{NODE}\.(?!raylet|hostname|ip$|actors).*": "measured by the node's agent",
    rf"{NODE}\.raylet\.(coreWorkersStats|numWorkers|storeStats|stateSnapshot|objectStore\w*Memory).*": (
        "measured by the raylet"
    ),
    rf"{NODE}\.raylet\.\w*(Port|SocketName|tempDir|sessionDir)": "ports and folders are in no event",
    r"\S+ \S+ (.*\.)?actors\.\w+\.mem\[.*": "measured by the node's agent",
    r"\S+ /nodes nodeLogicalResources.*": "known to the autoscaler only",
    r"export /nodes\S* (.*\.)?(hostname|nodeManagerHostname|hostNameList.*)": "host names are in no event of this dialect",
    r"export \S+ .*address\.(port|workerId)": "nor are an actor's port and worker, unless a task of it ran there",
    r"\S+ /logical/actors .*address\.(nodeId|workerId)": "where an actor that never started was about to",
    r"posted /api/\S+ .*\.runtime_env": "null or empty: a driver's environment doesn't tell which",
    r"posted /api/\S+ .*\.driver_agent_http_address": "only in a submission's own records",
    r"\S+ /api/v0/workers result\[\w{8}f{48}\]\.(node_id|pid|start_time_ms)": "of internal drivers only profiles tell",
    r"export /api/v0/workers result\[\w+\]\.(exit_\w+|\w+_time_ms|is_alive|pid)": "nothing tells of workers as such",
    r"export /api/v0/workers result\[\w+\]: missing": "a worker that ran no task",
    r"export /api/v0/workers (total|num_\w+)": "a worker that ran no task",
    rf"{NODE}\.raylet\.(nodeManager\w+|nodeName|startTimeMs|labels|resourcesTotal)": (
        "a live dashboard forgets what a dead node was; the history doesn't"
    ),
}


def ask(index: SessionIndex, url: str) -> Any:
    """What the views say to a recorded request, without envelopes; None for what isn't this test's."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    if parts.path in LISTS:
        return LISTS[parts.path](index, parse_list_options(query))
    if parts.path == "/api/v0/actors/summarize":
        return actors.summarize_actors(index, parse_summary_options(query))
    if parts.path == "/nodes":
        return nodes.nodes_summary(index) if "summary" in parts.query else nodes.nodes_host_names(index)
    if parts.path.startswith("/nodes/"):
        return nodes.node_detail(index, parts.path.rpartition("/")[2])
    others = {"/logical/actors": actors.logical_actors, "/events": events.all_events, "/api/jobs/": jobs.jobs_rest}
    return others[parts.path](index) if parts.path in others else None


def told(body: Any) -> Any:
    """A live answer without its envelopes."""
    if isinstance(body, dict) and "data" in body:
        body = body["data"]
    return body["result"] if isinstance(body, dict) and set(body) == {"result"} else body


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf); items of a list go by their id where they have one. A row's own path is a leaf too."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value:
        for at, item in enumerate(value):
            yield from leaves(item, f"{path}[{_name(item) or at}]")
    else:
        yield path, value


def _name(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    inside = item.get("raylet", item)
    return next((str(inside[key]) for key in KEYS if inside.get(key)), "")


def same(path: str, one: Any, other: Any) -> bool:
    """Times may differ by a second: the export dialect has no finer ones for actors."""
    if TIMES.fullmatch(path) and one and other and not isinstance(one, str | dict):
        return abs(one - other) <= SECOND_MS
    if path.endswith("endTimeMs"):
        return abs(int(one) - int(other)) <= SECOND_MS
    return bool(one == other)


def differences(capture: Path) -> list[str]:
    """``dialect path leaf: live, history`` of everything that differs or is missing."""
    index = index_of_capture(capture)
    dialect = "posted" if any(capture.glob("posts-*.jsonl")) else "export"
    lines = []
    for url, (status, body) in live_answers(capture).items():
        if status != 200 or re.search(r"limit=\d\b", url):
            continue
        ours = sent(ask(index, url))
        if ours is None:
            continue
        found = dict(leaves(ours))
        rows = {path.partition("]")[0] for path in found}
        for path, leaf in leaves(told(body)):
            row = path.partition("]")[0]
            where = f"{dialect} {urlsplit(url).path}"
            if "]" in path and row not in rows:
                lines.append(f"{where} {row}]: missing")
            elif path not in found or not same(path, leaf, found[path]):
                lines.append(f"{where} {path}: live {leaf!r}, history {found.get(path, 'nothing')!r}")
    return list(dict.fromkeys(lines))


def excuses(line: str) -> list[str]:
    return [pattern for pattern in EXCEPTIONS if re.fullmatch(pattern, line.split(": live ")[0])]


@pytest.mark.parametrize("capture", recorded(), ids=lambda path: path.name)
def test_a_recorded_session_is_answered_as_live(capture: Path) -> None:
    assert [line for line in differences(capture) if not excuses(line)] == []


@pytest.mark.skipif(captures() is None, reason="some exceptions occur in the larger captures only")
def test_every_exception_is_still_needed() -> None:
    used = {pattern for capture in recorded() for line in differences(capture) for pattern in excuses(line)}
    assert sorted(set(EXCEPTIONS) - used) == []


@pytest.mark.parametrize(
    ("recording", "url"),
    [(name, url) for name in ("posted", "export") for url in ("/api/v0/actors?detail=1", "/events")],
)
def test_where_events_carry_all_of_an_answer_every_leaf_is_equal(recording: str, url: str) -> None:
    live = dict(leaves(told(live_answers(DATA / recording)[url][1])))
    ours = dict(leaves(sent(ask(index_of_capture(DATA / recording), url))))
    assert ours == live

"""How alike two answers to one request are: the live dashboard's, as it was recorded, and the history's. Leaf by leaf.

A leaf is a value that is neither a list nor an object, under a path of keys. Rows of a list are matched by what
identifies them, so that their order doesn't matter. Left out is what no record carries and nobody polls: what single
processes did and used (``LEFT_OUT``). What a machine measured is compared as far as the recorded dashboard told the
same when it was polled: a second later it had measured anew (``polled``). Secrets are compared as Ray's own pages
show them, by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.rayhead import fetch

from pipeline.redact import redact_json

_PROCESS = (
    "processStats|numPendingTasks|usedResources|taskQueueLength|numExecutedTasks|numInFlight\\w*|num"
    "LocalObjects|numObjectRefsInScope|objectRefs|numRunningTasks|usedObjectStoreMemory|resourceIds|cmd|workerType|"
    "language|numInPlasma|numOwned\\w*|objectsTotal|numOfFailed\\w*|ipAddress|port|workerId"
)
_ONE = r"data\.(?:summary\[[^]]*\]|detail)"
LEFT_OUT: tuple[tuple[str, str], ...] = (
    (r"/nodes/.*", r"data\.detail\.workers"),
    (r"/nodes[?/].*", rf"{_ONE}\.raylet\.coreWorkersStats"),
    (r"/nodes[?/].*", rf"{_ONE}\.actors\.\w+\.(?:{_PROCESS})"),
    (r"/logical/actors.*", rf"data\.(?:actors\.\w+|detail)\.(?:{_PROCESS})"),
    (r".*", r"(?:.*\.)?(?:partial_failure_warning|warnings|msg)"),
)
POLLED = "/nodes?view=summary"
_MACHINE = (
    "now|cpus?|mem|hostMem|cgroupMem|shm|bootTime|loadAvg|disk|diskIo|diskIoSpeed|gpus|tpus|network|networkSpeed|"
    "cmdline|agent|gcs|raylet\\.(?:objectStore(?:Used|Available)Memory|storeStats|numWorkers)"
)
_FIGURES = re.compile(rf"(?:{_MACHINE})(?:[.\[].*)?")
_OF_NODE = re.compile(r"data\.(?:summary\[([^]]*)\]|detail)\.(.*)")
_OF_ACTOR = re.compile(r"data\.(?:(?:detail\.)?actors\.\w+|detail)\.(mem\b.*)")
_RULES = [(re.compile(url), re.compile(f"(?:{path})(?:[.\\[].*)?")) for url, path in LEFT_OUT]
_KEYS: tuple[tuple[str, ...], ...] = (
    ("task_id", "attempt_number"),
    ("actor_id",),
    ("worker_id",),
    ("placement_group_id",),
    ("eventId",),
    ("ph", "name", "ts", "pid", "tid"),
    ("state", "created_ms"),
    ("submission_id", "job_id"),
    ("event_name", "start_time"),
    ("node_id",),
    ("key",),
    ("raylet.nodeId",),
)
_SMALL = re.compile(r"[?&]limit=\d(?:&|$)")
_COUNTS = re.compile(r".*(?:total|num_\w+)")
_INDEX = re.compile(r"\[[^]]*\]")

Leaves = dict[str, Any]
NO_LEAVES: Leaves = {}


@dataclass
class Compared:
    """One request: its leaves that count, and those that are missing or other in the history."""

    url: str
    status: tuple[int, int]
    """Live, and the history's."""
    leaves: Leaves = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    other: dict[str, Any] = field(default_factory=dict)
    extra_rows: list[str] = field(default_factory=list)

    @property
    def equal(self) -> int:
        return len(self.leaves) - len(self.missing) - len(self.other)

    @property
    def share(self) -> float:
        return self.equal / len(self.leaves) if self.leaves else 1.0

    def kinds(self) -> dict[str, list[str]]:
        """The paths that differ by the kind of leaf (row keys left out)."""
        found: dict[str, list[str]] = {}
        for path in [*self.missing, *self.other]:
            found.setdefault(_INDEX.sub("[]", path), []).append(path)
        return found

    @property
    def wrong_status(self) -> bool:
        return self.status[0] != self.status[1]

    def lines(self) -> Iterator[str]:
        """What differs, in words."""
        for kind, paths in self.kinds().items():
            ours = self.other.get(paths[0], "(missing)")
            yield f"{self.url}: {len(paths)} x {kind}: live {self.leaves[paths[0]]!r:.120}, history {ours!r:.120}"
        for row in self.extra_rows[:5]:
            yield f"{self.url}: never live: {row}"


def share(compared: Iterable[Compared]) -> float:
    """Of all leaves, those that are equal."""
    leaves, equal = map(sum, zip(*((len(each.leaves), each.equal) for each in compared), strict=True))
    return equal / leaves


def mean(compared: Iterable[Compared]) -> float:
    """The mean of the requests' shares, of those that have leaves."""
    shares = [each.share for each in compared if each.leaves]
    return sum(shares) / len(shares)


Answered = tuple[int, bytes]


def ask(
    capture: Path, base: str, only: Callable[[str], bool] = lambda url: True
) -> list[tuple[str, Answered, Answered]]:
    """Send every recorded request to the history's session at ``base``: what was live, and what is answered."""
    asked = []
    for line in (capture / "live" / "index.tsv").read_text().splitlines():
        name, status, url = line.split("\t")
        if only(url):
            live = int(status), (capture / "live" / name).read_bytes()
            asked.append((url, live, fetch(base + url, timeout=60)))
    return asked


def polled(answer: Answered) -> Leaves:
    """What a dashboard told of its machines, for ``compare``: its answer to ``POLLED`` when the collector asked."""
    return leaves_of(POLLED, answer[1])


def polled_of(capture: Path) -> Leaves:
    """The same of a recording: its dashboard has one answer to all who ask."""
    rows = (line.split("\t") for line in (capture / "live" / "index.tsv").read_text().splitlines())
    (name,) = (name for name, _, url in rows if url == POLLED)
    return polled((200, (capture / "live" / name).read_bytes()))


def compare(
    url: str,
    live: Answered,
    ours: Answered,
    same: Callable[[Any, Any], bool] | None = None,
    machines: Leaves = NO_LEAVES,
) -> Compared:
    """One request's two answers; ``same`` says of two leaves whether they are (``alike`` unless given).

    ``machines`` is what was ``polled``; without it their figures are left out.
    """
    same = same or alike
    compared = Compared(url, (live[0], ours[0]))
    expected, found = leaves_of(url, live[1]), leaves_of(url, ours[1])
    rules = [path for where, path in _RULES if where.match(url)]
    small = _SMALL.search(url)
    for path, value in expected.items():
        if any(rule.fullmatch(path) for rule in rules) or (small and not _COUNTS.fullmatch(path)):
            continue
        if (figure := _figure(url, path, expected)) is not None and machines.get(figure) != value:
            continue
        compared.leaves[path] = value
        if path not in found:
            compared.missing.append(path)
        elif not same(value, found[path]):
            compared.other[path] = found[path]
    if not small and live[0] == ours[0]:
        told = [path for path in found if not any(rule.fullmatch(path) for rule in rules)]
        compared.extra_rows = sorted(_rows(told) - _rows(expected))
    return compared


def _figure(url: str, path: str, answer: Leaves) -> str | None:
    """Under which path ``POLLED`` tells the same; None of what isn't measured."""
    if url.startswith("/nodes"):
        if path.startswith("data.nodeLogicalResources."):
            return path
        found = _OF_NODE.fullmatch(path)
        if found and _FIGURES.fullmatch(found[2]):
            return f"data.summary[{found[1] or answer['data.detail.raylet.nodeId']}].{found[2]}"
    if url.startswith(("/nodes/", "/logical/actors")) and (found := _OF_ACTOR.fullmatch(path)):
        return f"data.summary[{answer[path.removesuffix(found[1]) + 'address.nodeId']}].{found[1]}"
    return None


def leaves_of(url: str, body: bytes) -> Leaves:
    """The leaves of an answer; one leaf a line where it isn't JSON."""
    found: Leaves = {}
    try:
        value = json.loads(body)
    except ValueError:
        return {f"line {number}": line for number, line in enumerate(body.decode(errors="replace").splitlines())}
    if "/timeline" in url and isinstance(value, list):
        value = _named_trace(value)
    if url.startswith("/api/v0/logs?"):
        value["data"]["result"] = {group: sorted(names) for group, names in value["data"]["result"].items()}
    _flatten(redact_json(value), "", found)
    return found


def _flatten(value: Any, path: str, found: Leaves) -> None:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            inside = f"{path}.{key}" if path else str(key)
            # Ray's processes have hundreds of empty arguments where their title was written over them.
            _flatten(" ".join(item).rstrip() if key == "cmdline" and item else item, inside, found)
    elif isinstance(value, list) and value:
        seen: dict[str, int] = {}
        for name, item in zip(_names(value), value, strict=True):
            seen[name] = seen.get(name, 0) + 1
            again = f"#{seen[name]}" if seen[name] > 1 else ""
            _flatten(item, f"{path}[{name}{again}]", found)
    else:
        found[path] = value


def _names(items: list[Any]) -> list[str]:
    """What identifies each item: by the first keys of which every item has one, otherwise its place."""
    for keys in _KEYS:
        told = [[_at(item, key) for key in keys] for item in items]
        if all(any(part is not None for part in parts) for parts in told):
            return ["|".join(map(str, parts)) for parts in told]
    return [str(place) for place in range(len(items))]


def _at(item: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        item = item.get(part) if isinstance(item, dict) else None
    return item


def alike(one: Any, other: Any) -> bool:
    """The same value, or a number so near that it makes no difference to who reads it: of a time in ms, two seconds."""
    if _is_number(one) and _is_number(other):
        return bool(abs(one - other) <= max(1e-9 * abs(one), 1e-6))
    return bool(one == other)


def exactly(one: Any, other: Any) -> bool:
    """The same value, whatever sum of doubles it came from."""
    if isinstance(one, float) and _is_number(other):
        return bool(abs(one - other) <= 1e-12 * abs(one))
    return type(one) is type(other) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rows(paths: Iterable[str]) -> set[str]:
    return {path.partition("]")[0] for path in paths if "[" in path}


def _named_trace(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chrome numbers processes and threads as they come: the names that the trace gives them instead."""
    names = {
        (event["name"], event.get("pid"), event.get("tid")): event.get("args", {}).get("name")
        for event in events
        if event.get("ph") == "M"
    }
    return [
        event
        | {
            "pid": names.get(("process_name", event.get("pid"), None), event.get("pid")),
            "tid": names.get(("thread_name", event.get("pid"), event.get("tid")), event.get("tid")),
        }
        for event in events
        if event.get("ph") != "M"
    ]

"""``docs/parity.md`` as the tests read it: what may differ, and what each dialect alone doesn't carry."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from support.captures import ROOT
from support.parity import Compared

DOCUMENT = ROOT / "docs" / "parity.md"
DIALECTS = ("posted", "export")
CLOSE_MS = 20
LISTS = {
    "tasks": "/api/v0/tasks",
    "actors": "/api/v0/actors",
    "nodes": "/api/v0/nodes",
    "workers": "/api/v0/workers",
    "jobs": "/api/v0/jobs",
    "placement groups": "/api/v0/placement_groups",
    "runtime environments": "/api/v0/runtime_envs",
    "the pages' actors": "/logical/actors",
}
_COLUMN = re.compile(r"data\.(?:result\.result\[[^]]*\]|actors\.\w+)\.(\w+)")

Untold = dict[str, frozenset[str]]


def table(heading: str) -> list[list[str]]:
    """The rows of the table below a heading of the document, without its head."""
    below = DOCUMENT.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in below.splitlines() if line.startswith("|")]
    assert len(lines) > 2, f"docs/parity.md has no table below {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def quoted(cell: str) -> frozenset[str]:
    """What stands in backticks."""
    return frozenset(re.findall(r"`([^`]+)`", cell))


def untold_by(dialect: str) -> Untold:
    """By list: the columns that a dialect alone doesn't carry for every row, as the document says."""
    at = 1 + DIALECTS.index(dialect)
    return {row[0]: quoted(row[at]) for row in table("What each dialect carries")}


def is_a_list(url: str) -> bool:
    """A whole list with every column."""
    path, _, query = url.partition("?")
    detail = query.startswith("detail=1") and "filter" not in query
    return path in LISTS.values() and (detail or path == LISTS["the pages' actors"])


def near(one: Any, other: Any) -> bool:
    """The same, or a time a few milliseconds off."""
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    if numbers and not isinstance(one, bool) and not isinstance(other, bool):
        return abs(one - other) <= (CLOSE_MS if one > 1e12 else 1e-6)
    return bool(one == other)


def found_untold(compared: Iterable[Compared]) -> dict[tuple[str, str], tuple[int, int]]:
    """(list, column) -> how many leaves differ, of how many; only where any does."""
    told: dict[tuple[str, str], list[int]] = {}
    names = {path: name for name, path in LISTS.items()}
    for each in compared:
        for path in each.leaves:
            if column := _COLUMN.match(path):
                counts = told.setdefault((names[each.url.partition("?")[0]], column[1]), [0, 0])
                counts[0] += path in each.other or path in each.missing
                counts[1] += 1
    return {key: (differ, leaves) for key, (differ, leaves) in told.items() if differ}

"""``/api/v0/tasks/summarize``: how many attempts of each function, or under each parent, are in which state.

By function every attempt counts, however many there are: counting is a histogram over codes. By lineage the
answer holds a node for each task, so beyond 10,000 attempts (Ray's bound on any answer) it shows the newest
and those they descend from, and says so.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from api.index.tasks import TaskTable
from api.query.query import MAX_LIMIT, BadQuery, SummaryOptions, envelope
from api.views.lineage import LineageTask, by_lineage
from api.views.task_codes import Coded, Rows, TaskCodes
from api.views.task_rows import creation_time_ms, parent_task_id, task_id
from api.views.task_select import Selection, first, newest, select, with_ancestors
from pipeline.events import TASK_STATUS

MISSING_DATA = "There is missing data in this aggregation. Possibly due to task data being evicted to preserve memory."
_BY_NAME = ("func_name", "task_name")
_STATES = len(TASK_STATUS)


class ActorDefinition(Protocol):
    """What an actor is."""

    @property
    def name(self) -> str: ...
    @property
    def class_name(self) -> str: ...


class Place(Protocol):
    """Where an actor lives, and what it calls itself there."""

    @property
    def repr_name(self) -> str: ...


class Actor(Protocol):
    """An actor, of which neither part may be known yet."""

    @property
    def definition(self) -> ActorDefinition | None: ...
    @property
    def place(self) -> Place | None: ...


class Actors(Protocol):
    """Actors by id."""

    def get(self, actor_id: bytes, /) -> Actor | None: ...


class LineageSource(Protocol):
    """What a summary asks of a session."""

    @property
    def actors(self) -> Actors: ...

    def prepared_tasks(self) -> TaskTable: ...


def summarize_tasks(index: LineageSource, options: SummaryOptions) -> dict[str, Any]:
    """Ray's SummaryApiResponse."""
    summary_by = options.summary_by or "func_name"
    if summary_by not in (*_BY_NAME, "lineage"):
        raise BadQuery('summary_by must be one of "func_name", "task_name", or "lineage".')
    codes = TaskCodes(index.prepared_tasks(), index.actors.get)
    selection = select(codes, options.filters, exclude_driver=True)
    if summary_by in _BY_NAME:
        return _answer(selection, _by_name(codes, selection.rows) | {"summary_by": "func_name"}, False)
    rows = selection.rows
    if len(rows) > MAX_LIMIT:
        rows = with_ancestors(codes, newest(codes.tasks, rows, MAX_LIMIT), 2 * MAX_LIMIT)
    tasks = _lineage_tasks(codes, first(codes.tasks, rows, len(rows)))
    tree = by_lineage(tasks, lambda actor_id: _actor_name(index.actors, actor_id))
    totals = _totals(codes, rows)
    summary = {"summary": tree.summary, **totals, "summary_by": "lineage"}
    return _answer(selection, summary, tree.cut or sum(totals.values()) < len(selection.rows))


def _answer(selection: Selection, summary: dict[str, Any], incomplete: bool) -> dict[str, Any]:
    result = {"node_id_to_summary": {"cluster": summary}}
    answer = envelope(selection.at_source, selection.at_source, len(selection.rows), result)
    return answer | {"warnings": [MISSING_DATA]} if incomplete else answer


def _by_name(codes: TaskCodes, rows: Rows) -> dict[str, Any]:
    label = labels(codes, rows)
    states = codes.column("state", rows).codes
    counts = np.bincount(label.codes * _STATES + states)
    counts = np.pad(counts, (0, -len(counts) % _STATES)).reshape(-1, _STATES)
    summary: dict[str, dict[str, Any]] = {}
    for code in np.flatnonzero(counts.any(axis=1)).tolist():
        there = np.flatnonzero(counts[code]).tolist()
        summary[label.cell(code)] = {
            "func_or_class_name": label.cell(code),
            "type": "",
            "state_counts": {TASK_STATUS[state]: int(counts[code, state]) for state in there},
        }
    for code, kind in _types(codes, rows, label).items():
        summary[label.cell(code)]["type"] = kind
    return {"summary": summary, **_totals(codes, rows)}


def labels(codes: TaskCodes, rows: Rows) -> Coded:
    """The name shown, or the function's where it is empty."""
    names = codes.column("name", rows)
    empty = np.array([not names.cell(code) for code in range(int(names.codes.max(initial=0)) + 1)])
    blank = empty[names.codes]
    if not blank.any():
        return names
    texts = [names.cell(code) for code in range(len(empty))]
    known = {text: code for code, text in reversed(list(enumerate(texts)))}
    functions = codes.column("func_or_class_name", rows[blank]).cells()
    for text in functions:
        if text not in known:
            known[text] = len(texts)
            texts.append(text)
    labelled = names.codes.copy()
    labelled[blank] = [known[text] for text in functions]
    return Coded(labelled, texts.__getitem__)


def _types(codes: TaskCodes, rows: Rows, label: Coded) -> dict[int, str]:
    """Each label's type: that of its first attempt, where they differ."""
    types = codes.column("type", rows)
    width = int(types.codes.max(initial=0)) + 1
    found: dict[int, str] = {}
    mixed = set()
    for pair in np.unique(label.codes * width + types.codes).tolist():
        code, kind = pair // width, types.cell(pair % width)
        if found.setdefault(code, kind) != kind:
            mixed.add(code)
    for code in mixed:
        head = first(codes.tasks, rows[label.codes == code], 1)
        found[code] = codes.column("type", head).cells()[0]
    return found


def _totals(codes: TaskCodes, rows: Rows) -> dict[str, int]:
    types = codes.column("type", rows)
    count: dict[str, int] = {}
    for code, number in enumerate(np.bincount(types.codes).tolist()):
        if number:
            count[types.cell(code)] = count.get(types.cell(code), 0) + number
    return {
        "total_tasks": count.get("NORMAL_TASK", 0),
        "total_actor_tasks": count.get("ACTOR_TASK", 0),
        "total_actor_scheduled": count.get("ACTOR_CREATION_TASK", 0),
    }


def _lineage_tasks(codes: TaskCodes, rows: Rows) -> list[LineageTask]:
    columns = ("name", "func_or_class_name", "type", "state", "actor_id")
    cells = zip(*(codes.column(name, rows).cells() for name in columns), strict=True)
    return [
        LineageTask(
            task_id=task_id(codes, row),
            name=name or function,
            function=function,
            type=kind,
            state=state,
            actor_id=actor_id,
            parent_task_id=parent_task_id(codes, row),
            created_ms=None if (created := creation_time_ms(codes, row)) is None else int(created),
        )
        for row, (name, function, kind, state, actor_id) in zip(rows.tolist(), cells, strict=True)
    ]


def _actor_name(actors: Actors, actor_id: str) -> str | None:
    """What Ray calls an actor here: what it calls itself, else its class; None for one that isn't known."""
    actor = actors.get(bytes.fromhex(actor_id))
    if actor is None:
        return None
    own = actor.place.repr_name if actor.place is not None else ""
    return own or (actor.definition.class_name if actor.definition is not None else "")

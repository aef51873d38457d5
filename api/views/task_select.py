"""Which task attempts a request is about: filters, order and limit over columns, without making a row.

Promises: the same attempts as ``query.filter_rows`` over the rows shown, in Ray's order: by task id, of one
task the newest attempt first (so ``limit=1`` shows the newest).

One thing differs: Ray's source knows an actor's method only by its plain name, so that in Ray no filter finds
the name that is shown where the actor has a name of its own. Here the name that is shown is found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from api.index.tasks import TASK_ID_BYTES, TaskTable
from api.query.query import Filter, Value, check_source, matches, typed_value, unsupported_column
from api.query.schemas import TASKS
from api.views.task_codes import Coded, Rows, TaskCodes
from pipeline.events import TASK_STATUS

_CREATED = TASK_STATUS.index("PENDING_ARGS_AVAIL")
_MANY_CODES = 1 << 24


class Selection(Struct, frozen=True):
    """The attempts that passed, in no order. ``at_source``: how many passed the filters that Ray's source applies."""

    rows: Rows
    at_source: int


def select(codes: TaskCodes, filters: Sequence[Filter], exclude_driver: bool) -> Selection:
    """The attempts that pass every filter."""
    handed = [item for item, _ in check_source(TASKS, filters)]
    others = [item for item in filters if item not in handed]
    typed = {item: typed_value(item, TASKS.column(item.column)) for item in filters}
    rows = codes.listed(exclude_driver)
    for item in handed:
        rows = _passing(codes, rows, item, typed[item])
    at_source = len(rows)
    for item in others:
        rows = _passing(codes, rows, item, typed[item])
    return Selection(rows, at_source)


def _passing(codes: TaskCodes, rows: Rows, item: Filter, value: Value) -> Rows:
    name = item.column.lower()
    if not len(rows):
        return rows
    if name not in TASKS.filterable():
        raise unsupported_column(name, TASKS)
    if name == "task_id":
        return rows[_ids_match(codes.tasks.task_id.array(len(codes.tasks))[rows], item.predicate, str(value))]
    if name == "parent_task_id":
        return rows[_ids_match(codes.tasks.parent_id.array(len(codes.tasks))[rows], item.predicate, str(value))]
    if name == "error_type":  # Ray's row has it only where there is an error, and what isn't there passes no filter
        rows = rows[codes.column(name, rows).codes > 0]
    return rows[_codes_match(codes.column(name, rows), item.predicate, value)]


def _codes_match(column: Coded, predicate: str, value: Value) -> NDArray[np.bool_]:
    codes = column.codes
    if int(codes.max(initial=0)) >= _MANY_CODES:
        present, inverse = np.unique(codes, return_inverse=True)
        return np.array([matches(column.cell(code), predicate, value) for code in present.tolist()])[inverse]
    there = np.zeros(int(codes.max(initial=0)) + 1, np.bool_)
    there[codes] = True
    passing = np.zeros(len(there), np.bool_)
    for code in np.flatnonzero(there).tolist():
        passing[code] = matches(column.cell(code), predicate, value)
    return passing[codes]


def _ids_match(ids: NDArray[np.uint8], predicate: str, text: str) -> NDArray[np.bool_]:
    wanted = _id_of(text)
    if wanted is None:
        equal = np.zeros(len(ids), np.bool_)
    else:
        words = ids.view(np.uint64)
        sought = np.frombuffer(wanted, np.uint64)
        equal = words[:, 0] == sought[0]
        equal &= (words[:, 1] == sought[1]) & (words[:, 2] == sought[2])
    return equal if predicate == "=" else ~equal


def _id_of(text: str) -> bytes | None:
    """The id that is shown as ``text``; an id that was never told is all zeros here and the empty text in an answer."""
    if not text:
        return bytes(TASK_ID_BYTES)
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return None
    return found if len(text) == 2 * TASK_ID_BYTES == 2 * len(found) else None


def first(tasks: TaskTable, rows: Rows, limit: int) -> Rows:
    """The first ``limit`` of ``rows`` in Ray's order, in that order."""
    if not limit:
        return rows[:0]
    ids = tasks.task_id.array(len(tasks))
    words = ids.view(">u8")
    leading = words[rows, 0].astype(np.uint64)
    if limit < len(rows):
        last = np.partition(leading, limit - 1)[limit - 1]
        near = leading <= last
        rows, leading = rows[near], leading[near]
    newest = -tasks.attempt.array(len(tasks))[rows].astype(np.int64)
    order = np.lexsort((newest, words[rows, 2], words[rows, 1], leading))
    return rows[order[:limit]]


def newest(tasks: TaskTable, rows: Rows, limit: int) -> Rows:
    """The ``limit`` of ``rows`` that were created last, in no order."""
    created = tasks.times[_CREATED]
    if len(rows) <= limit or created is None:
        return first(tasks, rows, limit)
    times = created.array(len(tasks))[rows]
    last = np.partition(times, len(rows) - limit)[len(rows) - limit]
    later, same = rows[times > last], rows[times == last]
    return np.concatenate((later, first(tasks, same, limit - len(later))))


def with_ancestors(codes: TaskCodes, rows: Rows, limit: int) -> Rows:
    """``rows`` and the attempts they descend from (by parent, or as an actor's tasks), up to ``limit`` together."""
    tasks = codes.tasks
    creations = codes.listed(exclude_driver=True)
    creations = creations[_codes_match(codes.column("type", creations), "=", "ACTOR_CREATION_TASK")]
    creation_of = dict(zip(tasks.actor.array(len(tasks))[creations].tolist(), creations.tolist(), strict=True))
    found = dict.fromkeys(rows.tolist())
    for row in (pending := list(found)):  # grows as it goes
        for other in (tasks.row_of(tasks.parent_id[row]), creation_of.get(tasks.actor.cells[row])):
            if other is not None and other not in found and len(found) < limit and tasks.template.cells[other]:
                found[other] = None
                pending.append(other)
    return np.array(list(found), np.intp)

"""Which task attempts come where, beyond Ray's own order: any column, places in it, and time ranges, in arrays.

A column becomes an array of numbers that sort as its cells do: a time is its own number; a cell of which there are
few kinds becomes its kind's place among them. What isn't there is infinite, and so last whichever way. Of attempts
alike in the column the task id decides, and of one task the newest attempt comes first, as in Ray.

An attempt lives from the first time that anything says of it to its end; while it has none, it goes on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from api.index.outcome import FAILED, FINISHED
from api.index.tasks import TASK_ID_BYTES, TaskTable
from api.query.paging import Beyond, Key, Order, Place, sort_key
from api.query.refusal import BadQuery
from api.query.schemas import TASKS
from api.views.task_codes import Rows, TaskCodes
from api.views.task_rows import TIMES, error_codes, make_cells, times_ms

MAX_NESTED = 100_000
"""Attempts that are put in order by a column that has to be written out for each of them."""
_WRITTEN = ("events", "profiling_data", "task_log_info")
_OWN = "task_id"
_NEVER = np.iinfo(np.int64).max
_BAD_PLACE = "page_token isn't one that was given out for this list, in this order, with these filters"

Keys = NDArray[np.float64]
Words = NDArray[np.uint64]


class _Sortable(Struct, frozen=True):
    """Rows with what they are sorted by, smallest first: ``keys``, then the three ``words`` of the id, then ``attempts``."""

    rows: Rows
    keys: Keys
    words: tuple[Words, Words, Words]
    attempts: NDArray[np.int64]

    def __getitem__(self, which: Any) -> _Sortable:
        first, second, third = self.words
        words = first[which], second[which], third[which]
        return _Sortable(self.rows[which], self.keys[which], words, self.attempts[which])


def lived_in(codes: TaskCodes, rows: Rows, beyond: Beyond) -> Rows:
    """Those of ``rows`` whose life touches the range that is asked for."""
    begin, end = _lives(codes, rows)
    inside = begin != np.inf
    if beyond.end_ms is not None:
        inside &= begin <= beyond.end_ms
    if beyond.start_ms is not None:
        inside &= np.maximum(begin, end) >= beyond.start_ms
    chosen: Rows = rows[inside]
    return chosen


def _lives(codes: TaskCodes, rows: Rows) -> tuple[Keys, Keys]:
    """When attempts began and ended, in the ms that are shown; infinite where never."""
    tasks, outcome = codes.tasks, codes.outcome
    count = len(tasks)
    begin = np.full(len(rows), _NEVER, np.int64)
    for column in tasks.times:
        if column is not None:
            at_ns = column.array(count)[rows]
            np.minimum(begin, at_ns, out=begin, where=at_ns > 0)
    implied = outcome.implied_ns[rows]
    np.minimum(begin, implied, out=begin, where=implied > 0)
    end = times_ms(codes, rows, FAILED, FINISHED)
    began = np.floor_divide(begin.astype(np.float64), 1e6)
    return np.where(begin == _NEVER, np.inf, began), np.where(np.isnan(end), np.inf, end)


def in_order(codes: TaskCodes, rows: Rows, beyond: Beyond) -> tuple[Rows, bool]:
    """The rows of the page that is asked for, in order, and whether more come after it."""
    order = beyond.order or Order(_OWN)
    keys, reached = _keys(codes, rows, order, beyond.after)
    flip = order.column == _OWN and order.descending
    found = _sortable(codes.tasks, rows, keys, flip=flip)
    if beyond.after is not None:
        found = found[_after(found, reached, _parts(beyond.after.name, flip=flip))]
    stop = len(found.rows) if beyond.limit is None else beyond.offset + beyond.limit
    more = 0 < len(found.rows) > stop
    return _first(found, stop).rows[beyond.offset :], more


def place_of(codes: TaskCodes, row: int, order: Order | None) -> Place:
    """Where a row stands."""
    name = f"{codes.tasks.task_id[row].hex()}:{codes.tasks.attempt.cells[row]}"
    if order is None or order.column == _OWN:
        return Place(None, name)
    ((cell,),) = make_cells(codes, np.array([row], np.intp), (order.column,))
    return Place(sort_key(cell, TASKS.column(order.column)), name)


# -- what rows are sorted by ------------------------------------------------------------------------


def _keys(codes: TaskCodes, rows: Rows, order: Order, after: Place | None) -> tuple[Keys, float]:
    """The rows' numbers, and that of the place to go on from."""
    column, sign = order.column, -1.0 if order.descending else 1.0
    reached = after.key if after is not None else None
    if column == _OWN:
        return np.zeros(len(rows)), 0.0
    if column in TIMES:
        keys = times_ms(codes, rows, *TIMES[column])
        return np.where(np.isnan(keys), np.inf, sign * keys), _number(reached, sign)
    if column == "parent_task_id":
        return _ranked_ids(codes.tasks.parent_id.array(len(codes.tasks))[rows], reached, sign)
    kinds, cell = _coded(codes, rows, column)
    return _ranked(kinds, cell, column, reached, sign)


def _number(key: Key | None, sign: float) -> float:
    if key is None:
        return np.inf
    if isinstance(key[1], str):
        raise BadQuery(_BAD_PLACE)
    return sign * float(key[1])


def _coded(codes: TaskCodes, rows: Rows, column: str) -> tuple[NDArray[Any], Callable[[int], Any]]:
    """A column as small numbers and what each of them shows."""
    if column == "error_message":
        return error_codes(codes, rows)
    if column not in _WRITTEN:
        coded = codes.column(column, rows)
        return coded.codes, coded.cell
    if len(rows) > MAX_NESTED:
        raise BadQuery(
            f"sort_by {column}: {len(rows)} tasks are too many to be sorted by what is written out for each, "
            f"the limit is {MAX_NESTED}. Use filters, or another column"
        )
    (cells,) = make_cells(codes, rows, (column,))
    return np.arange(len(rows)), cells.__getitem__


def _ranked(
    kinds: NDArray[Any], cell: Callable[[int], Any], column: str, reached: Key | None, sign: float
) -> tuple[Keys, float]:
    present, inverse = _distinct(kinds)
    keys = [sort_key(cell(code), TASKS.column(column)) for code in present.tolist()]
    known = sorted({key for key in keys if key is not None})
    ranks = {key: 2.0 * rank for rank, key in enumerate(known)}
    numbers = np.array([np.inf if key is None else sign * ranks[key] for key in keys], np.float64)
    if reached is None:
        return numbers[inverse], np.inf
    at = bisect_left(known, reached)
    exact = at < len(known) and known[at] == reached
    return numbers[inverse], sign * (2.0 * at - (0 if exact else 1))


def _distinct(kinds: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The codes there are, and each row's place among them; without sorting where they are dense."""
    most = int(kinds.max(initial=0))
    if most > 4 * len(kinds) + 1024:
        return np.unique(kinds, return_inverse=True)
    there = np.zeros(most + 1, np.bool_)
    there[kinds] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[kinds]


def _ranked_ids(ids: NDArray[np.uint8], reached: Key | None, sign: float) -> tuple[Keys, float]:
    """Ids as their places among all, that of the page before included."""
    if reached is not None:
        ids = np.vstack((ids, np.frombuffer(_id(str(reached[1]) or "0" * 2 * TASK_ID_BYTES), np.uint8)))
    words = [word.astype(np.uint64) for word in ids.view(">u8").T]
    order = np.lexsort(words[::-1])
    changes = np.zeros(len(ids), np.float64)
    for word in words:
        sorted_ = word[order]
        changes[1:][sorted_[1:] != sorted_[:-1]] = 1.0
    ranks = np.empty(len(ids))
    ranks[order] = sign * np.cumsum(changes)
    return (ranks, np.inf) if reached is None else (ranks[:-1], float(ranks[-1]))


def _id(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != TASK_ID_BYTES:
        raise BadQuery(_BAD_PLACE)
    return value


# -- sorting ----------------------------------------------------------------------------------------


def _sortable(tasks: TaskTable, rows: Rows, keys: Keys, *, flip: bool) -> _Sortable:
    ids = tasks.task_id.array(len(tasks)).view(">u8")
    first, second, third = (ids[:, word][rows].astype(np.uint64) for word in range(3))
    words = (~first, ~second, ~third) if flip else (first, second, third)
    return _Sortable(rows, keys, words, -tasks.attempt.array(len(tasks))[rows].astype(np.int64))


def _parts(name: str, *, flip: bool) -> tuple[list[int], int]:
    text, _, attempt = name.partition(":")
    words = np.frombuffer(_id(text), ">u8").tolist()
    if not attempt.isascii() or not attempt.isdigit() or len(attempt) > 10:
        raise BadQuery(_BAD_PLACE)
    return [word ^ (1 << 64) - 1 if flip else word for word in words], -int(attempt)


def _after(found: _Sortable, key: float, name: tuple[list[int], int]) -> NDArray[np.bool_]:
    """Which rows come after a place."""
    (first, second, third), attempt = ([np.uint64(word) for word in name[0]], name[1])
    one, two, three = found.words
    last = (three > third) | ((three == third) & (found.attempts > attempt))
    later = (one > first) | ((one == first) & ((two > second) | ((two == second) & last)))
    passed: NDArray[np.bool_] = (found.keys > key) | ((found.keys == key) & later)
    return passed


def _first(found: _Sortable, count: int) -> _Sortable:
    """The first ``count``, in order."""
    if count < len(found.rows):
        found = found[_near(found, count)]
    return found[_sorted(found)[:count]]


def _near(found: _Sortable, count: int) -> NDArray[np.bool_]:
    """Few rows, the first ``count`` among them: those up to the last one's key, of that key those up to its id."""
    if not count:
        return np.zeros(len(found.rows), np.bool_)
    last = np.partition(found.keys, count - 1)[count - 1]
    before, same = found.keys < last, found.keys == last
    lacking = count - int(before.sum())
    leading = found.words[0][same]
    if lacking < len(leading):
        same &= found.words[0] <= np.partition(leading, lacking - 1)[lacking - 1]
    near: NDArray[np.bool_] = before | same
    return near


def _sorted(found: _Sortable) -> NDArray[np.intp]:
    """By key and the first word of the id, which all but decides; then those that are still alike, by the rest."""
    one, two, three = found.words
    order = np.lexsort((one, found.keys))
    same = (found.keys[order][1:] == found.keys[order][:-1]) & (one[order][1:] == one[order][:-1])
    if same.any():
        alike = np.zeros(len(order), np.bool_)
        alike[1:] |= same
        alike[:-1] |= same
        rest = order[alike]
        order[alike] = rest[np.lexsort((found.attempts[rest], three[rest], two[rest], one[rest], found.keys[rest]))]
    return order

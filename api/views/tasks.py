"""``/api/v0/tasks``: Ray's list of task attempts."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from api.index.tasks import TaskTable
from api.query.paging import Beyond, Chosen
from api.query.query import ListOptions, chosen_answer, envelope
from api.query.schemas import TASKS
from api.views.task_codes import ActorLike, Rows, TaskCodes
from api.views.task_order import in_order, lived_in, place_of
from api.views.task_rows import make_cells, make_rows
from api.views.task_select import Selection, first, select


class Actors(Protocol):
    """Actors by id."""

    def get(self, actor_id: bytes, /) -> ActorLike | None: ...


class TaskSource(Protocol):
    """What the views of tasks ask of a session.

    ``prepared_tasks`` is the table with the deaths of workers and the ends of jobs taken into account, ``log_stem`` the
    path of a worker's log on its node without its suffix, empty where it isn't known.
    """

    @property
    def actors(self) -> Actors: ...

    def prepared_tasks(self) -> TaskTable: ...
    def log_stem(self, worker_id: bytes, /) -> str: ...


def task_codes(index: TaskSource) -> TaskCodes:
    """The columns of a session's tasks, as of now."""
    return TaskCodes(index.prepared_tasks(), index.actors.get, index.log_stem)


def list_tasks(index: TaskSource, options: ListOptions) -> dict[str, Any]:
    """Ray's ListApiResponse. Every attempt is searched; ``total`` counts those that pass what Ray's source filters by."""
    codes = task_codes(index)
    selection = select(codes, options.filters, options.exclude_driver)
    if options.beyond is not None:
        return _list_beyond(index, codes, selection, options, options.beyond)
    shown = first(codes.tasks, selection.rows, options.limit)
    result = make_rows(codes, shown, options.detail)
    return envelope(selection.at_source, selection.at_source, len(selection.rows), result)


def _list_beyond(
    index: TaskSource, codes: TaskCodes, selection: Selection, options: ListOptions, beyond: Beyond
) -> dict[str, Any]:
    rows = lived_in(codes, selection.rows, beyond) if beyond.ranged else selection.rows
    shown, more = in_order(codes, rows, beyond)
    last = int(shown[-1]) if more and len(shown) else None
    token = beyond.token(place_of(codes, last, beyond.order)) if last is not None else None
    chosen = ChosenTasks(index, shown, beyond.fields or TASKS.shown(options.detail))
    return chosen_answer((selection.at_source, selection.at_source, len(rows)), chosen, token, beyond)


class ChosenTasks(Chosen[int]):
    """The attempts of an answer, in order, made when they are asked for, of what is known then."""

    def __init__(self, index: TaskSource, rows: Rows, columns: tuple[str, ...]) -> None:
        super().__init__((), lambda row: {}, columns)
        self._index = index
        self._rows = rows.astype(np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def cells(self, start: int, stop: int) -> list[list[Any]]:
        return make_cells(task_codes(self._index), self._rows[start:stop].astype(np.intp), self.columns)

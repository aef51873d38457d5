"""``/api/v0/tasks``: Ray's list of task attempts."""

from __future__ import annotations

from typing import Any, Protocol

from api.index.tasks import TaskTable
from api.query import ListOptions, envelope
from api.views.task_codes import ActorLike, TaskCodes
from api.views.task_rows import make_rows
from api.views.task_select import first, select


class Actors(Protocol):
    """Actors by id."""

    def get(self, actor_id: bytes, /) -> ActorLike | None: ...


class TaskSource(Protocol):
    """What the views of tasks ask of a session.

    ``prepared_tasks`` is the table with the deaths of workers and the ends of jobs taken into account.
    """

    @property
    def actors(self) -> Actors: ...

    def prepared_tasks(self) -> TaskTable: ...


def task_codes(index: TaskSource) -> TaskCodes:
    """The columns of a session's tasks, as of now."""
    return TaskCodes(index.prepared_tasks(), index.actors.get)


def list_tasks(index: TaskSource, options: ListOptions) -> dict[str, Any]:
    """Ray's ListApiResponse. Every attempt is searched; ``total`` counts those that pass what Ray's source filters by."""
    codes = task_codes(index)
    selection = select(codes, options.filters, options.exclude_driver)
    shown = first(codes.tasks, selection.rows, options.limit)
    result = make_rows(codes, shown, options.detail)
    return envelope(selection.at_source, selection.at_source, len(selection.rows), result)

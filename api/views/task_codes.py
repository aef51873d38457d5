"""The columns of a task row as codes: a small number a row, and what each number shows.

Most cells of a million rows are one of a few values (a state, a function's name, a node). Here such a column
is an array of codes and a function from code to cell, so that a filter is decided once a value, a summary is
a count of codes, and a cell is made once for all rows that show it.

Owns how the table's codes become Ray's cells (``protobuf_to_task_state_dict``): what is null and what is
empty, the name of an actor's task, the error that an implied failure shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from api.index.definitions import Template
from api.index.outcome import FAILED, IMPLIED_ERROR_TYPE, REPORTED
from api.index.tasks import TaskTable
from api.query.columns import Interner
from pipeline.events import TASK_STATUS
from pipeline.redact import show_masked

Rows = NDArray[np.intp]
Codes = NDArray[Any]

_FEW = 4
"""So many times fewer rows than there are: their names are worked out alone."""
_DEFAULT_CONFIG = {"setup_timeout_seconds": 600, "eager_install": True, "log_files": []}


class Named(Protocol):
    """A definition that carries a name."""

    @property
    def name(self) -> str: ...


class Placed(Protocol):
    """Where an actor lives, and what it calls itself there."""

    @property
    def repr_name(self) -> str: ...


class ActorLike(Protocol):
    """An actor, of which neither part may be known."""

    @property
    def definition(self) -> Named | None: ...
    @property
    def place(self) -> Placed | None: ...


FindActor = Callable[[bytes], ActorLike | None]


class Coded(Struct, frozen=True):
    """A column of some rows: ``cell(code)`` is what a row of that code shows."""

    codes: Codes
    cell: Callable[[int], Any]

    def cells(self) -> list[Any]:
        """What each row shows. Rows of one code share their cell."""
        codes = self.codes.tolist()
        made = {code: self.cell(code) for code in set(codes)}
        return [made[code] for code in codes]


class TaskCodes:
    """The columns of one table at one moment.

    ``find_actor`` names actors where the dialect doesn't name tasks, ``log_stem`` the logs of workers where it doesn't.
    """

    def __init__(
        self, tasks: TaskTable, find_actor: FindActor, log_stem: Callable[[bytes], str] = lambda _: ""
    ) -> None:
        self.tasks = tasks
        self.log_stem = log_stem
        self.outcome = tasks.outcome
        self._find_actor = find_actor
        self._names: Coded | None = None
        self.state_times: dict[int, list[tuple[int, int]]] = {}

    def column(self, name: str, rows: Rows) -> Coded:
        """One column of ``rows``."""
        return _COLUMNS[name](self, rows)

    def listed(self, exclude_driver: bool) -> Rows:
        """The rows that Ray lists."""
        tasks = self.tasks
        shown = np.array([template.type != "DRIVER_TASK" or not exclude_driver for template in tasks.templates.values])
        shown[0] = False
        return np.flatnonzero(shown[tasks.template.array(len(tasks))])

    def _of_template(self, rows: Rows, cell: Callable[[Template], Any]) -> Coded:
        values = self.tasks.templates.values
        return Coded(self.tasks.template.array(len(self.tasks))[rows], lambda code: cell(values[code]))

    def state(self, rows: Rows) -> Coded:
        return Coded(self.outcome.state[rows], TASK_STATUS.__getitem__)

    def error_type(self, rows: Rows) -> Coded:
        values = [*self.tasks.error_types.values, IMPLIED_ERROR_TYPE]
        reported = self.tasks.error_type.array(len(self.tasks))[rows]
        codes = np.where(self.outcome.cause[rows] == REPORTED, reported, len(values) - 1)
        return Coded(np.where(self.outcome.state[rows] == FAILED, codes, 0), lambda code: values[code] or None)

    def name(self, rows: Rows) -> Coded:
        """The name shown: the given one, else the function's; of an actor's method, with the actor's own name."""
        if self._names is None and _FEW * len(rows) < len(self.tasks):
            return self._names_of(rows)
        if self._names is None:
            self._names = self._names_of(np.arange(len(self.tasks)))
        return Coded(self._names.codes[rows], self._names.cell)

    def _names_of(self, rows: Rows) -> Coded:
        tasks = self.tasks
        count, made = len(tasks), _Made(tasks.names)
        template = tasks.template.array(count)[rows]
        unnamed = np.array(
            [-1 if item.named else made.code(item.func_or_class_name) for item in tasks.templates.values]
        )
        ran_as = tasks.ran_as.array(count)[rows]
        name = tasks.name.array(count)[rows]
        codes = np.where(unnamed[template] < 0, name, np.where(ran_as, ran_as, unnamed[template]))
        self._name_creations(rows, codes, template, made)
        self._name_methods(rows, codes, template, made)
        self._name_nameless_methods(rows, codes, template, made)
        return Coded(codes, made.text)

    def _name_creations(self, rows: Rows, codes: Codes, template: Codes, made: _Made) -> None:
        # The export dialect doesn't name tasks; Ray names the creation of a named actor after it.
        values = self.tasks.templates.values
        nameless = np.array([item.type == "ACTOR_CREATION_TASK" and not item.named for item in values])
        actors = self.tasks.actor.cells
        ran_as = self.tasks.ran_as.array(len(self.tasks))[rows]
        for at in np.flatnonzero(nameless[template] & (ran_as == 0)).tolist():
            actor = self._find_actor(self.tasks.actors.values[actors[int(rows[at])]])
            if actor is not None and actor.definition is not None and actor.definition.name:
                codes[at] = made.code(f"{actor.definition.name}:{values[template[at]].func_or_class_name}")

    def _name_methods(self, rows: Rows, codes: Codes, template: Codes, made: _Made) -> None:
        values, repr_names = self.tasks.templates.values, self.tasks.repr_names
        if len(repr_names) == 1:
            return
        method = np.array([item.type == "ACTOR_TASK" for item in values])
        own = self.tasks.repr_name.array(len(self.tasks))[rows]
        shown: dict[tuple[int, int, int], int] = {}
        for at in np.flatnonzero(method[template] & (own > 0)).tolist():
            key = (int(codes[at]), int(template[at]), int(own[at]))
            if key not in shown:
                name = made.text(key[0])
                given = name != values[key[1]].func_or_class_name
                shown[key] = key[0] if given else made.code(f"{repr_names.values[key[2]]}.{name.split('.')[-1]}")
            codes[at] = shown[key]

    def _name_nameless_methods(self, rows: Rows, codes: Codes, template: Codes, made: _Made) -> None:
        """In the export dialect only the actor says what it calls itself; a method that ran is named after that."""
        tasks, values = self.tasks, self.tasks.templates.values
        nameless = np.array([item.type == "ACTOR_TASK" and not item.named for item in values])
        if not nameless.any():
            return
        count = len(tasks)
        actor_codes, ran = tasks.actor.array(count)[rows], tasks.worker.array(count)[rows] > 0
        own = tasks.repr_name.array(count)[rows]
        at_actors = np.flatnonzero(nameless[template] & ran & (own == 0) & (actor_codes > 0))
        called = {code: self._called(tasks.actors.values[code]) for code in np.unique(actor_codes[at_actors]).tolist()}
        for at in at_actors.tolist():
            if repr_name := called[int(actor_codes[at])]:
                codes[at] = made.code(f"{repr_name}.{made.text(int(codes[at])).split('.')[-1]}")

    def _called(self, actor_id: bytes) -> str:
        actor = self._find_actor(actor_id)
        return actor.place.repr_name if actor is not None and actor.place is not None else ""


class _Made:
    """Names as codes: those of the table, and after them those that are made up of several columns."""

    def __init__(self, names: Interner[str]) -> None:
        self._names = names
        self._first = len(names)
        self._texts: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        known = self._names.codes.get(text, self._first)
        if known < self._first:
            return known
        code = self._codes.setdefault(text, self._first + len(self._texts))
        if code == self._first + len(self._texts):
            self._texts.append(text)
        return code

    def text(self, code: int) -> str:
        return self._names.values[code] if code < self._first else self._texts[code - self._first]


def _hex(value: bytes) -> str | None:
    return value.hex() if value else None


def _ids(column: str, interner: str) -> Callable[[TaskCodes, Rows], Coded]:
    def coded(self: TaskCodes, rows: Rows) -> Coded:
        values = getattr(self.tasks, interner).values
        codes = getattr(self.tasks, column).array(len(self.tasks))[rows]
        return Coded(codes, lambda code: _hex(values[code]))

    return coded


def _template(cell: Callable[[Template], Any]) -> Callable[[TaskCodes, Rows], Coded]:
    return lambda self, rows: self._of_template(rows, cell)


def _number(column: str, cell: Callable[[int], Any]) -> Callable[[TaskCodes, Rows], Coded]:
    return lambda self, rows: Coded(getattr(self.tasks, column).array(len(self.tasks))[rows], cell)


def _runtime_env_info(template: Template) -> dict[str, Any] | None:
    """Ray's RuntimeEnvInfo. The posted dialect has the text only: the rest is read from it, as Ray made it."""
    text = template.serialized_runtime_env
    env = _parsed(text)
    config = template.runtime_env_config
    if config is None and text:
        given = env.get("config")
        config = _DEFAULT_CONFIG | (given if isinstance(given, dict) else {})
    uris = template.runtime_env_uris or _uris(env)
    info: dict[str, Any] = {"serialized_runtime_env": show_masked(text)}
    if any((uris or {}).values()):
        info["uris"] = uris
    if config is not None and (text or any(config.values())):
        info["runtime_env_config"] = config
    return info


def _fallback_strategy(template: Template) -> dict[str, Any] | None:
    # Every task has one in Ray; only what isn't empty is written. A driver's entry is made without.
    given = template.fallback_strategy
    return {"options": []} if given is None and template.type != "DRIVER_TASK" else given


def _uris(env: dict[str, Any]) -> dict[str, Any]:
    working_dir, modules = env.get("working_dir"), env.get("py_modules")
    return {
        "working_dir_uri": working_dir if isinstance(working_dir, str) else "",
        "py_modules_uris": modules if isinstance(modules, list) else [],
    }


def _parsed(text: str) -> dict[str, Any]:
    try:
        env = msgspec.json.decode(text) if text else {}
    except (ValueError, RecursionError):
        env = {}
    return env if isinstance(env, dict) else {}


_COLUMNS: dict[str, Callable[[TaskCodes, Rows], Coded]] = {
    "attempt_number": _number("attempt", int),
    "name": TaskCodes.name,
    "state": TaskCodes.state,
    "job_id": _ids("job", "jobs"),
    "actor_id": _ids("actor", "actors"),
    "type": _template(lambda template: template.type),
    "func_or_class_name": _template(lambda template: template.func_or_class_name),
    "node_id": _ids("node", "nodes"),
    "worker_id": _ids("worker", "workers"),
    "worker_pid": _number("pid", lambda pid: pid or None),
    "error_type": TaskCodes.error_type,
    "language": _template(lambda template: template.language),
    "required_resources": _template(lambda template: template.required_resources),
    "runtime_env_info": _template(_runtime_env_info),
    "placement_group_id": _template(lambda template: _hex(template.placement_group_id)),
    "is_debugger_paused": _number("paused", (None, False, True).__getitem__),
    "call_site": _template(lambda template: template.call_site),
    "label_selector": _template(lambda template: template.label_selector),
    "fallback_strategy": _template(_fallback_strategy),
}

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
from pipeline.events import TASK_STATUS

Rows = NDArray[np.intp]
Codes = NDArray[Any]

_DEFAULT_CONFIG = {"setup_timeout_seconds": 600, "eager_install": True, "log_files": []}


class Named(Protocol):
    """A definition that carries a name."""

    @property
    def name(self) -> str: ...


class ActorLike(Protocol):
    """An actor, of which ``definition`` is None until it is known."""

    @property
    def definition(self) -> Named | None: ...


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
    """The columns of one table at one moment. ``find_actor`` names actors where the dialect doesn't name tasks."""

    def __init__(self, tasks: TaskTable, find_actor: FindActor) -> None:
        self.tasks = tasks
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
        if self._names is None:
            self._names = self._all_names()
        return Coded(self._names.codes[rows], self._names.cell)

    def _all_names(self) -> Coded:
        tasks = self.tasks
        count = len(tasks)
        texts = list(tasks.names.values)
        known = {text: code for code, text in enumerate(texts)}

        def code_of(text: str) -> int:
            code = known.get(text)
            if code is None:
                code = known[text] = len(texts)
                texts.append(text)
            return code

        template = tasks.template.array(count)
        unnamed = np.array([-1 if item.named else code_of(item.func_or_class_name) for item in tasks.templates.values])
        ran_as = tasks.ran_as.array(count)
        codes = np.where(unnamed[template] < 0, tasks.name.array(count), np.where(ran_as, ran_as, unnamed[template]))
        self._name_creations(codes, template, unnamed, code_of)
        self._name_methods(codes, template, texts, code_of)
        return Coded(codes, texts.__getitem__)

    def _name_creations(self, codes: Codes, template: Codes, unnamed: Codes, code_of: Callable[[str], int]) -> None:
        # The export dialect doesn't name tasks; Ray names the creation of a named actor after it.
        values = self.tasks.templates.values
        nameless = np.array([item.type == "ACTOR_CREATION_TASK" and not item.named for item in values])
        actors = self.tasks.actor.cells
        for row in np.flatnonzero(nameless[template] & (self.tasks.ran_as.array(len(template)) == 0)).tolist():
            actor = self._find_actor(self.tasks.actors.values[actors[row]])
            if actor is not None and actor.definition is not None and actor.definition.name:
                codes[row] = code_of(f"{actor.definition.name}:{values[template[row]].func_or_class_name}")

    def _name_methods(self, codes: Codes, template: Codes, texts: list[str], code_of: Callable[[str], int]) -> None:
        values, repr_names = self.tasks.templates.values, self.tasks.repr_names
        if len(repr_names) == 1:
            return
        method = np.array([item.type == "ACTOR_TASK" for item in values])
        own = self.tasks.repr_name.array(len(self.tasks))
        rows = np.flatnonzero(method[template] & (own > 0))
        made: dict[tuple[int, int, int], int] = {}
        for row in rows.tolist():
            key = (int(codes[row]), int(template[row]), int(own[row]))
            if key not in made:
                name = texts[key[0]]
                given = name != values[key[1]].func_or_class_name
                made[key] = key[0] if given else code_of(f"{repr_names.values[key[2]]}.{name.split('.')[-1]}")
            codes[row] = made[key]


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
    info: dict[str, Any] = {"serialized_runtime_env": text}
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

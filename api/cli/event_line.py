"""One event of a stream as one line: when, what, state, name, id, job and node; of a failure what went wrong. Pure.

Whatever stands in the names: each becomes printable, and the line stays one. A line that needn't fit a terminal has
whole ids, the date, and all that is said of what went wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from msgspec import Struct
from rich.cells import cell_len

from api.cli.printable import LONGEST, printable
from api.cli.terminal import Span
from api.views.text import MAX_TEXT, telling_line

STYLES = {
    **dict.fromkeys(("FAILED", "DEAD", "ERROR", "FATAL", "UNRECOVERABLE"), "bold red"),
    **dict.fromkeys(("FINISHED", "SUCCEEDED"), "green"),
    **dict.fromkeys(("ALIVE", "LIVE"), "bright_green"),
    **dict.fromkeys(("RUNNING", "RUNNING_IN_RAY_GET", "RUNNING_IN_RAY_WAIT"), "blue"),
    **dict.fromkeys(("RESTARTING", "STOPPED", "WARNING", "LOST", "MISSED"), "yellow"),
    **dict.fromkeys(("SUBMITTED_TO_WORKER", "GETTING_AND_PINNING_ARGS"), "cyan"),
}
DIM = "bright_black"
WRONG = "red"
KIND, STATE, NAME = 7, 19, 24
MAX_NAME, MAX_ID = 200, 200
_NO_TASK = "f" * 16
"""Begins the id of a task that makes an actor; the actor's own follows."""
_QUIET_EXITS = frozenset({"INTENDED_SYSTEM_EXIT", "INTENDED_USER_EXIT"})

Data = dict[str, Any]


class Look(Struct, frozen=True):
    """How lines look. ``whole``: nothing is shortened. ``today``: of which no date is needed otherwise."""

    utc: bool
    whole: bool
    today: date


class Told(Struct, frozen=True):
    """What is shown of an event beside its kind and time."""

    state: str
    name: str
    id: str
    job: str = ""
    node: str = ""
    wrong: str = ""


def line(kind: str, data: Data, look: Look) -> list[Span]:
    """The line's parts. ``data`` may be anything."""
    make = _MAKERS.get(kind)
    told = make(data) if make is not None else Told("", "", "")
    state = printable(told.state, 60).upper()
    spans = [
        (when(data.get("created_ms"), look), DIM),
        (f" {printable(kind, 20):{KIND}} ", ""),
        (f"{state:{STATE}} ", STYLES.get(state, "")),
        (_padded(printable(told.name, MAX_NAME)), "bold"),
    ]
    if told.id:
        spans.append((f" {_id(told.id, look)}", DIM))
    for label, value in (("job", told.job), ("node", told.node)):
        if value:
            spans.append((f" {label}=", DIM))
            spans.append((_id(value, look), DIM))
    if told.wrong:
        spans.append(
            (
                f"  {printable(telling_line(told.wrong), LONGEST if look.whole else MAX_TEXT)}",
                WRONG if STYLES.get(state) == "bold red" else "",
            )
        )
    spans[-1] = spans[-1][0].rstrip(), spans[-1][1]
    return spans


def is_of_failure(spans: list[Span]) -> bool:
    """Whether a line says what went wrong."""
    return spans[-1][1] == WRONG


def when(ms: object, look: Look) -> str:
    """A time in the zone that is looked from; blanks where there is none."""
    shape = "%Y-%m-%d %H:%M:%S"
    try:
        if not isinstance(ms, int) or ms <= 0:
            raise ValueError
        moment = datetime.fromtimestamp(ms / 1000, UTC)
        if not look.utc:
            moment = moment.astimezone()
    except (ValueError, OverflowError, OSError):
        return " " * (23 if look.whole else 12)
    if not look.whole:
        shape = "%H:%M:%S" if moment.date() == look.today else "%m-%d %H:%M:%S"
    return f"{moment:{shape}}.{moment.microsecond // 1000:03}"


def _padded(name: str) -> str:
    return name + " " * max(0, NAME - cell_len(name))


def _id(text: str, look: Look) -> str:
    text = printable(text, MAX_ID)
    if look.whole or not _is_hex(text):
        return text
    if len(text) == 48:
        return text[16:32] if text.startswith(_NO_TASK) else text[:16]
    return text[:8]


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdef" for c in text)


def _text(data: Data, *names: str) -> str:
    """The first of these that says something."""
    for name in names:
        value = data.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def _number(data: Data, name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) and -(1 << 63) < value < 1 << 63 else 0


def _task(data: Data) -> Told:
    name = _text(data, "name", "func_or_class_name", "type")
    if attempt := _number(data, "attempt_number"):
        name = f"{name[:MAX_NAME]} (attempt {attempt})"
    wrong = _text(data, "error_message", "error_type")
    return Told(
        _text(data, "state"), name, _text(data, "task_id"), _text(data, "job_id"), _text(data, "node_id"), wrong
    )


def _actor(data: Data) -> Told:
    name, own = _text(data, "class_name"), _text(data, "name", "repr_name")
    name = f"{name[:MAX_NAME]} ({own})" if own and own != name else name
    wrong = _text(data, "death_cause")
    return Told(
        _text(data, "state"), name, _text(data, "actor_id"), _text(data, "job_id"), _text(data, "node_id"), wrong
    )


def _node(data: Data) -> Told:
    name = _text(data, "node_name", "node_ip") + (" (head)" if data.get("is_head_node") is True else "")
    return Told(_text(data, "state"), name, _text(data, "node_id"), wrong=_text(data, "state_message"))


def _job(data: Data) -> Told:
    status = _text(data, "status")
    wrong = _text(data, "message", "error_type") if status in ("FAILED", "STOPPED") else ""
    which = _text(data, "job_id", "submission_id")
    return Told(status, _text(data, "entrypoint"), which, node=_text(data, "driver_node_id"), wrong=wrong)


def _worker(data: Data) -> Told:
    name = _text(data, "worker_type")
    if pid := _number(data, "pid"):
        name = f"{name[:MAX_NAME]} (pid {pid})"
    how = _text(data, "exit_type")
    wrong = "" if how in _QUIET_EXITS else _text(data, "exit_detail", "exit_type")
    return Told(
        _text(data, "state"), name, _text(data, "worker_id"), _text(data, "job_id"), _text(data, "node_id"), wrong
    )


def _log(data: Data) -> Told:
    name = _text(data, "label", "source_type")
    return Told(
        _text(data, "severity"), name, "", _text(data, "job_id"), _text(data, "node_id"), _text(data, "message")
    )


def _resync(data: Data) -> Told:
    return Told("MISSED", "", "", wrong=_text(data, "reason"))


_MAKERS: dict[str, Callable[[Data], Told]] = {
    "task": _task,
    "actor": _actor,
    "node": _node,
    "job": _job,
    "worker": _worker,
    "log": _log,
    "resync": _resync,
}

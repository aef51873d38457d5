"""Records to the events of a live stream: one for each change that a record tells of, in Ray's own field names. Pure.

    task    a state of an attempt          actor   a state of an actor        node   a state of a node
    job     a status of a driver or of     worker  a worker process that      log    a line of Ray's log events
            a submission                           began or ended

What a change alone doesn't say (a task's name, an actor's class) is joined from the index, as far as that has it by
then. A field that nobody has said anything about is left out. ``created_ms`` is the time of the change.

How many events a record gives depends on the record alone: a position counts them. Definitions and profiles give
none, nor does a driver's own task, which nobody submitted: its job's event tells of it. A failure that nobody recorded
(of the tasks of a dead worker) is none either: the worker's death is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from api.index.session_index import SessionIndex
from api.streams.live_data import ActorData, Event, JobData, LogData, NodeData, TaskData, WorkerData
from api.views.nodes import state_message
from pipeline import events
from pipeline.decoding.decode import Decoded
from pipeline.events import TASK_STATUS

MAX_MESSAGE = 1000
"""Characters of a message: a stream is to be watched, the whole text is a request away."""
_BEGINNING = 300
_MAX_NAME = 500
_MS = 1_000_000
_MAX_MS = 1 << 53
_OF_A_DRIVER = b"\xff" * 20
"""Begins the id of a driver's task, which its job's id ends: neither a task's nor an actor's own bytes stand in it."""
_FAILED = TASK_STATUS.index("FAILED")
_PLACED = TASK_STATUS.index("SUBMITTED_TO_WORKER")
_COLOURS = re.compile(r"\x1b[^m]*m")
_encode = msgspec.json.Encoder().encode


def events_of(index: SessionIndex, decoded: Decoded) -> list[Event]:
    """The events of a block of records, in their order. The index must have applied them."""
    out: list[Event] = []
    makers = _MAKERS
    line, first = -1, 0
    for record, offset in zip(decoded.records, decoded.positions, strict=True):
        make = makers.get(type(record))
        if make is None:
            continue
        if offset != line:
            line, first = offset, len(out)
        make(index, record, offset, first, out)
    return out


def _task(index: SessionIndex, record: events.TaskUpdate, offset: int, first: int, out: list[Event]) -> None:
    if not record.states or record.task_id.startswith(_OF_A_DRIVER):
        return
    row = index.tasks.row_of(record.task_id, record.attempt_number)
    data = _attempt(record) if row is None else _known_attempt(index, record, row)
    names = tuple({text: None for text in (data.name, data.func_or_class_name) if text})
    place = data.node_id, data.worker_id, data.worker_pid
    for state, time_ns in record.states:
        data.state = TASK_STATUS[state] if 0 <= state < len(TASK_STATUS) else str(state)
        data.created_ms = _ms(time_ns)
        data.node_id, data.worker_id, data.worker_pid = place if state >= _PLACED else (None, None, None)
        data.error_type = record.error_type if state == _FAILED else None
        data.error_message = _cut(record.error_message) if state == _FAILED else None
        told = _encode(data), offset, len(out) - first, data.created_ms, data.state
        out.append(Event("task", *told, data.job_id, data.node_id or "", names))


def _attempt(record: events.TaskUpdate) -> TaskData:
    """What an update alone says. (Attempts that Ray skips have no row.)"""
    return TaskData(record.task_id.hex(), record.attempt_number, "", job_id=_hex(record.job_id))


def _known_attempt(index: SessionIndex, record: events.TaskUpdate, row: int) -> TaskData:
    tasks = index.tasks
    template = tasks.templates.values[tasks.template.cells[row]]
    return TaskData(
        record.task_id.hex(),
        record.attempt_number,
        "",
        name=task_name(index, row),
        job_id=_hex(record.job_id),
        type=template.type or None,
        func_or_class_name=template.func_or_class_name or None,
        actor_id=_hex(tasks.actors.values[tasks.actor.cells[row]]) or None,
        node_id=_hex(tasks.nodes.values[tasks.node.cells[row]]) or None,
        worker_id=_hex(tasks.workers.values[tasks.worker.cells[row]]) or None,
        worker_pid=tasks.pid.cells[row] or None,
    )


def task_name(index: SessionIndex, row: int) -> str | None:
    """An attempt's name as the State API shows it (``views/task_codes.py``), for one row."""
    tasks = index.tasks
    template = tasks.templates.values[tasks.template.cells[row]]
    if template.named:
        name = tasks.names.values[tasks.name.cells[row]]
    else:
        name = tasks.names.values[tasks.ran_as.cells[row]] or template.func_or_class_name
        if template.type == "ACTOR_CREATION_TASK" and not tasks.ran_as.cells[row]:
            actor = index.actors.get(tasks.actors.values[tasks.actor.cells[row]])
            if actor is not None and actor.definition is not None and actor.definition.name:
                name = f"{actor.definition.name}:{template.func_or_class_name}"
    own = tasks.repr_names.values[tasks.repr_name.cells[row]]
    if own and template.type == "ACTOR_TASK" and name == template.func_or_class_name:
        name = f"{own}.{name.split('.')[-1]}"
    return name or None


def _actor(index: SessionIndex, record: events.ActorUpdate, offset: int, first: int, out: list[Event]) -> None:
    actor = index.actors.get(record.actor_id)
    what = actor.definition if actor is not None else None
    job_id = _hex(actor.job_id if actor is not None else record.actor_id[-4:])
    for step in record.transitions:
        data = ActorData(
            actor_id=record.actor_id.hex(),
            state=step.state,
            created_ms=_ms(step.timestamp_ns),
            class_name=what.class_name if what is not None else "",
            name=what.name if what is not None else "",
            job_id=job_id,
            ray_namespace=what.ray_namespace if what is not None else "",
            repr_name=step.repr_name,
            node_id=_hex(step.node_id) or None,
            pid=step.pid,
            death_cause=_cut(_cause(step.death_cause)),
        )
        names = tuple(filter(None, (data.name, data.class_name)))
        told = _encode(data), offset, len(out) - first, data.created_ms, data.state
        out.append(Event("actor", *told, job_id, data.node_id or "", names))


def _cause(cause: dict[str, Any] | None) -> str | None:
    """Why an actor died, in Ray's words: the message of whichever context stands there."""
    for context in (cause or {}).values():
        if isinstance(context, dict):
            for name in ("error_message", "formatted_exception_string"):
                if isinstance(said := context.get(name), str) and said:
                    return said
    return None


def _node(index: SessionIndex, record: events.NodeUpdate, offset: int, first: int, out: list[Event]) -> None:
    node = index.nodes.get(record.node_id)
    what = node.definition if node is not None else None
    node_id = record.node_id.hex()
    for step in record.transitions:
        data = NodeData(
            node_id=node_id,
            state=step.state,
            created_ms=_ms(step.timestamp_ns) or _ms(record.end_time_ms * _MS),
            node_ip=what.node_ip_address if what is not None else "",
            node_name=what.node_name if what is not None else "",
            is_head_node=node.is_head if node is not None else None,
            state_message=_cut(state_message(node)) if node is not None and step.state == "DEAD" else None,
            resources_total=step.resources or None,
        )
        names = tuple(filter(None, (data.node_name, data.node_ip)))
        told = _encode(data), offset, len(out) - first, data.created_ms, data.state
        out.append(Event("node", *told, "", node_id, names))


def _worker(index: SessionIndex, record: events.WorkerUpdate, offset: int, first: int, out: list[Event]) -> None:
    worker = index.workers.get(record.worker_id)
    what = worker.definition if worker is not None else None
    for step in record.transitions:
        data = WorkerData(
            worker_id=record.worker_id.hex(),
            state=step.state,
            is_alive=step.state != "DEAD",
            created_ms=_ms(step.timestamp_ns),
            worker_type=what.worker_type if what is not None else "",
            node_id=_hex(what.node_id) if what is not None else "",
            ip=index.nodes.ip(what.node_id) if what is not None else "",
            pid=what.pid if what is not None else 0,
            job_id=_hex(record.job_id) or None,
            exit_type=step.exit_type,
            exit_detail=_cut(step.exit_detail),
        )
        told = _encode(data), offset, len(out) - first, data.created_ms, data.state
        out.append(Event("worker", *told, data.job_id or "", data.node_id, (data.worker_type,)))


def _driver(index: SessionIndex, record: events.DriverJobUpdate, offset: int, first: int, out: list[Event]) -> None:
    driver = index.jobs.driver(record.job_id)
    what = driver.definition if driver is not None else None
    data = JobData(
        type="DRIVER",
        status="SUCCEEDED" if record.is_dead else "RUNNING",
        created_ms=_ms((record.end_time_ms if record.is_dead else record.start_time_ms) * _MS),
        job_id=record.job_id.hex(),
        submission_id=(driver.submission_id if driver is not None else "") or None,
        entrypoint=what.entrypoint if what is not None else "",
        start_time=record.start_time_ms or None,
        end_time=record.end_time_ms or None,
        driver_node_id=(_hex(what.driver_node_id) if what is not None else "") or None,
    )
    out.append(_job_event(data, offset, len(out) - first))


def _submission(
    index: SessionIndex, record: events.SubmissionJobUpdate, offset: int, first: int, out: list[Event]
) -> None:
    submission = index.jobs.submission(record.submission_id)
    what = submission.definition if submission is not None else None
    data = JobData(
        type="SUBMISSION",
        status=record.status,
        created_ms=_ms(record.timestamp_ns),
        submission_id=record.submission_id,
        entrypoint=what.entrypoint if what is not None else "",
        message=_cut(record.message),
        error_type=record.error_type,
        start_time=record.start_time_ms or None,
        end_time=record.end_time_ms or None,
        driver_node_id=record.driver_node_id,
        driver_exit_code=record.driver_exit_code,
    )
    out.append(_job_event(data, offset, len(out) - first))


def _job_event(data: JobData, offset: int, nth: int) -> Event:
    """Found by either id, and by what it ran."""
    job = data.submission_id if data.job_id is None else data.job_id
    names = tuple(filter(None, (data.entrypoint, data.submission_id)))
    told = _encode(data), offset, nth, data.created_ms, data.status
    return Event("job", *told, job or "", data.driver_node_id or "", names)


def _log(index: SessionIndex, record: events.LogEvent, offset: int, first: int, out: list[Event]) -> None:
    fields = record.data.get("custom_fields")
    node_id = fields.get("node_id") if isinstance(fields, dict) else None
    data = LogData(
        event_id=record.event_id[:_MAX_NAME],
        severity=record.severity[:_MAX_NAME],
        source_type=record.source_type[:_MAX_NAME],
        label=record.label[:_MAX_NAME],
        message=_cut(record.message.replace("\\n", "\n").replace("\\r", "\n")) or "",
        created_ms=_ms(record.timestamp_ns),
        job_id=record.job_id[:_MAX_NAME],
        node_id=node_id[:_MAX_NAME] if isinstance(node_id, str) else None,
    )
    names = tuple(filter(None, (data.label, data.source_type)))
    told = _encode(data), offset, len(out) - first, data.created_ms, data.severity
    out.append(Event("log", *told, data.job_id, data.node_id or "", names))


_MAKERS: dict[type, Callable[[SessionIndex, Any, int, int, list[Event]], None]] = {
    events.TaskUpdate: _task,
    events.ActorUpdate: _actor,
    events.NodeUpdate: _node,
    events.WorkerUpdate: _worker,
    events.DriverJobUpdate: _driver,
    events.SubmissionJobUpdate: _submission,
    events.LogEvent: _log,
}


@lru_cache(maxsize=1 << 14)
def _hex(raw: bytes) -> str:
    return raw.hex()


def _ms(time_ns: int) -> int:
    return min(time_ns // _MS, _MAX_MS)


def _cut(text: str | None) -> str | None:
    """A long message's beginning and end; what went wrong stands at the end of a traceback. None for none."""
    if not text:
        return None
    if len(text) > 1 << 16:
        text = text[: 1 << 15] + text[-(1 << 15) :]
    text = _COLOURS.sub("", text)
    if len(text) <= MAX_MESSAGE:
        return text
    return f"{text[:_BEGINNING]} … {text[-(MAX_MESSAGE - _BEGINNING) :]}"

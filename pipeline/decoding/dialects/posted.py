"""Ray events as the aggregator agent posts them, one JSON object a line, into the typed model.

The line is read in one pass whatever its type; then its type says which payload must be there and what
it becomes.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec

from pipeline.decoding.dialects import posted_cluster as cluster
from pipeline.decoding.dialects import posted_tasks as tasks
from pipeline.decoding.dialects import posted_wire as wire
from pipeline.decoding.dialects.wire import UnknownType, camel_case, camel_keys, nanoseconds, without_nulls
from pipeline.events import Opaque, Record

_MAPS = frozenset({"metadata", "customFields", "custom_fields"})  # their keys are the user's

_snake = msgspec.json.Decoder(wire.Event, strict=False)
_camel = msgspec.json.Decoder(camel_case(wire.Event), strict=False)
_snake_envelope = msgspec.json.Decoder(wire.Envelope, strict=False)
_camel_envelope = msgspec.json.Decoder(camel_case(wire.Envelope), strict=False)
_any = msgspec.json.Decoder()


def decode_line(line: bytes | memoryview, out: list[Record]) -> int:
    """Append the records of one event to ``out``; the event's time in ns.

    Raises ``UnknownType`` for a type this program doesn't know, ``ValueError`` or ``RecursionError`` for
    anything that isn't an event.
    """
    try:
        event = _camel.decode(line)
    except ValueError:
        event = _decode_other(line)
    route = _ROUTES.get(event.event_type)
    if route is None:
        raise UnknownType(str(event.event_type))
    payload_of, convert = route
    payload = payload_of(event)
    if payload is None:
        raise ValueError(f"a {event.event_type} without its payload")
    made = convert(payload)
    if isinstance(made, list):
        out.extend(made)
    elif made is not None:
        out.append(made)
    else:
        out.append(_platform(line, event))
    return nanoseconds(event.timestamp)


def envelope(line: bytes | memoryview) -> wire.Envelope:
    """What says whose the event is, whatever the rest of it is worth. Raises ``ValueError`` or ``RecursionError``."""
    found = _camel_envelope.decode(line)
    return found if found.session_name is not None else _snake_envelope.decode(line)


def _decode_other(line: bytes | memoryview) -> wire.Event:
    """The rare ways an event can be written: snake_case, or with nulls for absent fields."""
    try:
        return _snake.decode(line)
    except ValueError:
        plain = _any.decode(line)
    decoder = _snake if isinstance(plain, dict) and "event_type" in plain else _camel
    return decoder.decode(msgspec.json.encode(without_nulls(plain)))


def _platform(line: bytes | memoryview, event: wire.Event) -> Opaque:
    """Kept as Ray's ``/api/v0/platform_events`` shows it: the whole event in camelCase."""
    data = camel_keys(_any.decode(line), _MAPS)
    return Opaque("PLATFORM_EVENT", str(data.get("eventId", "")), nanoseconds(event.timestamp), data)


def _whole(_: object) -> None:
    """A payload that isn't looked into."""


_Route = tuple[Callable[[wire.Event], Any], Callable[[Any], Record | list[Any] | None]]
# In the order of RayEvent.EventType, which begins at 1. A payload's name is its type's in lower case, but for one.
_TYPES: dict[str, Callable[[Any], Record | list[Any] | None]] = {
    "TASK_DEFINITION_EVENT": tasks.task_definition,
    "TASK_LIFECYCLE_EVENT": tasks.task_lifecycle,
    "ACTOR_TASK_DEFINITION_EVENT": tasks.actor_task_definition,
    "TASK_PROFILE_EVENT": tasks.task_profile,
    "DRIVER_JOB_DEFINITION_EVENT": cluster.driver_job_definition,
    "DRIVER_JOB_LIFECYCLE_EVENT": cluster.driver_job_lifecycle,
    "NODE_DEFINITION_EVENT": cluster.node_definition,
    "NODE_LIFECYCLE_EVENT": cluster.node_lifecycle,
    "ACTOR_DEFINITION_EVENT": cluster.actor_definition,
    "ACTOR_LIFECYCLE_EVENT": cluster.actor_lifecycle,
    "PLACEMENT_GROUP_DEFINITION_EVENT": cluster.placement_group_definition,
    "PLACEMENT_GROUP_LIFECYCLE_EVENT": cluster.placement_group_lifecycle,
    "SUBMISSION_JOB_DEFINITION_EVENT": cluster.submission_job_definition,
    "SUBMISSION_JOB_LIFECYCLE_EVENT": cluster.submission_job_lifecycle,
    "PLATFORM_EVENT": _whole,
    "WORKER_LIFECYCLE_EVENT": cluster.worker_lifecycle,
    "WORKER_DEFINITION_EVENT": cluster.worker_definition,
}
_PAYLOADS = {"TASK_PROFILE_EVENT": "task_profile_events"}
_ROUTES: dict[int | str, _Route] = {}
for _number, (_name, _convert) in enumerate(_TYPES.items(), start=1):
    _ROUTES[_name] = _ROUTES[_number] = (attrgetter(_PAYLOADS.get(_name, _name.lower())), _convert)

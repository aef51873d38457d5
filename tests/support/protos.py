"""Ray's own protobuf messages, filled in and written as JSON the ways Ray writes them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed, and its protobufs are the specification")

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from ray._private.protobuf_compat import message_to_json
from ray.core.generated import events_base_event_pb2

RayEvent = events_base_event_pb2.RayEvent
EVENT_TYPES: list[str] = [name for name in RayEvent.EventType.keys() if name != "EVENT_TYPE_UNSPECIFIED"]  # noqa: SIM118
SESSION = "session_2026-11-22_20-28-07_608330_20836"


def payload_field(event_type: str) -> str:
    return {"TASK_PROFILE_EVENT": "task_profile_events"}.get(event_type, event_type.lower())


def ray_event(event_type: str, seed: int = 0) -> Any:
    """An event of this type with every field set to something of its own."""
    rng = random.Random(f"{event_type}{seed}")
    event = RayEvent(event_type=event_type, event_id=rng.randbytes(28), node_id=rng.randbytes(28), session_name=SESSION)
    _fill_timestamp(event.timestamp, rng)
    event.severity, event.source_type, event.message = 3, 1, f"message {seed}"
    payload = getattr(event, payload_field(event_type))
    payload.SetInParent()
    fill(payload, rng)
    return event


def fill(message: Any, rng: random.Random) -> None:
    """Set every field, of a oneof one, of an enum any, of a list two."""
    chosen = {one.name: rng.choice(one.fields).name for one in message.DESCRIPTOR.oneofs if len(one.fields) > 1}
    for field in message.DESCRIPTOR.fields:
        one = field.containing_oneof
        if one is None or chosen.get(one.name, field.name) == field.name:
            _set(message, field, rng)


def _set(message: Any, field: FieldDescriptor, rng: random.Random) -> None:
    here = field.message_type
    if here is not None and here.GetOptions().map_entry:
        _set_map(getattr(message, field.name), here, rng)
    elif field.is_repeated:
        for _ in range(2):
            if here is None:
                getattr(message, field.name).append(_scalar(field, rng))
            else:
                fill(getattr(message, field.name).add(), rng)
    elif here is None:
        setattr(message, field.name, _scalar(field, rng))
    elif here.full_name == Timestamp.DESCRIPTOR.full_name:
        _fill_timestamp(getattr(message, field.name), rng)
    elif not here.full_name.startswith("google.protobuf."):
        getattr(message, field.name).SetInParent()
        fill(getattr(message, field.name), rng)


def _set_map(target: Any, entry: Any, rng: random.Random) -> None:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    for _ in range(2):
        name = _scalar(key, rng)
        if value.message_type is not None:
            fill(target[name], rng)
        elif key.type == FieldDescriptor.TYPE_INT32:  # state_ts_ns: a task status and when
            target[rng.randrange(1, 14)] = _nanoseconds(rng)
        else:
            target[name] = _scalar(value, rng)


def _nanoseconds(rng: random.Random) -> int:
    return 1_795_379_309_000_000_000 + rng.randrange(10**12)


def _fill_timestamp(timestamp: Timestamp, rng: random.Random) -> None:
    timestamp.seconds = 1_795_379_309 + rng.randrange(10**6)
    timestamp.nanos = rng.choice([0, 427_000_000, 431_220_000, 1, 999_999_999, rng.randrange(10**9)])


_SCALARS: dict[int, Callable[[random.Random], Any]] = {
    FieldDescriptor.TYPE_BYTES: lambda rng: rng.randbytes(28),
    FieldDescriptor.TYPE_STRING: lambda rng: f'text "{rng.randrange(10**6)}" \u00e9\n\u2028',
    FieldDescriptor.TYPE_BOOL: lambda rng: True,
    FieldDescriptor.TYPE_DOUBLE: lambda rng: rng.choice([1.0, 0.25, float("inf"), 1e300, rng.random()]),
    FieldDescriptor.TYPE_FLOAT: lambda rng: 0.5,
    FieldDescriptor.TYPE_INT32: lambda rng: rng.randrange(1, 1 << 31),
    FieldDescriptor.TYPE_UINT32: lambda rng: rng.randrange(1, 1 << 32),
    FieldDescriptor.TYPE_INT64: _nanoseconds,
    FieldDescriptor.TYPE_UINT64: lambda rng: rng.choice([_nanoseconds(rng) // 10**6, (1 << 63) - 1]),
}


def _scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    if field.enum_type is not None:
        return rng.choice(field.enum_type.values).number
    return _SCALARS[field.type](rng)


def as_posted(message: Any, *, snake: bool = False, **options: Any) -> bytes:
    """One record as Ray's publisher writes it: protobuf's JSON, read and written once more."""
    text = message_to_json(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=snake, **options
    )
    return json.dumps(json.loads(text)).encode()


def as_exported(source_type: str, data: Any, *, sorted_keys: bool, timestamp: int = 1_795_379_421) -> bytes:
    """One line as C++ (keys sorted, no blanks) or Python (blanks) writes it."""
    event = {
        "event_id": "1D10BE8d2DD9EA71E7",
        "timestamp": timestamp,
        "source_type": source_type,
        "event_data": json.loads(
            message_to_json(data, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)
        ),
    }
    separators = (",", ":") if sorted_keys else None
    return json.dumps(event, sort_keys=sorted_keys, separators=separators).encode()

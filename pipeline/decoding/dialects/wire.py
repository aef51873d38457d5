"""What Ray's three dialects share on the wire: bounded value types, enum tables, timestamps, both spellings of names.

All are protobuf messages written as JSON, so: ids are base64 texts, 64-bit integers may be texts,
an enum is a name or a number, ``NaN`` and ``Infinity`` are texts, a name is ``camelCase`` or
``snake_case``. Pure; a value that can't be is a ``ValueError``.
"""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from pipeline.events import TASK_STATUS

INT64_MAX = (1 << 63) - 1
UINT64_MAX = (1 << 64) - 1

# Ray's longest id is 28 bytes. A bound, so that nobody can fill an index with one.
Id = Annotated[bytes, Meta(max_length=64)]
Key = Annotated[bytes, Meta(min_length=1, max_length=64)]
Int32 = Annotated[int, Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
UInt32 = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
Int64 = Annotated[int, Meta(ge=-(1 << 63), le=INT64_MAX)]
Enum = int | str
"""A name or a number; look it up in an ``EnumTable``."""


class EnumTable:
    """The names of one protobuf enum. A number that a newer Ray has added is shown as its digits."""

    def __init__(self, *names: str, numbers: dict[int, str] | None = None) -> None:
        self._names: dict[int | str, str] = {}
        for number, name in (numbers or dict(enumerate(names))).items():
            self._names[number] = self._names[name] = name

    def name(self, value: int | str) -> str:
        """The name of ``value``, whichever way it was written."""
        found = self._names.get(value)
        return str(value) if found is None else found


TASK_TYPE = EnumTable("NORMAL_TASK", "ACTOR_CREATION_TASK", "ACTOR_TASK", "DRIVER_TASK")
LANGUAGE = EnumTable("PYTHON", "JAVA", "CPP")
WORKER_TYPE = EnumTable("WORKER", "DRIVER", "SPILL_WORKER", "RESTORE_WORKER")
WORKER_EXIT_TYPE = EnumTable(
    "SYSTEM_ERROR", "INTENDED_SYSTEM_EXIT", "USER_ERROR", "INTENDED_USER_EXIT", "NODE_OUT_OF_MEMORY"
)
ACTOR_STATE = EnumTable("DEPENDENCIES_UNREADY", "PENDING_CREATION", "ALIVE", "RESTARTING", "DEAD")
RESTART_REASON = EnumTable("ACTOR_FAILURE", "LINEAGE_RECONSTRUCTION", "NODE_PREEMPTION")
ALIVE_OR_DEAD = EnumTable("ALIVE", "DEAD")
ALIVE_SUB_STATE = EnumTable("UNSPECIFIED", "DRAINING")
NODE_DEATH_REASON = EnumTable(
    "UNSPECIFIED",
    "EXPECTED_TERMINATION",
    "UNEXPECTED_TERMINATION",
    "AUTOSCALER_DRAIN_PREEMPTED",
    "AUTOSCALER_DRAIN_IDLE",
)
PLACEMENT_STRATEGY = EnumTable("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
PLACEMENT_GROUP_STATE = EnumTable("PENDING", "PREPARED", "CREATED", "REMOVED", "RESCHEDULING")
SCHEDULING_STATE = EnumTable(
    "QUEUED",
    "SCHEDULING_REMOVED",
    "SCHEDULING_STARTED",
    "NO_RESOURCES",
    "INFEASIBLE",
    "FAILED_TO_COMMIT_RESOURCES",
    "FINISHED",
)
DRIVER_JOB_STATE = EnumTable("UNSPECIFIED", "CREATED", "FINISHED")
# The two dialects number these differently; their names are the same.
POSTED_JOB_STATUS = EnumTable("UNSPECIFIED", "PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED")
EXPORT_JOB_STATUS = EnumTable("PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED")
ACTOR_DIED_REASON = EnumTable(
    "UNSPECIFIED", "WORKER_DIED", "OWNER_DIED", "NODE_DIED", "RAY_KILL", "OUT_OF_SCOPE", "REF_DELETED"
)
LABEL_OPERATOR = EnumTable("LABEL_OPERATOR_UNSPECIFIED", "LABEL_OPERATOR_IN", "LABEL_OPERATOR_NOT_IN")
ERROR_TYPE = EnumTable(
    numbers={
        0: "WORKER_DIED",
        1: "ACTOR_DIED",
        3: "TASK_EXECUTION_EXCEPTION",
        4: "OBJECT_IN_PLASMA",
        5: "TASK_CANCELLED",
        6: "ACTOR_CREATION_FAILED",
        7: "RUNTIME_ENV_SETUP_FAILED",
        8: "OBJECT_LOST",
        9: "OWNER_DIED",
        10: "OBJECT_DELETED",
        11: "DEPENDENCY_RESOLUTION_FAILED",
        12: "OBJECT_UNRECONSTRUCTABLE_MAX_ATTEMPTS_EXCEEDED",
        13: "OBJECT_UNRECONSTRUCTABLE_LINEAGE_EVICTED",
        14: "OBJECT_FETCH_TIMED_OUT",
        15: "LOCAL_RAYLET_DIED",
        16: "TASK_PLACEMENT_GROUP_REMOVED",
        17: "ACTOR_PLACEMENT_GROUP_REMOVED",
        18: "TASK_UNSCHEDULABLE_ERROR",
        19: "ACTOR_UNSCHEDULABLE_ERROR",
        20: "OUT_OF_DISK_ERROR",
        21: "OBJECT_FREED",
        22: "OUT_OF_MEMORY",
        23: "NODE_DIED",
        24: "END_OF_STREAMING_GENERATOR",
        25: "ACTOR_UNAVAILABLE",
        26: "GENERATOR_TASK_FAILED_FOR_OBJECT_RECONSTRUCTION",
        27: "OBJECT_UNRECONSTRUCTABLE_PUT",
        28: "OBJECT_UNRECONSTRUCTABLE_RETRIES_DISABLED",
        29: "OBJECT_UNRECONSTRUCTABLE_BORROWED",
        30: "OBJECT_UNRECONSTRUCTABLE_REF_NOT_FOUND",
        31: "OBJECT_UNRECONSTRUCTABLE_TASK_CANCELLED",
        32: "OBJECT_UNRECONSTRUCTABLE_LINEAGE_DISABLED",
        33: "WORKER_STARTUP_FAILED",
        34: "STREAMING_GENERATOR_REPLAY_INCONSISTENT",
    }
)
TASK_STATUS_NUMBER: dict[int | str, int] = {
    **{name: number for number, name in enumerate(TASK_STATUS)},
    **{number: number for number in range(len(TASK_STATUS))},
}


class UnknownType(Exception):
    """A whole record of a type this program doesn't know: kept as it came and counted, never an error."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")
_FRACTION = {30: 1, 27: 1_000, 24: 1_000_000}  # protobuf writes 0, 3, 6 or 9 digits
_MAX_SECONDS = 8192
_seconds: dict[str, int] = {}  # "2026-11-22T20:28:15" -> ns; events come in bursts, so few seconds are in use at a time


def nanoseconds(text: str) -> int:
    """An RFC 3339 timestamp as exact integer nanoseconds since the epoch; 0 for an absent one."""
    try:
        return _seconds[text[:19]] + int(text[20:-1]) * _FRACTION[len(text)]
    except (KeyError, ValueError):
        return _nanoseconds(text) if text else 0


def _nanoseconds(text: str) -> int:
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        raise ValueError(f"not an RFC 3339 timestamp: {text[:40]!r}")
    whole, fraction, zone = found.groups()
    moment = datetime.fromisoformat(whole + ("+00:00" if zone in "Zz" else zone)).astimezone(UTC)
    seconds = int(moment.timestamp()) * 1_000_000_000
    if not 0 <= seconds < INT64_MAX - 1_000_000_000:
        raise ValueError(f"timestamp out of range: {text[:40]!r}")
    if zone == "Z":
        if len(_seconds) >= _MAX_SECONDS:
            _seconds.clear()
        _seconds[whole] = seconds
    return seconds + int((fraction or "0").ljust(9, "0"))


def unsigned(value: int, limit: int = INT64_MAX) -> int:
    """``value`` if an unsigned field can hold it."""
    if not 0 <= value <= limit:
        raise ValueError(f"integer out of range: {str(value)[:40]}")
    return value


_CAPITAL = re.compile("[A-Z]")


def snake_keys(value: Any, ids: frozenset[str] = frozenset()) -> Any:
    """A JSON value with its objects' keys in snake_case, and the base64 ids among them in hex."""
    if isinstance(value, dict):
        return {name: _value(name, item, ids) for name, item in ((_snake(k), v) for k, v in value.items())}
    if isinstance(value, list):
        return [snake_keys(item, ids) for item in value]
    return value


def _snake(name: str) -> str:
    return _CAPITAL.sub(lambda found: "_" + found[0].lower(), name)


def _value(name: str, value: Any, ids: frozenset[str]) -> Any:
    if name in ids and isinstance(value, str):
        return b64decode(value, validate=True).hex()
    return snake_keys(value, ids)


EnumPaths = dict[str, "EnumTable | EnumPaths"]
"""Where enums stand in a free JSON value: by member name, lists passed through."""


def name_enums(value: Any, tables: EnumPaths) -> Any:
    """``value`` with the enums that are written as numbers by their names, in place."""
    if isinstance(value, list):
        for item in value:
            name_enums(item, tables)
    elif isinstance(value, dict):
        for name in tables.keys() & value.keys():
            table = tables[name]
            if not isinstance(table, EnumTable):
                name_enums(value[name], table)
            elif isinstance(value[name], int):
                value[name] = table.name(value[name])
    return value


def camel_keys(value: Any, keep: frozenset[str]) -> Any:
    """A JSON value with its objects' keys in camelCase; objects under a name in ``keep`` have keys of their own."""
    if isinstance(value, dict):
        return {_camel(name): item if name in keep else camel_keys(item, keep) for name, item in value.items()}
    if isinstance(value, list):
        return [camel_keys(item, keep) for item in value]
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def without_nulls(value: Any) -> Any:
    """A JSON value without the members that are null: protobuf reads a null as an absent field."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


_S = TypeVar("_S", bound=Struct)


def camel_case(cls: type[_S]) -> type[_S]:
    """``cls`` with all its names, and those of the Structs inside it, spelt in camelCase on the wire.

    The Python attributes stay the same, so whoever reads the one can read the other.
    """
    fields = [(field.name, _camel_type(field.type), _default(field)) for field in msgspec.structs.fields(cls)]
    return cast(
        "type[_S]",
        msgspec.defstruct(f"Camel{cls.__name__}", fields, bases=(cls,), rename="camel", kw_only=True, gc=False),
    )


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    return msgspec.field() if field.default is msgspec.NODEFAULT else msgspec.field(default=field.default)


def _camel_type(hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return camel_case(hint)
    if get_origin(hint) in (UnionType, Union):
        return reduce(or_, map(_camel_type, get_args(hint)))
    if get_origin(hint) is list:
        return list[_camel_type(get_args(hint)[0])]  # type: ignore[misc]
    return hint

"""Task records for tests: ids, whole sessions read from a recording, and hypothesis strategies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st
from support.captures import event_files, posts

from api.index.session_index import SessionIndex
from pipeline.decoding.decode import decode_block
from pipeline.events import ProfileEvent, Record, TaskDefinition, TaskLogInfo, TaskProfile, TaskUpdate

JOBS = (b"\x01\0\0\0", b"\x02\0\0\0")
NODES = tuple(bytes([number]) * 28 for number in (1, 2))
WORKERS = tuple(bytes([number]) * 28 for number in (5, 6, 7))
OWN_TYPES, ACTOR_TYPES = ("NORMAL_TASK", "DRIVER_TASK"), ("ACTOR_TASK", "ACTOR_CREATION_TASK")
NIL_ACTOR = b"\xff" * 12

T0 = 1_795_379_310_000_000_000


def driver_id(job: bytes) -> bytes:
    return b"\xff" * 20 + job


def task_id(number: int, job: bytes = JOBS[0], actor: int = 0) -> bytes:
    """The id of a task; of an actor's task where ``actor`` isn't 0."""
    owner = bytes([actor]) * 12 if actor else NIL_ACTOR
    return number.to_bytes(8, "big") + owner + job


def recorded(capture: Path) -> list[tuple[Record, int]]:
    """The records of a recording, each with its position, in the order they were read."""
    blocks = [
        (b"".join(bytes(event) + b"\n" for event in msgspec.json.decode(body, type=list[msgspec.Raw])), "ray_event")
        for body in posts(capture)
    ]
    if not blocks:
        blocks = [(file.read_bytes(), "export_api") for file in event_files(capture, "export_events")]
    blocks += [(file.read_bytes(), "log_event") for file in event_files(capture, "events")]
    found: list[tuple[Record, int]] = []
    for block, dialect in blocks:
        decoded = decode_block(block, dialect)  # type: ignore[arg-type]
        assert not decoded.rejected
        found.extend(zip(decoded.records, decoded.positions, strict=True))
    return found


class Block(msgspec.Struct):
    """What ``SessionIndex.apply`` takes."""

    records: list[Any]
    positions: list[int]
    rejected: list[Any] = []
    unknown: dict[str, int] = {}


def index_of(records: list[tuple[Any, int]]) -> SessionIndex:
    """A session's index with these records applied, in this order."""
    index = SessionIndex()
    index.apply(Block([record for record, _ in records], [position for _, position in records]))  # type: ignore[arg-type]
    return index


def index_of_tasks(records: list[Any]) -> SessionIndex:
    return index_of([(record, position) for position, record in enumerate(records)])


texts = st.sampled_from(["", "leaf", "Leaf", "Counter.add", "m.Counter.__init__", "ß", "0", "true"])
ids = st.builds(task_id, st.integers(0, 4), st.sampled_from(JOBS), st.integers(0, 2))
attempts = st.integers(0, 2)
keys = st.tuples(ids, attempts)

# Strategies are made once, apart from the ids: making them anew for each task is what takes the time.
_definition = st.fixed_dictionaries(
    {
        "type": st.integers(0, 1),
        "language": st.sampled_from(["PYTHON", "CPP"]),
        "func_or_class_name": texts,
        "name": texts,
        "parent_task_id": st.one_of(ids, st.sampled_from(JOBS)),
        "placement_group_id": st.sampled_from([b"", b"\x09" * 18]),
        "required_resources": st.sampled_from([{}, {"CPU": 0.5}]),
        "serialized_runtime_env": st.sampled_from(["", "{}"]),
        "call_site": st.sampled_from([None, "here"]),
        "label_selector": st.sampled_from([{}, {"zone": "a"}]),
    }
)
_update = st.fixed_dictionaries(
    {
        "states": st.lists(st.tuples(st.integers(0, 13), st.integers(T0, T0 + 10**10)), max_size=3),
        "node_id": st.sampled_from([b"", *NODES]),
        "worker_id": st.sampled_from([b"", *WORKERS]),
        "worker_pid": st.sampled_from([0, 41, 42]),
        "error_type": st.sampled_from([None, "WORKER_DIED", "TASK_EXECUTION_EXCEPTION"]),
        "error_message": st.sampled_from([None, "\x1b[31mred\x1b[39m", "plain", "ünï"]),
        "log_info": st.sampled_from(
            [
                None,
                TaskLogInfo("/o", "/e", 3, None, 0, None),
                TaskLogInfo(None, None, None, 7, None, 0),
                TaskLogInfo("/p", "/f", 1, 2, 3, 4),
            ]
        ),
        "is_debugger_paused": st.sampled_from([None, False, True]),
        "actor_repr_name": st.sampled_from([None, "Counter(1)"]),
    }
)
_spans = st.lists(
    st.tuples(
        st.integers(T0, T0 + 99),
        st.integers(T0, T0 + 99),
        st.sampled_from(["submit_task", "task:execute", "task::leaf", "ray.get"]),
        st.sampled_from(["{}", '{"name": "x"}', '{"task_id": "%s", "name": "y"}', '{"cname": "ray.get"}']),
    ),
    min_size=1,
    max_size=3,
)
_profile = st.fixed_dictionaries(
    {
        "component_type": st.sampled_from(["worker", "driver", "raylet"]),
        "component_id": st.sampled_from(WORKERS),
        "node_ip_address": st.sampled_from(["10.0.0.1", "10.0.0.2"]),
        "events": _spans,
    }
)
_definitions, _updates, _profiles = (
    st.lists(_definition, max_size=2),
    st.lists(_update, max_size=3),
    st.lists(_profile, max_size=2),
)


def _defined(task: bytes, attempt: int, facts: dict[str, Any]) -> TaskDefinition:
    own = task[8:20] == NIL_ACTOR
    parent = facts["parent_task_id"]
    return TaskDefinition(
        task,
        attempt,
        task[-4:],
        **facts
        | {
            "type": (OWN_TYPES if own else ACTOR_TYPES)[facts["type"]],
            "actor_id": b"" if own else task[8:],
            "parent_task_id": driver_id(parent) if parent in JOBS else parent,
        },
    )


def _profiled(task: bytes, attempt: int, facts: dict[str, Any]) -> TaskProfile:
    spans = [ProfileEvent(*span[:3], span[3].replace("%s", task.hex())) for span in facts["events"]]
    return TaskProfile(task, attempt, task[-4:], **facts | {"events": spans})


@st.composite
def attempt_records(draw: st.DrawFn, key: tuple[bytes, int]) -> list[Any]:
    """What is told of one attempt: definitions, then updates, then profiles; they may contradict each other."""
    task, attempt = key
    return [
        *(_defined(task, attempt, facts) for facts in draw(_definitions)),
        *(TaskUpdate(task, attempt, task[-4:], **facts) for facts in draw(_updates)),
        *(_profiled(task, attempt, facts) for facts in draw(_profiles)),
    ]


@st.composite
def sessions(draw: st.DrawFn, max_attempts: int = 6) -> list[Any]:
    """The task records of a small session."""
    chosen = draw(st.lists(keys, min_size=1, max_size=max_attempts, unique=True))
    return [record for key in chosen for record in draw(attempt_records(key))]

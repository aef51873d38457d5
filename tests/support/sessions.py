"""Sessions made by hand: records as Ray posts them, segments of them, and stores that count, fail or wait.

writer = SegmentWriter(store)
await writer.begin()
await writer.write(finished_task(1) + running_task(2))
await writer.write(finishing(2))
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

import anyio

from pipeline.errors import StoreError, Unavailable
from pipeline.layout import SessionKey
from pipeline.segments.segment import Dialect, Header, Span, pack
from pipeline.stores.catalog import new_metadata, write_metadata
from pipeline.stores.store import Listing, MemoryStore, ObjectInfo, ObjectStore

SESSION = "session_2026-01-16_02-00-00_123456_1"
KEY = SessionKey("default", "demo", SESSION)
NODE = "ab" * 28
JOB = bytes.fromhex("01000000")
EPOCH = "2026-01-16T02:00:{:02d}.{:09d}Z"


def task_id(number: int) -> bytes:
    """The id of one of job 01000000's tasks."""
    return number.to_bytes(8, "big") + b"\xff" * 12 + JOB


def event(kind: str, field: str, payload: dict[str, Any], number: int = 0, session: str = SESSION) -> bytes:
    """One posted event, as a line of a spool file."""
    said = {
        "eventId": _b64(f"{kind}{number}".encode().ljust(28, b"-")[:28]),
        "sourceType": "CORE_WORKER",
        "eventType": kind,
        "timestamp": EPOCH.format(0, number),
        "severity": "INFO",
        "sessionName": session,
        field: payload,
        "nodeId": _b64(bytes.fromhex(NODE)),
        "message": "",
    }
    return json.dumps(said).encode() + b"\n"


def defined_task(number: int, name: str = "work") -> list[bytes]:
    """What a task is."""
    payload = {
        "taskId": _b64(task_id(number)),
        "taskFunc": {"pythonFunctionDescriptor": {"moduleName": "m", "functionName": name, "className": ""}},
        "taskName": name,
        "requiredResources": {"CPU": 1.0},
        "jobId": _b64(JOB),
        "parentTaskId": _b64(b"\xff" * 20 + JOB),
        "serializedRuntimeEnv": "{}",
        "taskAttempt": 0,
        "taskType": "NORMAL_TASK",
        "language": "PYTHON",
    }
    return [event("TASK_DEFINITION_EVENT", "taskDefinitionEvent", payload, number)]


def task_states(number: int, *states: str) -> list[bytes]:
    """What happened to a task, one state a second."""
    moves = [{"state": state, "timestamp": EPOCH.format(at, number)} for at, state in enumerate(states)]
    payload = {
        "taskId": _b64(task_id(number)),
        "stateTransitions": moves,
        "workerPid": 100,
        "jobId": _b64(JOB),
        "taskAttempt": 0,
        "nodeId": _b64(bytes.fromhex(NODE)),
        "workerId": _b64(b"\xcd" * 28),
    }
    return [event("TASK_LIFECYCLE_EVENT", "taskLifecycleEvent", payload, number)]


def running_task(number: int, name: str = "work") -> list[bytes]:
    return defined_task(number, name) + task_states(number, "SUBMITTED_TO_WORKER", "RUNNING")


def finishing(number: int) -> list[bytes]:
    return task_states(number, "SUBMITTED_TO_WORKER", "RUNNING", "FINISHED")


def finished_task(number: int, name: str = "work") -> list[bytes]:
    return defined_task(number, name) + finishing(number)


def tasks(count: int, first: int = 1) -> list[bytes]:
    """``count`` finished tasks."""
    return [line for number in range(first, first + count) for line in finished_task(number)]


class SegmentWriter:
    """Writes segments of one session as a collector does, keeping the offsets of its sources."""

    def __init__(self, store: ObjectStore, key: SessionKey = KEY, node: str = NODE) -> None:
        self.store = store
        self.key = key
        self.node = node
        self.ends: Counter[str] = Counter()
        self.seq = 0

    async def begin(self, **known: Any) -> None:
        """Metadata and catalog entry."""
        await write_metadata(self.store, new_metadata(self.key, **known))

    async def write(
        self,
        lines: list[bytes],
        *,
        source: str = "spool/1.jsonl",
        dialect: Dialect = "ray_event",
        start: int | None = None,
        seq: int | None = None,
        **header: Any,
    ) -> str:
        """One segment of one source; ``start`` and ``seq`` where they aren't just the next. The object's key."""
        body = b"".join(lines)
        begin = self.ends[source] if start is None else start
        self.seq = self.seq + 1 if seq is None else seq
        span = Span(source, dialect, begin, begin + len(body), len(lines))
        self.ends[source] = max(self.ends[source], span.end)
        fields: dict[str, Any] = {
            "namespace": self.key.namespace,
            "cluster": self.key.cluster,
            "session": self.key.session,
            "node": self.node,
            "seq": self.seq,
            "sources": [span],
        }
        key = self.key.segment(self.node, self.seq)
        await self.store.put(key, pack(Header(**fields | header), [body]))
        return key


class WrappedStore(MemoryStore):
    """A memory store whose requests are counted, may fail, and may be held.

    ``gets`` and ``lists`` count by key and prefix. ``down`` is raised by every request while it is set.
    ``hold(key)`` makes gets of that key wait for the event it returns.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gets: Counter[str] = Counter()
        self.lists: Counter[str] = Counter()
        self.down: StoreError | None = None
        self.getting = 0
        self.most_getting = 0
        self.cancelled = 0
        self._held: dict[str, anyio.Event] = {}
        self.asked: dict[str, anyio.Event] = {}

    def hold(self, key: str) -> anyio.Event:
        self.asked[key] = anyio.Event()
        self._held[key] = anyio.Event()
        return self._held[key]

    def fail(self, reason: str = "no route to host") -> None:
        self.down = Unavailable(reason)

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        self.gets[key] += 1
        self.getting += 1
        self.most_getting = max(self.most_getting, self.getting)
        try:
            await anyio.lowlevel.checkpoint()
            if (held := self._held.get(key)) is not None:
                self.asked[key].set()
                await held.wait()
            self._check()
            return await super().get(key, start=start, end=end)
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.getting -= 1

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[ObjectInfo]:
        self.lists[prefix] += 1
        self._check()
        return await super().list(prefix, after=after, limit=limit)

    async def list_level(self, prefix: str) -> Listing:
        self.lists[prefix] += 1
        self._check()
        return await super().list_level(prefix)

    async def check(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.down is not None:
            raise self.down


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()

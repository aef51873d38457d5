"""Recorded events as templates: the same bytes with other ids, times and names. Pure.

A template keeps every byte of the event it was made from except those that tell one task attempt from
another, so what a benchmark posts is what Ray posts.
"""

from __future__ import annotations

import base64
import calendar
import json
import random
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z")
_DIGITS = re.compile(r'"(1\d{18})"')
_EVENT_ID = re.compile(r'"eventId": "([^"]+)"')
_ATTEMPT = re.compile(r'"(?:taskAttempt|attemptNumber)": (\d+)')


class Worker(NamedTuple):
    """Where an attempt ran."""

    id: bytes
    pid: int


class Attempt(NamedTuple):
    """What tells one task attempt from another."""

    task_id: bytes
    number: int
    name: str
    worker: Worker
    start_ns: int


class Recorded(NamedTuple):
    """The attempt an event was recorded of: what is to be replaced in it."""

    task_id: bytes
    name: str
    worker_id: bytes
    pid: int
    start_ns: int


Field = Callable[[Attempt, random.Random], str]


class Template:
    """One event; ``render`` gives it as another attempt would have sent it."""

    def __init__(self, event: str, recorded: Recorded) -> None:
        self.recorded = recorded
        pieces = _split(event, recorded)
        self._texts = [piece for piece in pieces if isinstance(piece, str)]
        self._fields = [piece for piece in pieces if not isinstance(piece, str)]

    def render(self, attempt: Attempt, chance: random.Random) -> str:
        out = [self._texts[0]]
        for field, text in zip(self._fields, self._texts[1:], strict=True):
            out.append(field(attempt, chance))
            out.append(text)
        return "".join(out)


def attempt_templates(events: list[dict[str, Any]]) -> list[Template]:
    """Templates of all recorded events of one attempt, in the order they came."""
    texts = [json.dumps(event) for event in events]
    definition = next(event["taskDefinitionEvent"] for event in events if "taskDefinitionEvent" in event)
    updates = [event["taskLifecycleEvent"] for event in events if "taskLifecycleEvent" in event]
    recorded = Recorded(
        base64.b64decode(definition["taskId"]),
        definition["taskName"],
        base64.b64decode(next(update["workerId"] for update in updates if update["workerId"])),
        next((update["workerPid"] for update in updates if update["workerPid"]), 0),
        min(_to_ns(found) for text in texts for found in _TIME.finditer(text)),
    )
    return [Template(text, recorded) for text in texts]


def _split(event: str, recorded: Recorded) -> list[str | Field]:
    """The event as text, field, text, … text."""
    spots: dict[tuple[int, int], Field] = {}

    def mark(pattern: str | re.Pattern[str], make: Callable[[re.Match[str]], Field]) -> None:
        for found in re.finditer(pattern, event):
            group = 1 if found.re.groups == 1 else 0
            spots.setdefault(found.span(group), make(found))

    task, worker = recorded.task_id, recorded.worker_id
    mark(_EVENT_ID, lambda _: lambda _attempt, chance: _base64(chance.randbytes(28)))
    mark(_ATTEMPT, lambda _: lambda attempt, _: str(attempt.number))
    mark(re.escape(_base64(task)), lambda _: lambda attempt, _: _base64(attempt.task_id))
    mark(task.hex(), lambda _: lambda attempt, _: attempt.task_id.hex())
    mark(re.escape(_base64(worker)), lambda _: lambda attempt, _: _base64(attempt.worker.id))
    mark(worker.hex(), lambda _: lambda attempt, _: attempt.worker.id.hex())
    if recorded.pid:
        mark(rf"(?<=[-: ]){recorded.pid}(?=[.,}}])", lambda _: lambda attempt, _: str(attempt.worker.pid))
    mark(rf"\b{recorded.name}\b", lambda _: lambda attempt, _: attempt.name)
    mark(_TIME, lambda found: _time(_to_ns(found) - recorded.start_ns))
    mark(_DIGITS, lambda found: _digits(int(found[1]) - recorded.start_ns))
    pieces: list[str | Field] = []
    at = 0
    for (start, end), field in sorted(spots.items()):
        pieces += [event[at:start], field]
        at = end
    return [*pieces, event[at:]]


def _time(offset: int) -> Field:
    return lambda attempt, _: rfc3339(attempt.start_ns + offset)


def _digits(offset: int) -> Field:
    return lambda attempt, _: str(attempt.start_ns + offset)


_seconds: dict[int, str] = {}


def rfc3339(ns: int) -> str:
    second, rest = divmod(ns, 1_000_000_000)
    text = _seconds.get(second)
    if text is None:
        if len(_seconds) > 10_000:
            _seconds.clear()
        text = _seconds[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{text}.{rest:09d}Z"


def _to_ns(found: re.Match[str]) -> int:
    return calendar.timegm(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S")) * 1_000_000_000 + int(found[2])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()

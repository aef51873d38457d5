"""Makes a large session in the posted dialect from the recorded one: N task attempts, five records each.

Written as a file of posts, one body a line, a thousand events each as Ray sends them, so that making it
doesn't take time from what is measured. Memory stays at two posts. The same ``seed`` gives the same file.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support.captures import DATA, posts, session_name

from bench.templates import Attempt, Template, Worker, attempt_templates

RECORDS = 5
"""What Ray sends of one attempt: definition, pending, running, profile, end."""
BLOCK = 200
"""Attempts in flight at once; with their five records, one post."""
SPACING_NS = 2_000_000
TASK_EVENTS = ("TASK_DEFINITION_EVENT", "TASK_LIFECYCLE_EVENT", "TASK_PROFILE_EVENT", "ACTOR_TASK_DEFINITION_EVENT")
END = ("FINISHED", "FAILED")


class Generated(NamedTuple):
    """A file of posts and what a server should find in it."""

    path: Path
    session: str
    attempts: int
    failed: int
    records: int
    bytes: int


def generate(path: Path, attempts: int = 100_000, *, seed: int = 1) -> Generated:
    """Write ``attempts`` task attempts, one in ten of them failed and tried again, to ``path``."""
    recorded = DATA / "posted"
    events = [event for body in posts(recorded) for event in json.loads(body)]
    chance = random.Random(seed)
    by_end = templates(events)
    start = max(template.recorded.start_ns for found in by_end.values() for template in found)
    counts = Counter[bool]()
    size = records = 0
    with path.open("wb") as out:
        around = [json.dumps(event) for event in events if event["eventType"] not in TASK_EVENTS]
        for post in itertools.chain([around], _blocks(_plan(attempts, start, chance), by_end, chance, counts)):
            size += out.write(f"[{', '.join(post)}]\n".encode())
            records += len(post)
    return Generated(path, session_name(recorded), attempts, counts[True], records, size)


def templates(events: list[dict[str, Any]]) -> dict[bool, list[Template]]:
    """The five records of an attempt that finished (False) and of one that failed (True), in the order of a life."""
    finished = _in_order(_recorded(events, "leaf", "FINISHED"))
    failed = _in_order(_recorded(events, "fails", "FAILED"))
    return {False: attempt_templates(finished), True: attempt_templates(failed)}


def _recorded(events: list[dict[str, Any]], name: str, end: str) -> list[dict[str, Any]]:
    """All events of one recorded attempt of ``name``; where Ray sent fewer than five, the pending states are split off the end."""
    by_attempt: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for event in events:
        if event["eventType"] in TASK_EVENTS:
            said = next(value for key, value in event.items() if key.startswith(("task", "actorTask")))
            number = said.get("taskAttempt", said.get("attemptNumber"))
            by_attempt.setdefault((said["taskId"], number), []).append(event)
    for found in by_attempt.values():
        kinds = {event["eventType"] for event in found}
        named = any(event.get("taskDefinitionEvent", {}).get("taskName") == name for event in found)
        if named and len(kinds) == 3 and len(found) >= RECORDS - 1 and end in json.dumps(found):
            return found if len(found) == RECORDS else _split_end(found)
    raise LookupError(f"no whole attempt of {name} that ended {end} in the recording")


def _split_end(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last = next(event for event in found if _states(event)[-1:] and _states(event)[-1] in END)
    begin, end = json.loads(json.dumps(last)), json.loads(json.dumps(last))
    transitions = last["taskLifecycleEvent"]["stateTransitions"]
    begin["taskLifecycleEvent"]["stateTransitions"] = transitions[:-2]
    begin["taskLifecycleEvent"].pop("rayErrorInfo", None)
    end["taskLifecycleEvent"]["stateTransitions"] = transitions[-2:]
    return [event for event in found if event is not last] + [begin, end]


def _in_order(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def place(event: dict[str, Any]) -> int:
        states = _states(event)
        if event["eventType"] == "TASK_DEFINITION_EVENT":
            return 0
        if not states:
            return 3
        return 4 if states[-1] in END else 2 if "RUNNING" in states else 1

    return sorted(found, key=place)


def _states(event: dict[str, Any]) -> list[str]:
    return [transition["state"] for transition in event.get("taskLifecycleEvent", {}).get("stateTransitions", [])]


def _plan(attempts: int, start: int, chance: random.Random) -> Iterator[tuple[Attempt, bool]]:
    """Every attempt with whether it fails: one in ten does and is followed by the next of its task."""
    workers = [Worker(chance.randbytes(28), 20_000 + number) for number in range(64)]
    names = [f"step_{number:02d}" for number in range(40)]
    job = bytes.fromhex("02000000")
    task, name, number = b"", "", 0
    failing = False
    for at in range(attempts):
        if failing:
            number += 1
        else:
            task, name, number = chance.randbytes(8) + b"\xff" * 12 + job, chance.choice(names), 0
        failing = number < 2 and chance.random() < 0.1
        yield Attempt(task, number, name, chance.choice(workers), start + at * SPACING_NS), failing


def _blocks(
    planned: Iterator[tuple[Attempt, bool]],
    by_end: dict[bool, list[Template]],
    chance: random.Random,
    counts: Counter[bool],
) -> Iterator[list[str]]:
    """A post holds the beginnings of one block of attempts and the rest of the block before it, shuffled."""
    before: list[str] = []
    while block := list(itertools.islice(planned, BLOCK)):
        post, later = before, []
        counts.update(failing for _, failing in block)
        for attempt, failing in block:
            rendered = [template.render(attempt, chance) for template in by_end[failing]]
            post += rendered[:2]
            later += rendered[2:]
        chance.shuffle(post)
        yield post
        before = later
    if before:
        yield before

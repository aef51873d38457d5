"""Which file a request for a log means: by name, task, actor, process or submission, found as Ray finds it.

``LogIndex`` is what must be known of a session; ``candidates`` says where to look, in order; ``pick`` finds
a worker's file among a node's. Unlike Ray, the node may be dead, and a file that Ray has moved to ``old/`` is
found there. Errors carry Ray's own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

from msgspec import Struct

from api.views.logs import LogOptions, NoLog

_WORKER = re.compile(r".*worker-([0-9a-f]+)-([0-9a-f]+)-(\d+).(out|err)")

NOT_FOUND = (
    "Could not find a log file. Please make sure the given option exists in the cluster.\n"
    "\tnode_id: {node_id}\n\tfilename: {filename}\n\tactor_id: {actor_id}\n\ttask_id: {task_id}\n\tpid: {pid}\n"
    "\tsuffix: {suffix}\n\tsubmission_id: {submission_id}\n\tattempt_number: {attempt_number}\n"
)
_NO_NODE = (
    "1 validation error for ResolvedStreamFileInfo\nnode_id\n"
    "  Input should be a valid string [type=string_type, input_value=None, input_type=NoneType]"
)
_ASK_THE_ACTOR = (
    "For actor task, please query actor log for actor({actor_id}): e.g. ray logs actor --id {actor_id} . Or "
    "set RAY_ENABLE_RECORD_ACTOR_TASK_LOGGING=1 in actor's runtime env or when starting the cluster. "
    "Recording actor task's log could be expensive, so Ray turns it off by default."
)


class TaskPlace(Struct, frozen=True):
    """Where an attempt ran; ``log`` is its ``task_log_info`` as answers show it."""

    node_id: str | None
    worker_id: str | None
    actor_id: str | None
    log: dict[str, Any] | None


class LogIndex(Protocol):
    """What a session's index knows that finds logs. Ids are hex."""

    def node_of_ip(self, ip: str) -> str | None:
        """The node with this address, a living one before a dead one, the latest of several."""
        ...

    def task_place(self, task_id: bytes, attempt: int) -> TaskPlace | None:
        """Where an attempt ran; None for an unknown one."""
        ...

    def has_task(self, task_id: bytes) -> bool:
        """Whether any attempt of it is known."""
        ...

    def actor_places(self, actor_id: bytes) -> list[tuple[str, str]] | None:
        """Node and worker of each of an actor's lives, the latest first; None for an unknown actor."""
        ...

    def submission_node(self, submission_id: str) -> tuple[bool, str | None]:
        """Whether the submission is known, and the node that its driver ran on."""
        ...


class Place(Struct, frozen=True):
    """Somewhere to look: a file by name, or a worker's by its id or pid. ``node_id`` None: on every node.

    ``marked``: where the part begins isn't known, but its worker wrote a line there (``:task_name:…``).
    """

    node_id: str | None
    filename: str | None = None
    worker_id: str | None = None
    pid: int | None = None
    start: int | None = None
    end: int | None = None
    marked: bool = False


def candidates(index: LogIndex, asked: LogOptions) -> list[Place]:
    """Where to look, in order. Raises ``NoLog``."""
    node_id = asked.node_id or (index.node_of_ip(asked.node_ip) if asked.node_ip else None)
    if asked.actor_id:
        return [Place(node, worker_id=worker) for node, worker in _lives(index, asked.actor_id)]
    if asked.task_id:
        return [_of_task(index, asked, asked.task_id)]
    if asked.submission_id:
        known, driver_node = index.submission_node(asked.submission_id)
        if not known:
            raise not_found(asked, None)
        return [Place(driver_node, filename=f"job-driver-{asked.submission_id}.log")]
    if asked.pid:
        if node_id is None:
            raise NoLog(f"Node id needs to be specified for resolving filenames of pid {asked.pid}")
        return [Place(node_id, pid=asked.pid)]
    if node_id is None:
        raise NoLog(_NO_NODE)
    return [Place(node_id, filename=asked.filename)]


def not_found(asked: LogOptions, node_id: str | None) -> NoLog:
    """Ray's refusal where there is no such file."""
    return NoLog(
        NOT_FOUND.format(
            node_id=node_id,
            filename=None,
            actor_id=asked.actor_id,
            task_id=asked.task_id,
            pid=asked.pid,
            suffix=asked.suffix,
            submission_id=asked.submission_id,
            attempt_number=asked.attempt_number,
        )
    )


def pick(names: Iterable[str], place: Place, suffix: str) -> str | None:
    """A worker's file among a node's files, those in the logs folder itself before those moved to ``old/``."""
    found: dict[bool, str] = {}
    for name in names:
        folder, _, base = name.rpartition("/")
        match = _WORKER.fullmatch(base) if folder in ("", "old") else None
        if match is None or match[4] != suffix:
            continue
        if match[1] == place.worker_id or (place.worker_id is None and int(match[3][:20]) == place.pid):
            found.setdefault(bool(folder), name)
    return found.get(False) or found.get(True)


def _lives(index: LogIndex, actor_id: str) -> list[tuple[str, str]]:
    try:
        raw = bytes.fromhex(actor_id)
    except ValueError:
        raw = b"\xff" * 16  # what Ray makes of it
    lives = index.actor_places(raw)
    shown = raw.hex() if len(raw) == 16 else actor_id[:100]
    if lives is None:
        raise NoLog(f"Actor ID ActorID({shown}) not found.")
    if not lives:
        raise NoLog(f"Worker ID for Actor ID ActorID({shown}) not found. Actor is not scheduled yet.")
    return lives


def _of_task(index: LogIndex, asked: LogOptions, task_id: str) -> Place:
    try:
        raw = bytes.fromhex(task_id)
    except ValueError:
        raise NoLog("Odd-length string" if len(task_id) % 2 else "Non-hexadecimal digit found") from None
    place = index.task_place(raw, asked.attempt_number)
    attempt = f"{task_id}({asked.attempt_number})"
    if place is None:
        if index.has_task(raw):
            raise NoLog(f"Could not find log file for task attempt:{attempt}")
        raise NoLog(
            f"Could not find log file for task: {task_id} (attempt {asked.attempt_number}) with suffix: {asked.suffix}"
        )
    if place.node_id is None:
        raise NoLog(f"Could not find log file for task attempt.{attempt} due to missing node info.")
    if place.log is None and place.actor_id is not None:
        raise NoLog(_ASK_THE_ACTOR.format(actor_id=place.actor_id))
    if place.log is None:
        raise NoLog(
            f"Could not find log file for task attempt:{attempt}.Worker id = {place.worker_id}, "
            f"node id = {place.node_id},log_info = None"
        )
    filename = place.log.get(f"std{asked.suffix}_file")
    start, end = place.log.get(f"std{asked.suffix}_start"), place.log.get(f"std{asked.suffix}_end")
    if filename is None and place.worker_id is not None and end is not None:
        return Place(place.node_id, worker_id=place.worker_id, end=end, marked=True)  # all that the export files say
    if filename is None:
        raise NoLog(f"Missing log filename info in {place.log} for task {task_id},attempt {asked.attempt_number}")
    return Place(place.node_id, filename=filename, start=start, end=end)

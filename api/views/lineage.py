"""Tasks as a tree of who made whom: Ray's summary by lineage.

Each task is a node under the task that made it; an actor is a node under the maker of its creation task, and
its creation and methods are under it. Siblings of one name go under a GROUP. Counts add up from the leaves,
and siblings are sorted: running first, then pending, failed, oldest.

A task whose ancestor isn't known is left out with all below it, as in Ray. Promises: no recursion, so that
no chain of tasks, however deep or closed in a ring, can break it; ``MAX_DEPTH`` bounds what is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

MAX_DEPTH = 150
"""The deepest node shown; deeper ones only count. Encoders and browsers have limits of their own."""

_DRIVER_PREFIX = "f" * 40
_ACTOR_TYPES = ("ACTOR_TASK", "ACTOR_CREATION_TASK")
_RUNNING = ("RUNNING", "RUNNING_IN_RAY_GET", "RUNNING_IN_RAY_WAIT")
_PENDING = ("PENDING_ARGS_AVAIL", "PENDING_NODE_ASSIGNMENT", "PENDING_OBJ_STORE_MEM_AVAIL", "PENDING_ARGS_FETCH")


class LineageTask(Struct, frozen=True):
    """What the tree needs of an attempt; ``name`` is the one shown."""

    task_id: str
    name: str
    function: str
    type: str
    state: str
    actor_id: str | None
    parent_task_id: str
    created_ms: int | None


class Lineage(Struct, frozen=True):
    """The tree as Ray's JSON; ``cut``: some of it was too deep to show."""

    summary: list[dict[str, Any]]
    cut: bool


class _Node(Struct):
    """One node while the tree grows."""

    name: str
    key: str
    type: str
    timestamp: int | None = None
    link: dict[str, str] | None = None
    counts: dict[str, int] = {}
    children: list[_Node] = []


def by_lineage(tasks: Sequence[LineageTask], actor_name: Callable[[str], str | None]) -> Lineage:
    """The tree of ``tasks`` in their order. Several attempts of a task are one node, which shows the last of them.

    ``actor_name``: what an actor is called; None where only its creation task is known.
    """
    roots = _Forest(tasks, actor_name).grow(tasks)
    for node in reversed(_below(roots)):
        earliest = min((child.timestamp for child in node.children if child.timestamp), default=None)
        if earliest and earliest < (node.timestamp or sys.maxsize):
            node.timestamp = earliest
        node.children = _grouped(node.children)
    roots = _grouped(roots)
    for node in reversed(_below(roots)):
        for child in node.children:
            for state, count in child.counts.items():
                node.counts[state] = node.counts.get(state, 0) + count
        node.children.sort(key=_rank)
    roots.sort(key=_rank)
    return _shown(roots)


class _Forest:
    """Finds each task's place."""

    def __init__(self, tasks: Sequence[LineageTask], actor_name: Callable[[str], str | None]) -> None:
        self._tasks = {task.task_id: task for task in tasks}
        self._creations = {
            _actor_key(task.actor_id): self._tasks[task.task_id] for task in tasks if task.type == "ACTOR_CREATION_TASK"
        }
        self._actor_name = actor_name
        self._nodes: dict[str, _Node] = {}
        self._roots: list[_Node] = []

    def grow(self, tasks: Sequence[LineageTask]) -> list[_Node]:
        """Place every task; the nodes without a parent."""
        for task in tasks:
            counts = self._place(task).counts
            counts[task.state] = counts.get(task.state, 0) + 1
        return self._roots

    def _place(self, task: LineageTask) -> _Node:
        """The task's node, made and put under its ancestors if it isn't there; so are those, as far as they are known."""
        own = node = self._nodes.get(task.task_id)
        child, key = None, task.task_id
        while node is None:
            made = self._make(key, task.created_ms)
            if made is None:
                break
            node, parent_key = made
            self._nodes[key] = node
            own = own or node
            if child is not None:
                node.children.append(child)
            if parent_key is None:
                self._roots.append(node)
                break
            child, key = node, parent_key
            node = self._nodes.get(key)
            if node is not None:
                node.children.append(child)
        assert own is not None
        return own

    def _make(self, key: str, asked_ms: int | None) -> tuple[_Node, str | None] | None:
        """A node and its parent's key (None for a root); None for what isn't known.

        An actor's time is at first that of the task that asked for it.
        """
        creation = self._creations.get(key)
        if creation is not None:
            actor_id = creation.actor_id
            name = self._actor_name(actor_id) if actor_id is not None else None
            if name is None:
                name = creation.function.split(".")[0]
            link = {"type": "actor", "id": str(actor_id)}
            return _Node(name, key, "ACTOR", asked_ms, link), _maker(creation)
        task = self._tasks.get(key)
        if task is None:
            return None
        node = _Node(task.name, key, task.type, task.created_ms, {"type": "task", "id": key})
        return node, _actor_key(task.actor_id) if task.type in _ACTOR_TYPES else _maker(task)


def _actor_key(actor_id: str | None) -> str:
    return f"actor:{actor_id}"


def _maker(task: LineageTask) -> str | None:
    parent = task.parent_task_id
    return None if not parent or parent.startswith(_DRIVER_PREFIX) else parent


def _below(roots: list[_Node]) -> list[_Node]:
    """The roots and all below them, each after its parent."""
    nodes = list(roots)
    for node in nodes:  # grows as it goes
        nodes.extend(node.children)
    return nodes


def _grouped(siblings: list[_Node]) -> list[_Node]:
    """Siblings of one name as one GROUP, where there is more than one of them."""
    groups: dict[str, list[_Node]] = {}
    for node in siblings:
        groups.setdefault(node.name, []).append(node)
    return [_group(name, nodes) if len(nodes) > 1 else nodes[0] for name, nodes in groups.items()]


def _group(name: str, nodes: list[_Node]) -> _Node:
    earliest = min((node.timestamp for node in nodes if node.timestamp), default=None)
    return _Node(name, name, "GROUP", earliest, children=nodes)


def _rank(node: _Node) -> tuple[int, int, int, int, bool]:
    counts = node.counts
    return (
        -sum(counts.get(state, 0) for state in _RUNNING),
        -sum(counts.get(state, 0) for state in _PENDING),
        -counts.get("FAILED", 0),
        node.timestamp or sys.maxsize,
        node.type != "ACTOR_CREATION_TASK",
    )


def _shown(roots: list[_Node]) -> Lineage:
    summary: list[dict[str, Any]] = []
    level = [(roots, summary)]
    for _ in range(MAX_DEPTH):
        below = []
        for nodes, shown in level:
            for node in nodes:
                children: list[dict[str, Any]] = []
                shown.append(
                    {
                        "name": node.name,
                        "key": node.key,
                        "type": node.type,
                        "timestamp": node.timestamp,
                        "state_counts": node.counts,
                        "children": children,
                        "link": node.link,
                    }
                )
                if node.children:
                    below.append((node.children, children))
        level = below
    return Lineage(summary, bool(level))

"""The nodes of a session: what each is, whether it lives, how it died.

Promises: any order, any repetition, either dialect or both give the same nodes. What it leaves to
others: the columns of an answer (``views/nodes.py``).
"""

from __future__ import annotations

from collections.abc import Callable, ValuesView

from msgspec import Struct

from api.index.order import NEVER, combine, earlier_ms, order_of, supersedes, time_of
from pipeline.events import NodeDefinition, NodeTransition, NodeUpdate

HEAD_RESOURCE = "node:__internal_head__"
_NODE_BYTES = 1500


class Node(Struct, gc=False):
    """One node. ``resources`` are the last that Ray told; a dead node keeps them."""

    node_id: bytes
    definition: NodeDefinition | None = None
    latest: int = NEVER
    transition: NodeTransition | None = None
    equipped: int = NEVER
    resources: dict[str, float] = {}
    told_end_ms: int = 0

    @property
    def is_alive(self) -> bool:
        return self.transition is None or self.transition.state != "DEAD"

    @property
    def is_head(self) -> bool:
        told = self.definition.is_head_node if self.definition is not None else None
        return bool(told) or HEAD_RESOURCE in self.resources

    @property
    def start_ms(self) -> int:
        """When it joined; 0 where nobody said."""
        return self.definition.start_time_ms if self.definition is not None else 0

    @property
    def end_ms(self) -> int:
        """When it died; 0 while it lives."""
        return 0 if self.is_alive else self.told_end_ms or time_of(self.latest) // 1_000_000

    def apply(self, transition: NodeTransition, order: int) -> None:
        """Take one state change into account. DEAD is final: a node never comes back under its id."""
        if self.transition is None or self._follows(transition, order, self.transition):
            self.latest, self.transition = order, transition
        if transition.resources and supersedes(order, transition.resources, self.equipped, self.resources):
            self.equipped, self.resources = order, transition.resources

    def _follows(self, transition: NodeTransition, order: int, last: NodeTransition) -> bool:
        dead, was_dead = transition.state == "DEAD", last.state == "DEAD"
        if dead != was_dead:
            return dead
        if dead and bool(transition.death_reason) != bool(last.death_reason):
            return bool(transition.death_reason)
        return supersedes(order, transition, self.latest, last)


class NodeTable:
    """All nodes by id."""

    def __init__(self) -> None:
        self._nodes: dict[bytes, Node] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def values(self) -> ValuesView[Node]:
        return self._nodes.values()

    def get(self, node_id: bytes) -> Node | None:
        return self._nodes.get(node_id)

    def ip(self, node_id: bytes) -> str:
        """A node's address; empty where it isn't known."""
        node = self._nodes.get(node_id)
        return node.definition.node_ip_address if node is not None and node.definition is not None else ""

    def standing(self) -> Callable[[Node], bool]:
        """Tells which nodes a dashboard saw living when it could last see anything.

        The last head is one of them whatever the records say: its dashboard ended with it, so its death is the
        session's end and was never an answer.
        """
        last = self.last_head()
        return lambda node: node.is_alive or node is last

    def last_head(self) -> Node | None:
        """The head of this session: should several be told of, the one that lives, or joined last."""
        heads = [node for node in self._nodes.values() if node.is_head]
        return max(heads, key=lambda node: (node.is_alive, node.start_ms, node.node_id), default=None)

    def define(self, record: NodeDefinition, position: int) -> None:
        """Take in what a node is."""
        node = self._node(record.node_id)
        node.definition = combine(node.definition, record)

    def update(self, record: NodeUpdate, position: int) -> None:
        """Take in what happened to a node."""
        node = self._node(record.node_id)
        node.told_end_ms = earlier_ms(node.told_end_ms, record.end_time_ms)
        for step, transition in enumerate(record.transitions):
            node.apply(transition, order_of(transition.timestamp_ns, position + step))

    def _node(self, node_id: bytes) -> Node:
        node = self._nodes.get(node_id)
        if node is None:
            node = self._nodes[node_id] = Node(node_id)
            self.nbytes += _NODE_BYTES
        return node

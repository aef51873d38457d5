"""Who was heard, and when: whether a session lives, and since when it has been silent. Pure; the clock is the caller's.

A *word* is any message of the push channel. A head's good-bye with an end is the only word that ends a session; a
head that is heard after it has taken it back (its collector was restarted, Ray was not).
"""

from __future__ import annotations

from msgspec import Struct, field

from api.status import Status, status_of
from pipeline.layout import SessionKey
from pipeline.push.pushed import Push
from pipeline.stores.catalog import SessionMetadata, new_metadata

HEARD_MS = 15_000
"""A node that was heard within this is there: three heartbeats."""
FORGET_MS = 3_600_000
MAX_NODES = 100_000


class Known(SessionMetadata, frozen=True, kw_only=True):
    """What is known of a session, the channel's words included: ``ended_ms`` is what the head said last, ``pushed_ms`` when anybody did."""

    pushed_ms: int | None = None


def pushed_ms(metadata: SessionMetadata) -> int | None:
    """When a session's last word came by push; None where none did, or nobody looked."""
    return metadata.pushed_ms if isinstance(metadata, Known) else None


class NodeHeard(Struct):
    """One node's collector. ``words`` counts; ``gone``: it said good-bye."""

    last_ms: int
    words: int = 0
    gone: bool = False


class Heard(Struct):
    """One session's collectors. ``head_ms``: the head's last word, 0 if none; ``ended_ms``: what it said of an end.

    ``polled``: who said last that the dashboard's answers were stored, and how many: another value means new ones.
    """

    last_ms: int
    nodes: dict[str, NodeHeard] = field(default_factory=dict)
    head_ms: int = 0
    ended_ms: int | None = None
    polled: tuple[str, int] | None = None


class Liveness:
    """All sessions that were heard of, as long as that is of interest."""

    def __init__(self) -> None:
        self._heard: dict[SessionKey, Heard] = {}
        self._nodes = 0

    def hear(self, key: SessionKey, push: Push, now_ms: int) -> bool:
        """Note a word that was said then. False, and nothing noted, where there are too many to remember."""
        heard = self._heard.get(key)
        node = heard.nodes.get(push.node) if heard is not None else None
        if node is None:
            if self._nodes >= MAX_NODES:
                self.forget(now_ms - FORGET_MS)
            if self._nodes >= MAX_NODES:
                return False
            heard = self._heard.setdefault(key, Heard(now_ms))
            node = heard.nodes[push.node] = NodeHeard(now_ms)
            self._nodes += 1
        assert heard is not None
        node.words += 1
        if now_ms < node.last_ms:
            return True  # said before what was heard already
        node.last_ms = now_ms
        heard.last_ms = max(now_ms, heard.last_ms)
        node.gone = push.word == "bye"
        if push.polled:
            heard.polled = push.writer, push.polled
        if push.role == "head":
            heard.head_ms = now_ms
            heard.ended_ms = push.ended_ms if push.word == "bye" else None
        return True

    def forget(self, before_ms: int) -> list[tuple[SessionKey, str]]:
        """Let go of the nodes of sessions that were last heard before that, and say which."""
        gone = [key for key, heard in self._heard.items() if heard.last_ms < before_ms]
        nodes = [(key, name) for key in gone for name in self._heard.pop(key).nodes]
        self._nodes -= len(nodes)
        return nodes

    @property
    def nodes(self) -> int:
        """How many are remembered."""
        return self._nodes

    def get(self, key: SessionKey) -> Heard | None:
        return self._heard.get(key)

    def polled(self, key: SessionKey) -> tuple[str, int] | None:
        """See ``Heard``."""
        heard = self._heard.get(key)
        return heard.polled if heard is not None else None

    def heard_ms(self, key: SessionKey) -> int | None:
        """The time of a session's last word; None where none was heard."""
        heard = self._heard.get(key)
        return heard.last_ms if heard is not None else None

    def present(self, key: SessionKey, now_ms: int) -> list[str]:
        """The nodes that are there and may say more."""
        heard = self._heard.get(key)
        if heard is None:
            return []
        return [name for name, node in heard.nodes.items() if not node.gone and now_ms - node.last_ms < HEARD_MS]

    def known(self, listed: list[SessionMetadata], now_ms: int) -> list[SessionMetadata]:
        """The sessions of a list, newest first, with what was heard of them; those that began since it was made among them."""
        if not self._heard:
            return listed
        heard = {(key.namespace, key.cluster, key.session): key for key in self._heard}
        found: list[SessionMetadata] = []
        for metadata in listed:
            key = heard.pop((metadata.namespace, metadata.cluster, metadata.session), None)
            found.append(metadata if key is None else self._known(metadata, key, now_ms))
        new = [key for key in heard.values() if self.present(key, now_ms)]
        found += [self._known(new_metadata(key), key, now_ms) for key in new]
        return sorted(found, key=lambda m: (m.created_ms, m.key), reverse=True) if new else found

    def of(self, metadata: SessionMetadata, now_ms: int) -> SessionMetadata:
        """One session with what was heard of it."""
        return self._known(metadata, metadata.key, now_ms) if metadata.key in self._heard else metadata

    def _known(self, metadata: SessionMetadata, key: SessionKey, now_ms: int) -> Known:
        fields = {name: getattr(metadata, name) for name in metadata.__struct_fields__}
        fields |= {"ended_ms": self.ended_ms(metadata, now_ms), "pushed_ms": self._heard[key].last_ms}
        return Known(**fields)

    def told(self, key: SessionKey, nodes: list[str], now_ms: int) -> bool:
        """Whether these nodes are all there, or have said good-bye, and one at least is there."""
        heard, present = self._heard.get(key), self.present(key, now_ms)
        return bool(present) and all(
            name in present or (heard is not None and name in heard.nodes and heard.nodes[name].gone) for name in nodes
        )

    def status(self, metadata: SessionMetadata, sealed_ms: int | None, now_ms: int) -> Status | None:
        """See ``status.py``. ``sealed_ms``: when its newest segment was sealed, None where nobody looked."""
        ended_ms = metadata.ended_ms if isinstance(metadata, Known) else self.ended_ms(metadata, now_ms)
        return status_of(ended_ms, metadata.created_ms, sealed_ms, now_ms, self.heard_ms(metadata.key))

    def ended_ms(self, metadata: SessionMetadata, now_ms: int) -> int | None:
        """When a session ended: a head that is there now knows better than the store."""
        heard = self._heard.get(metadata.key)
        if heard is None or not heard.head_ms:
            return metadata.ended_ms
        there = heard.ended_ms is None and now_ms - heard.head_ms < HEARD_MS
        return None if there else heard.ended_ms or metadata.ended_ms

"""What was pushed and isn't sealed yet, of every session, whether anybody watches or not. Pure, bounded in bytes.

Messages are kept as they came, compressed, until the segment with their records is in the store: so a session that
nobody looks at costs some seconds of its records, and no index. Over the limit the oldest of all goes; whoever opens
that session then finds a hole, and the store or a segment asked for fills it.
"""

from __future__ import annotations

from collections import OrderedDict

from pipeline.layout import SessionKey
from pipeline.push.pushed import Push
from pipeline.segments.segment import Span

OVERHEAD = 2048
"""About what a message takes beside its bytes."""
SPAN = 256
"""About what each of its spans takes."""
NODE = 1024


class Batch:
    """One message with records. ``data`` is None once it was let go for lack of room."""

    __slots__ = ("data", "key", "push", "size")

    def __init__(self, key: SessionKey, push: Push, data: bytes) -> None:
        self.key = key
        self.push = push
        self.data: bytes | None = data
        self.size = OVERHEAD + SPAN * len(push.sources) + len(data)


class _Node:
    """One collector's. ``cursor``: where each source ends that was pushed beyond what is sealed; ``sealed``: of
    the sources in ``batches``, what is."""

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self.cursor: dict[str, int] = {}
        self.sealed: dict[str, int] = {}
        self.batches: list[Batch] = []

    def seal(self, spans: list[Span]) -> list[Batch]:
        """Note what a segment holds; the batches that are in segments now."""
        for span in spans:
            self.sealed[span.source] = max(span.end, self.sealed.get(span.source, 0))
        done = [batch for batch in self.batches if self._holds(batch)]
        self.batches = [batch for batch in self.batches if not self._holds(batch)]
        sources = {span.source for batch in self.batches for span in batch.push.sources}
        self.cursor = {source: end for source, end in self.cursor.items() if end > self.sealed.get(source, -1)}
        self.sealed = {source: end for source, end in self.sealed.items() if source in sources}
        return done

    def _holds(self, batch: Batch) -> bool:
        return all(span.end <= self.sealed.get(span.source, -1) for span in batch.push.sources)


class Ring:
    """All of one server's."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self.dropped = 0
        self._nodes: dict[SessionKey, dict[str, _Node]] = {}
        self._order: OrderedDict[int, Batch] = OrderedDict()  # oldest first, by identity

    def knows(self, push: Push, key: SessionKey) -> bool:
        """Whether this run of the collector has said hello."""
        node = self._nodes.get(key, {}).get(push.node)
        return node is not None and node.writer == push.writer

    def hello(self, key: SessionKey, push: Push) -> dict[str, int]:
        """A collector begins; where the sources end that are held of its node."""
        nodes = self._nodes.setdefault(key, {})
        node = nodes.get(push.node)
        if node is None:
            node = nodes[push.node] = _Node(push.writer)
            self.nbytes += NODE
        node.writer = push.writer
        return dict(node.cursor)

    def add(self, key: SessionKey, push: Push, data: bytes) -> Batch:
        """Keep a message of a known collector."""
        batch = Batch(key, push, data)
        node = self._nodes[key][push.node]
        for span in push.sources:
            if span.source not in node.cursor:
                self.nbytes += SPAN
            node.cursor[span.source] = max(span.end, node.cursor.get(span.source, 0))
        node.batches.append(batch)
        self._order[id(batch)] = batch
        self.nbytes += batch.size
        while self.nbytes > self.limit and self._order:
            self._drop_oldest()
        return batch

    def ends(self, key: SessionKey, push: Push) -> dict[str, int]:
        """Where the sources of a push end now."""
        cursor = self._nodes[key][push.node].cursor
        return {span.source: cursor[span.source] for span in push.sources if span.source in cursor}

    def sealed(self, key: SessionKey, node: str, spans: list[Span]) -> None:
        """These are in the store: what lies wholly within them is let go."""
        known = self._nodes.get(key, {}).get(node)
        if known is None:
            return
        sources = len(known.cursor)
        for batch in known.seal(spans):
            self._remove(batch)
        self.nbytes -= SPAN * (sources - len(known.cursor))

    def batches(self, key: SessionKey) -> list[Batch]:
        """What is held of a session, of each node in the order in which it came."""
        return [batch for node in self._nodes.get(key, {}).values() for batch in node.batches]

    def nodes(self, key: SessionKey) -> list[str]:
        """The nodes that are known of a session."""
        return list(self._nodes.get(key, ()))

    def forget(self, key: SessionKey, node: str) -> None:
        """A collector has gone for good."""
        nodes = self._nodes.get(key, {})
        known = nodes.pop(node, None)
        if known is None:
            return
        for batch in known.batches:
            self._remove(batch)
        self.nbytes -= NODE + SPAN * len(known.cursor)
        if not nodes:
            del self._nodes[key]

    def _drop_oldest(self) -> None:
        oldest = next(iter(self._order.values()))
        self.dropped += 1
        self._nodes[oldest.key][oldest.push.node].batches.remove(oldest)
        self._remove(oldest)
        oldest.data = None

    def _remove(self, batch: Batch) -> None:
        if self._order.pop(id(batch), None) is not None:
            self.nbytes -= batch.size

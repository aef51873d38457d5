"""From a position to the present: what a stream missed, out of the store and out of what was pushed.

    position ─▶ segments after it, node by node ─▶ what the ring has no more ─▶ the ring
                 └───────── once for each round; what was sealed meanwhile is another round ─┘

Within a source the events come in order, each once. ``CatchUp`` gives frames and leaves the subscriber attached to the
hub; where that can't be (nothing can be made of the position, it is too far back, what lies between has gone) it
raises ``Missed``, and something else must say so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from anyio import to_thread

from api.session.sessions import Sessions
from api.streams.hub import Hub, SourceKey, Subscriber
from api.streams.live_data import Event
from api.streams.positions import Position, head_text, node_code, source_code
from api.streams.recall import Recall, Run, Stored
from api.streams.sse import frames
from pipeline.errors import BadPush
from pipeline.push.pushed import unpack_push
from pipeline.segments.segment import runs

MAX_BYTES = 64 << 20
"""Compressed bytes of segments that are read again for one stream: some million records."""
MAX_SEGMENTS = 2000
ROUNDS = 50
PAUSE = 0.5
"""Seconds until the store is looked at again for what is neither there nor in memory yet."""
WAITS = 30
WRITE_EVENTS = 200


class Missed(Exception):
    """A stream can't be gone on with from where it was."""


class CatchUp:
    """One stream's. ``position`` moves on with what was given."""

    def __init__(
        self, sessions: Sessions, recall: Recall, hub: Hub, subscriber: Subscriber, position: Position
    ) -> None:
        self._sessions, self._recall, self._hub, self._subscriber = sessions, recall, hub, subscriber
        self.position = position
        self._reader = hub.reader
        self._since_ms = position.since_ms or 0

    async def frames(self) -> AsyncIterator[bytes]:
        """Everything up to the present. Raises ``Missed`` and ``StoreError``."""
        await self._look()
        waits = 0
        for _ in range(ROUNDS + WAITS):
            for stored in await self._segments():
                async for part in self._segment(stored):
                    yield part
            if not self._level():
                continue
            if self._hub.attach_after(self._subscriber, self.position):
                return
            lacking = list(self._hub.lacking(self.position))
            async for part in self._pushed(lacking):
                yield part
            if waits < WAITS and any(self._hub.lacking(self.position)):
                waits += 1
                await anyio.sleep(PAUSE)
                await self._sessions.look(self._reader.key)
        raise Missed("too much comes in to be gone on with")

    async def _look(self) -> None:
        """The position may know more of the store than the reader does."""
        for _ in range(2):
            if not self._further():
                return
            await self._sessions.look(self._reader.key)
        if self._further():
            raise Missed("is of another session, or of another store")

    def _further(self) -> bool:
        known = {node_code(name): node.last_seq for name, node in self._reader.completeness.nodes.items()}
        return any(seq > known.get(code, 0) for code, seq in self.position.seqs.items())

    def _level(self) -> bool:
        """Whether the position knows every segment that the reader knows."""
        nodes = self._reader.completeness.nodes
        return all(self.position.seqs.get(node_code(name), 0) == node.last_seq for name, node in nodes.items())

    async def _segments(self) -> list[Stored]:
        found: list[Stored] = []
        for name, node in list(self._reader.completeness.nodes.items()):
            code = node_code(name)
            last = node.last_seq
            found += await self._recall.after(self._reader.key, name, self.position.seqs.get(code, 0), last)
            if len(found) > MAX_SEGMENTS or sum(stored.size for stored in found) > MAX_BYTES:
                raise Missed(f"more than {MAX_SEGMENTS} segments or {MAX_BYTES} bytes lie between")
            if not found or found[-1].node != name or found[-1].seq < last:
                found.append(Stored("", name, last, 0))
        return found

    async def _segment(self, stored: Stored) -> AsyncIterator[bytes]:
        code = node_code(stored.node)
        if stored.key:
            told = await self._recall.segment(self._reader, stored)
            for run in told:
                async for part in self._run(run):
                    yield part
            for run in told:
                if self.position.places.get(run.code, (0, 0)) <= (run.end, 0):
                    self.position.places.pop(run.code, None)
        self.position.seqs[code] = max(stored.seq, self.position.seqs.get(code, 0))

    async def _run(self, run: Run) -> AsyncIterator[bytes]:
        """What of a run wasn't told, a write at a time."""
        place = self.position.places.get(run.code, (0, 0))
        events = [event for event in run.events if (event.offset, event.nth) >= place and self._fits(event)]
        head = head_text(self.position.head()) if events else ""
        for at in range(0, len(events), WRITE_EVENTS):
            yield frames(events[at : at + WRITE_EVENTS], head, run.code)
            await anyio.lowlevel.checkpoint()
        if (run.end, 0) > place:
            self.position.places[run.code] = (run.end, 0)

    def _fits(self, event: Event) -> bool:
        return event.time_ms >= self._since_ms and self._subscriber.chosen.fits(event)

    async def _pushed(self, lacking: list[tuple[SourceKey, int, int]]) -> AsyncIterator[bytes]:
        """What isn't sealed yet and not in the ring any more, out of what the push channel keeps."""
        wanted = {key: (start, end) for key, start, end in lacking}
        for batch in self._sessions.live.ring.batches(self._reader.key):
            spans = [span for span in batch.push.sources if (batch.push.node, span.source) in wanted]
            if batch.data is None or not spans:
                continue
            try:
                push, body = await to_thread.run_sync(unpack_push, batch.data)
            except BadPush:
                continue
            for span, chunk in runs(push, body):
                key = push.node, span.source
                start, end = wanted.get(key, (0, 0))
                if span.start <= start < span.end <= end:
                    for run in await self._recall.span(self._reader, push.node, span, chunk, start):
                        async for part in self._run(run):
                            yield part
                    wanted[key] = span.end, end
                    self.position.places[source_code(*key)] = max(
                        (span.end, 0), self.position.places.get(source_code(*key), (0, 0))
                    )

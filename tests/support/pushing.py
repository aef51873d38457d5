"""A node's collector by hand: it pushes to a server in this process what the test says, and seals when it says so."""

from __future__ import annotations

from typing import Any

import msgspec
from support.sessions import KEY, NODE, SegmentWriter

from api.session.sessions import Sessions
from pipeline.layout import SessionKey
from pipeline.push.pushed import Push, Word, pack_push
from pipeline.segments.segment import Dialect, Span
from pipeline.stores.store import ObjectStore

SOURCE = "spool/1.jsonl"


class Collector:
    """Of one source. It pushes lines, seals them, and keeps the positions."""

    def __init__(
        self,
        sessions: Sessions,
        store: ObjectStore,
        key: SessionKey = KEY,
        node: str = NODE,
        *,
        source: str = SOURCE,
        dialect: Dialect = "ray_event",
    ) -> None:
        self.sessions, self.key, self.node = sessions, key, node
        self.source, self.dialect = source, dialect
        self.segments = SegmentWriter(store, key, node)
        self.lines: list[bytes] = []
        self.sealed_lines = 0

    def say(self, word: Word, spans: list[Span] | None = None, body: bytes = b"", **changed: Any) -> Any:
        plain = Push(
            namespace=self.key.namespace,
            cluster=self.key.cluster,
            session=self.key.session,
            node=self.node,
            seq=self.segments.seq,
            sources=spans or [],
            reason="push",
            writer="w",
            word=word,
            role="head",
        )
        push = msgspec.structs.replace(plain, **changed)
        return self.sessions.live.take(self.key, push, pack_push(push, [body]))

    def write(self, lines: list[bytes]) -> range:
        """Lines that were read; which of all they are."""
        self.lines += lines
        return range(len(self.lines) - len(lines), len(self.lines))

    def push(self, which: range | list[bytes]) -> Any:
        which = which if isinstance(which, range) else self.write(which)
        body = b"".join(self.lines[which.start : which.stop])
        start = len(b"".join(self.lines[: which.start]))
        return self.say("batch", [Span(self.source, self.dialect, start, start + len(body), len(which))], body)

    async def seal(self, *, tell: bool = True) -> None:
        lines = self.lines[self.sealed_lines :]
        start = len(b"".join(self.lines[: self.sealed_lines]))
        await self.segments.write(lines, source=self.source, dialect=self.dialect, start=start)
        self.sealed_lines = len(self.lines)
        if tell:
            spans = [Span(self.source, self.dialect, start, start + len(b"".join(lines)), len(lines))]
            self.say("sealed", spans, seq=self.segments.seq)

    def asked_to_seal(self) -> bool:
        return bool(self.sessions.live.finish(self.key, self.node, self.say("alive")).seal)

"""One session's words to whoever listens, as they happen: beside the way of the data, never in it.

    follower ──offer──▶ outbox (bounded) ──▶ one message at a time ──▶ channel: HTTP or NATS
             ◀──seal── its answer ◀─────────────────────────────────────┘
    shipper ──sealed──▶ (the last few headers) ─▶ the same way
    logs that are followed ──▶ in turn with records ─▶ the same way, as its answers ask (``logtail.py``)

``offer`` and ``sealed`` never wait and never fail. A channel that is dead or slow costs the outbox its oldest
chunks and nothing else: what doesn't go this way is in the store within the age of a segment.

After every failure it begins again with a hello, and goes on from where the answer says that the other side is.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

import anyio
import structlog

from pipeline import metrics
from pipeline.errors import PushFailed
from pipeline.layout import SessionKey
from pipeline.push.outbox import Outbox, spans
from pipeline.push.pushed import Answer, LogAsk, LogSpan, Push, Word, pack_push
from pipeline.segments.batch import Chunk
from pipeline.segments.segment import Header
from pipeline.ship.ship import VERSION
from pipeline.watch import Wake

ALIVE_EVERY = 4.0
"""Shorter than the five seconds for which many a server keeps a silent connection."""
FIRST, LONGEST, REFUSED = 0.1, 5.0, 30.0
SEAL_EVERY = 1.0
LEAST_WITHIN = 0.1
BYE_SECONDS = 2.0
KEPT_SEALS = 16
IN_THREAD = 64 << 10

log = structlog.get_logger()


class Channel(Protocol):
    """A way to those who listen. One message of a session is under way at a time."""

    async def send(self, push: Push, data: bytes) -> Answer:
        """Returns once the message was taken and it is time for the next one. Raises ``PushFailed``."""
        ...

    def on_ask(self, key: SessionKey, hurry: Callable[[], None]) -> None:
        """``hurry`` is called where those who listen want a word now, if they can say so between messages."""
        ...


class Tails(Protocol):
    """What those who listen follow of a session's logs. Nothing here waits."""

    @property
    def ready(self) -> bool:
        """Whether there is something to take."""
        ...

    def ask(self, asked: list[LogAsk]) -> None:
        """From now on these are followed, from where they say, and no others."""
        ...

    def take(self) -> list[tuple[LogSpan, bytes]]:
        """What there is of them, for one message."""
        ...


class Pusher:
    """One session's. ``seal`` is called where the other side asks for a segment to be closed; ``tails`` may be given before ``run``."""

    def __init__(
        self,
        channel: Channel,
        key: SessionKey,
        role: Literal["head", "worker"],
        limit: int,
        seal: Callable[[], None],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._channel, self._key, self._role, self._seal, self._now_ns = channel, key, role, seal, now_ns
        self._outbox = Outbox(limit)
        self._seals: deque[Header] = deque(maxlen=KEPT_SEALS)
        self._seq = self._polled = 0
        self._wake = Wake()
        self._writer = uuid.uuid4().hex
        self._node: str | None = None
        self.tails: Tails | None = None
        self._last: Word = "hello"
        self._watched = self._greeted = False
        self._asked = float("-inf")
        self._trouble: str | None = None
        self._log = log.bind(session=key.session)

    def offer(self, chunks: list[Chunk]) -> None:
        """Records that were read."""
        if dropped := self._outbox.add(chunks):
            metrics.PUSH_DROPPED.inc(dropped)
        self._wake.set()

    def sealed(self, header: Header) -> None:
        """A segment that is in the store."""
        self._outbox.sealed(header)
        self._seals.append(header)
        self._seq = header.seq
        self._wake.set()

    def polled(self, answers: int) -> None:
        """So many answers of the dashboard are in the store by now."""
        self._polled = answers
        self._wake.set()

    def hurry(self) -> None:
        """There is something to say."""
        self._wake.set()

    async def run(self, node: str) -> None:
        """Until cancelled."""
        self._node = node
        self._channel.on_ask(self._key, self.hurry)
        delay = FIRST
        while True:
            began = anyio.current_time()
            try:
                await self._converse()
                await anyio.sleep(FIRST)
            except PushFailed as exc:
                self._down(exc)
                if anyio.current_time() - began > LONGEST:
                    delay = FIRST
                shut_out = exc.refused and not self._greeted
                await anyio.sleep(random.uniform(0.5, 1.0) * (REFUSED if shut_out else delay))
                delay = min(delay * 2, LONGEST)

    async def bye(self, ended_ms: int | None) -> None:
        """Nothing more comes; said once, for as long as ``BYE_SECONDS``. Only after a hello."""
        if self._node is None:
            return
        with anyio.move_on_after(BYE_SECONDS):
            try:
                await self._say("bye", ended_ms=ended_ms)
            except PushFailed as exc:
                self._log.info("nobody to say good-bye to", reason=str(exc))

    async def _converse(self) -> None:
        """From a hello to a failure. Returns where the other side doesn't know us (any more)."""
        self._greeted = False
        if self.tails is not None:
            self.tails.ask([])
        answer = await self._say("hello")
        self._greeted = True
        self._outbox.resume(answer.cursor)
        self._up()
        while not answer.again:
            hurry = answer.watched and not self._watched
            self._watched = answer.watched
            self._heed(answer)
            if not self._outbox.unsent and not self._seals and not self._tails_ready and not hurry:
                await self._wake.wait(max(LEAST_WITHIN, min(answer.within or ALIVE_EVERY, ALIVE_EVERY)))
            answer = await self._next()

    async def _next(self) -> Answer:
        """The next message. Records and logs take turns, where there are both."""
        if self._seals:
            return await self._say("sealed", of=self._seals.popleft())
        if self.tails is not None and self.tails.ready and not (self._last == "log" and self._outbox.unsent):
            return await self._say("log", parts=self.tails.take())
        chunks = self._outbox.take()
        return await self._say("batch" if chunks else "alive", chunks)

    @property
    def _tails_ready(self) -> bool:
        return self.tails is not None and self.tails.ready

    def _heed(self, answer: Answer) -> None:
        if self.tails is not None:
            self.tails.ask(answer.logs)
        if answer.seal and anyio.current_time() - self._asked >= SEAL_EVERY:
            self._asked = anyio.current_time()
            metrics.PUSH_SEALS.inc()
            self._seal()

    async def _say(
        self,
        word: Word,
        chunks: list[Chunk] | None = None,
        *,
        of: Header | None = None,
        parts: list[tuple[LogSpan, bytes]] | None = None,
        ended_ms: int | None = None,
    ) -> Answer:
        chunks, parts = chunks or [], parts or []
        self._last = word
        assert self._node is not None, "said before run"
        push = Push(
            namespace=self._key.namespace,
            cluster=self._key.cluster,
            session=self._key.session,
            node=self._node,
            seq=self._seq if of is None else of.seq,
            sources=spans(chunks) if of is None else of.sources,
            min_time_ns=min((chunk.min_time_ns for chunk in chunks if chunk.min_time_ns), default=0),
            max_time_ns=max((chunk.max_time_ns for chunk in chunks), default=0),
            created_ns=self._now_ns() if of is None else of.created_ns,
            reason="push",
            writer=self._writer,
            version=VERSION,
            gaps=_gaps(chunks) if of is None else of.gaps,
            word=word,
            role=self._role,
            polled=self._polled,
            ended_ms=ended_ms,
            logs=[span for span, _ in parts],
        )
        body = [chunk.data for chunk in chunks] + [content for _, content in parts]
        if push.carries > IN_THREAD:
            data = await anyio.to_thread.run_sync(pack_push, push, body)
        else:
            data = pack_push(push, body)
        try:
            answer = await self._channel.send(push, data)
        except PushFailed as exc:
            if exc.refused:
                self._outbox.drop(chunks)
            raise
        metrics.PUSHES.labels(word).inc()
        return answer

    def _down(self, exc: PushFailed) -> None:
        metrics.PUSH_FAILURES.inc()
        if self._trouble is None:
            say = self._log.error if exc.refused else self._log.warning
            say("news can't be pushed, trying again; the store gets them all the same", reason=str(exc))
        self._trouble = str(exc)

    def _up(self) -> None:
        if self._trouble is not None:
            self._log.info("news are pushed again")
        self._trouble = None


def _gaps(chunks: list[Chunk]) -> list[dict[str, object]]:
    """Lines left out knowingly, said where a segment says them."""
    gaps = [chunk.gap for chunk in chunks if chunk.gap is not None]
    return [{"source": gap.source, "start": gap.start, "end": gap.end, "why": gap.why} for gap in gaps]

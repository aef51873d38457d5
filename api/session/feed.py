"""From what was pushed to one session in memory: in order, each byte once, never over a hole.

    news ─▶ queue ─▶ follows on what is known? ─▶ unpack ─▶ apply
                              │ no
                              ▼
                      put aside, look at the store ─▶ still a hole? ask its collector for a segment

A batch that was put aside is tried again whenever its node came further. While nobody wants the session nothing is
queued: the next to want it begins with what the ring holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import structlog
from anyio import to_thread

from api.live.live import Live
from api.live.ring import Batch
from api.metrics import PUSHES_BAD, SEALS_ASKED
from api.session.reader import SessionReader
from pipeline.errors import BadPush, RayHistoryError
from pipeline.push.pushed import Push, unpack_push

MAX_QUEUED = 10_000
"""Messages that wait to be applied; of more, the ring and the store have all that matters."""
LOOK_EVERY = 1.0
"""Seconds between two looks at the store for what is lacking, where nothing says that it is there now."""
IN_THREAD = 32 << 10
"""Bytes from which on unpacking is left to a thread."""

log = structlog.get_logger()


class Feed:
    """One session's. ``look`` reads on in the store; ``room`` raises ``Full`` where the index may not grow any more."""

    def __init__(
        self,
        reader: SessionReader,
        live: Live,
        look: Callable[[], Awaitable[None]],
        room: Callable[[], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        self._reader, self._live, self._look, self._room, self._now = reader, live, look, room, now
        self._queue: deque[Batch | Push] = deque()
        self._aside: list[Batch] = []
        self._behind = True
        self._look_due = False
        self._looked = float("-inf")

    @property
    def whole(self) -> bool:
        """Whether all that was pushed so far is applied."""
        return not (self._queue or self._aside or self._behind or self._look_due)

    def news(self, push: Push, batch: Batch | None) -> None:
        """A message came and somebody wants the session. ``run`` takes it from here."""
        if len(self._queue) >= MAX_QUEUED:
            self._fall_behind()
        if push.word == "bye" or (push.word == "hello" and push.seq > self._reader.last_seq(push.node)):
            self._look_due = True
        elif batch is not None and not self._behind:
            self._queue.append(batch)
        elif push.word == "sealed":
            self._queue.append(push)

    def idle(self, push: Push) -> None:
        """A message came and nobody wants the session."""
        if not self._behind:
            self._fall_behind()
        if push.word == "sealed":
            self._reader.note_sealed(push)

    async def run(self) -> None:
        """Apply what there is. Returns when that is done, or waits for a segment that was asked for. Raises ``StoreError`` and ``Full``."""
        try:
            await self._run()
        except RayHistoryError:
            self._fall_behind()
            raise

    def _fall_behind(self) -> None:
        """Keep nothing: what is sealed by the next time is in the store, and the rest in the ring."""
        self._queue.clear()
        self._aside.clear()
        self._behind = self._look_due = True

    async def _run(self) -> None:
        if self._behind:
            self._behind = False
            self._queue.extendleft(reversed(self._live.ring.batches(self._reader.key)))
            self._aside = []
        await self._apply_queue()
        if self._look_due or (self._aside and self._now() - self._looked >= LOOK_EVERY):
            await self._look_again()
            await self._retry()
            self._ask()

    async def _look_again(self) -> None:
        self._look_due, self._looked = False, self._now()
        try:
            await self._look()
        except BaseException:
            self._look_due = True
            raise

    async def _apply_queue(self) -> None:
        while self._queue:
            first = self._queue[0]
            if isinstance(first, Push):
                self._queue.popleft()
                self._look_due |= not self._reader.note_sealed(first)
                continue
            whole = await self._apply(first)
            if self._queue and self._queue[0] is first:  # nobody has cleared it meanwhile
                self._queue.popleft()
            if not whole:
                self._aside.append(first)
            elif self._aside:
                self._queue_again(first.push.node)

    async def _retry(self) -> None:
        self._queue.extendleft(reversed(self._aside))
        self._aside = []
        await self._apply_queue()

    def _queue_again(self, node: str) -> None:
        """A node came further: what was put aside of it may follow now."""
        again = [each for each in self._aside if each.push.node == node and self._reader.follows(each.push)]
        if again:
            self._aside = [each for each in self._aside if each not in again]
            self._queue.extendleft(reversed(again))

    async def _apply(self, batch: Batch) -> bool:
        """Whether nothing of it is left to do."""
        data = batch.data  # may be let go while this waits
        if data is None or self._reader.covers(batch.push):
            return True
        if not self._reader.follows(batch.push):
            return False
        await self._room()
        try:
            if len(data) > IN_THREAD:
                push, body = await to_thread.run_sync(unpack_push, data)
            else:
                push, body = unpack_push(data)
        except BadPush as exc:
            self._bad(batch, str(exc))
            return True
        try:
            return await self._reader.apply_push(push, body)
        except Exception as exc:  # whatever it is: the segment with these records says so, too
            log.exception("pushed records could not be applied", session=str(batch.key))
            self._bad(batch, f"internal error: {type(exc).__name__}")
            return True

    def _ask(self) -> None:
        for node in {batch.push.node for batch in self._aside}:
            SEALS_ASKED.inc()
            self._live.ask_seal(self._reader.key, node)

    def _bad(self, batch: Batch, reason: str) -> None:
        PUSHES_BAD.inc()
        log.warning("push ignored", session=str(batch.key), node=batch.push.node, reason=reason)

"""Fetches the dashboard answers that a session's collector kept: each once, again only when it has changed.

Bounded in number and in bytes. What isn't an answer, or stands in another's place, is left out and named once
in the log; a store that doesn't answer is a ``StoreError``.
"""

from __future__ import annotations

import anyio
import structlog
from anyio import to_thread
from msgspec import Struct

from api.groups import first_error
from api.snapshots import NONE, Snapshots
from pipeline.dashboard.endpoints import Answer, BadAnswer, folder, place, unpack
from pipeline.errors import NotFound
from pipeline.layout import SessionKey
from pipeline.stores.store import ObjectInfo, ObjectStore

MAX_ANSWERS = 2000
MAX_ANSWER = 40 << 20
"""Bytes of one: what the collector keeps at most, and its envelope."""
MAX_BYTES = 128 << 20
"""Bytes of all of them."""
AT_ONCE = 8
MAX_MS = 1 << 53
_IN_THREAD = 64 << 10

log = structlog.get_logger()


class _Read(Struct):
    """One object as it was read; ``answer`` None where it isn't one."""

    etag: str
    size: int
    answer: Answer | None


class SnapshotReader:
    """One session's answers, brought up to date by ``refresh``; two never run at once (see ``sessions.py``)."""

    def __init__(self, store: ObjectStore, key: SessionKey) -> None:
        self._store = store
        self._key = key
        self._known: dict[str, _Read] = {}
        self._snapshots = NONE

    async def refresh(self) -> Snapshots:
        """The answers as the store has them now; the same object as before where nothing has changed."""
        infos = await self._store.list(folder(self._key), limit=MAX_ANSWERS)
        there = {info.key: info for info in infos}
        gone = self._known.keys() - there.keys()
        for key in gone:
            del self._known[key]
        changed = [info for key, info in there.items() if key not in self._known or self._known[key].etag != info.etag]
        await self._read(changed)
        if changed or gone:
            known = sorted(self._known.items())
            answers = [read.answer for _, read in known if read.answer is not None]
            self._snapshots = Snapshots(answers, [f"{key}={read.etag}" for key, read in known])
        return self._snapshots

    async def _read(self, changed: list[ObjectInfo]) -> None:
        waiting = iter(changed)
        others = {info.key for info in changed}
        room = MAX_BYTES - sum(read.size for key, read in self._known.items() if key not in others)

        async def work() -> None:
            nonlocal room
            for info in waiting:
                fits = info.size <= min(MAX_ANSWER, room)
                room -= info.size if fits else 0
                answer = await self._answer(info) if fits else None
                if not fits:
                    self._leave_out(info, "too large")
                self._known[info.key] = _Read(info.etag, info.size if fits else 0, answer)

        with first_error():
            async with anyio.create_task_group() as group:
                for _ in range(min(AT_ONCE, len(changed))):
                    group.start_soon(work)

    async def _answer(self, info: ObjectInfo) -> Answer | None:
        try:
            data = await self._store.get(info.key, end=MAX_ANSWER)
            answer = await to_thread.run_sync(unpack, data) if len(data) > _IN_THREAD else unpack(data)
            self._check(answer, info)
        except NotFound:
            return None
        except BadAnswer as exc:
            self._leave_out(info, str(exc))
            return None
        return answer

    def _check(self, answer: Answer, info: ObjectInfo) -> None:
        if not answer.url.startswith("/") or answer.url.startswith("//") or place(self._key, answer.url) != info.key:
            raise BadAnswer("it stands in another's place")
        if not 0 <= answer.time_ms < MAX_MS:
            raise BadAnswer("its time is none")

    def _leave_out(self, info: ObjectInfo, reason: str) -> None:
        log.warning("dashboard answer left out", key=info.key, size=info.size, reason=reason)

"""What the head's dashboard answered of a session while it lived: the polled answers in the store, by request.

One listing names them with their entity tags; only what is new or has changed is read. An object that isn't an
answer, or not the one that its place says, is left out. Values that the collector masked read as Ray's
``<redacted>``.
"""

from __future__ import annotations

from typing import Any

import msgspec
import structlog

from pipeline.endpoints import Answer, BadAnswer, folder, place, same_request, unpack
from pipeline.errors import NotFound
from pipeline.layout import SessionKey
from pipeline.redact import show_masked
from pipeline.store import ObjectStore

MAX_ANSWERS = 1200
MAX_ANSWER = 64 << 20
MAX_TOTAL = 256 << 20

log = structlog.get_logger()


class Polled:
    """One session's answers. ``refresh`` brings them up to date; two never run at once."""

    def __init__(self, store: ObjectStore, key: SessionKey) -> None:
        self._store = store
        self._key = key
        self._etags: dict[str, str] = {}
        self._answers: dict[str, Answer] = {}

    @property
    def nbytes(self) -> int:
        """About how much memory this takes."""
        return sum(len(answer.body) + 500 for answer in self._answers.values())

    async def refresh(self) -> None:
        """List, and read what is new. Raises ``StoreError``."""
        total = 0
        for info in await self._store.list(folder(self._key), limit=MAX_ANSWERS):
            total += info.size
            if self._etags.get(info.key) == info.etag:
                continue
            if info.size > MAX_ANSWER or total > MAX_TOTAL:
                log.warning("answer too large, left out", key=info.key, size=info.size)
                continue
            answer = await self._read(info.key)
            if answer is not None:
                self._answers[info.key] = answer
            self._etags[info.key] = info.etag

    async def _read(self, key: str) -> Answer | None:
        try:
            answer = unpack(await self._store.get(key, end=MAX_ANSWER))
        except (NotFound, BadAnswer) as exc:
            log.warning("answer left out", key=key, reason=str(exc))
            return None
        if place(self._key, answer.url) != key:
            log.warning("answer left out", key=key, reason="it answers something else")
            return None
        return answer

    def answer(self, url: str) -> Answer | None:
        """What was answered to a path and query; None where that was never asked."""
        known = self._answers.get(place(self._key, url))
        if known is not None and known.url == url:
            return known
        return next((answer for answer in self._answers.values() if same_request(answer.url, url)), None)

    def value(self, url: str) -> Any:
        """The decoded body of a successful answer, secrets named as such; None where there is none."""
        answer = self.answer(url)
        if answer is None or not 200 <= answer.status < 300:
            return None
        try:
            return show_masked(msgspec.json.decode(answer.body))
        except (msgspec.DecodeError, RecursionError):
            return None

"""A store that can be away, slow, or lie, in front of one that can't."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from pipeline.errors import StoreError, Unavailable
from pipeline.stores.store import Listing, MemoryStore, ObjectInfo


class FlakyStore(MemoryStore):
    """``away`` makes every request fail; ``lose_answers`` puts and then says it didn't; ``hold`` makes puts wait."""

    def __init__(self) -> None:
        super().__init__()
        self.away: StoreError | None = None
        self.lose_answers = 0
        self.hold: anyio.Event | None = None
        self.before_put: Callable[[str], None] = lambda _: None
        self.puts: list[str] = []
        self.gets = 0
        self.at_once = 0
        self.most_at_once = 0

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        self._answer()
        if self.hold is not None:
            await self.hold.wait()
        self.before_put(key)
        etag = await super().put(key, data, if_absent=if_absent)
        self.puts.append(key)
        if self.lose_answers and "/events/" in key:
            self.lose_answers -= 1
            raise Unavailable("the answer was lost")
        return etag

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        self._answer()
        self.gets += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await anyio.lowlevel.checkpoint()
            return await super().get(key, start=start, end=end)
        finally:
            self.at_once -= 1

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[ObjectInfo]:
        self._answer()
        return await super().list(prefix, after=after, limit=limit)

    async def list_level(self, prefix: str) -> Listing:
        self._answer()
        return await super().list_level(prefix)

    def _answer(self) -> None:
        if self.away is not None:
            raise self.away


def down() -> Unavailable:
    return Unavailable("nobody answers")

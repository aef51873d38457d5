"""One session read aside: by a reader of its own, within a bound of its own, and let go at once.

For work that nobody waits for. It takes no place in the cache, so it pushes nobody's session out, and it never holds
more than ``room()`` bytes, which may shrink while it reads: compressed objects on their way a quarter, one unpacked
segment a quarter, the index the rest. What is too large is refused by its weight before any of it is read, and by
what it takes while it is read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import blake2b

from anyio import CapacityLimiter
from msgspec import Struct

from api.session.reader import SessionReader
from api.session.snapshot_reader import MAX_ANSWERS
from pipeline.dashboard.endpoints import folder
from pipeline.errors import Full
from pipeline.layout import SessionKey
from pipeline.stores.store import ObjectStore

MAX_SEGMENTS = 20_000
"""Each is a request: a session of more is as large as one of too many bytes."""


class Weight(Struct, frozen=True):
    """What the store has of a session. ``tag`` changes whenever that does."""

    segments: int
    bytes: int
    tag: str


async def weigh(store: ObjectStore, key: SessionKey) -> Weight:
    """List a session, reading nothing of it. Raises ``StoreError``."""
    segments = await store.list(key.events, limit=MAX_SEGMENTS + 1)
    answers = await store.list(folder(key), limit=MAX_ANSWERS)
    found = [*segments, *answers]
    said = "\n".join(f"{info.key}={info.etag}" for info in found)
    tag = blake2b(said.encode(), digest_size=8).hexdigest()
    return Weight(len(segments), sum(info.size for info in found), tag)


def fits(weight: Weight, room: int) -> bool:
    """Whether reading it is worth a try. A session in memory takes about twice what it does in the store."""
    return weight.segments <= MAX_SEGMENTS and weight.bytes <= room // 4


async def read_aside(
    store: ObjectStore, key: SessionKey, room: Callable[[], int], between: Callable[[], Awaitable[None]]
) -> SessionReader:
    """The session as the store has it. ``between`` is awaited after each segment.

    Raises ``Full`` where it takes more than ``room()``, and what ``SessionReader.refresh`` raises.
    """
    reader = SessionReader(store, key, CapacityLimiter(1), most_body=max(1, room() // 4))

    async def applied() -> None:
        if await reader.nbytes() > room() // 2:
            raise Full(f"session {key} takes more than half of {room()} bytes")
        await between()

    await reader.refresh(applied)
    await applied()
    return reader

"""All sessions of the store and what is known of each, kept up to date with few requests.

One listing names every session and the entity tag of its catalog entry; only entries that are new or have
changed are read. Entries are written by collectors and by anyone who may write to the bucket: one that can't be
read is listed by its name alone, and what isn't a session's name isn't listed.
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio
import structlog
from msgspec import Struct, structs

from api.groups import first_error
from pipeline.errors import FormatError, NotFound
from pipeline.layout import CATALOG, SessionKey, catalog_entry
from pipeline.stores.catalog import MAX_METADATA, SessionMetadata, new_metadata, parse_metadata
from pipeline.stores.store import ObjectInfo, ObjectStore

MAX_SESSIONS = 100_000
GETS_AT_ONCE = 16

log = structlog.get_logger()


class _Known(Struct):
    etag: str
    metadata: SessionMetadata


class Listing:
    """The catalog in memory. ``refresh`` brings it up to date; two never run at once (see ``shared.py``)."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: dict[SessionKey, _Known] = {}
        self._sorted: list[SessionMetadata] = []

    @property
    def newest_first(self) -> list[SessionMetadata]:
        """Every session, the newest first."""
        return self._sorted

    async def refresh(self) -> None:
        """List, and read what is new. Raises ``StoreError``; what was read by then is kept."""
        infos = await self._store.list(CATALOG, limit=MAX_SESSIONS)
        if len(infos) == MAX_SESSIONS:
            log.warning("too many sessions: the rest is not listed", listed=MAX_SESSIONS)
        entries = {key: info for info in infos if (key := catalog_entry(info.key)) is not None}
        for gone in self._known.keys() - entries.keys():
            del self._known[gone]
        await self._read(
            (key, info)
            for key, info in entries.items()
            if (known := self._known.get(key)) is None or known.etag != info.etag
        )
        found = [known.metadata for known in self._known.values()]
        self._sorted = sorted(found, key=lambda m: (m.created_ms, m.key), reverse=True)

    async def _read(self, changed: Iterable[tuple[SessionKey, ObjectInfo]]) -> None:
        slots = anyio.Semaphore(GETS_AT_ONCE)

        async def read_one(key: SessionKey, info: ObjectInfo) -> None:
            try:
                self._known[key] = _Known(info.etag, await self._metadata(key, info))
            except NotFound:
                log.info("session gone since it was listed", session=str(key))
            finally:
                slots.release()

        with first_error():
            async with anyio.create_task_group() as group:
                for key, info in changed:
                    await slots.acquire()
                    group.start_soon(read_one, key, info)

    async def _metadata(self, key: SessionKey, info: ObjectInfo) -> SessionMetadata:
        try:
            metadata = parse_metadata(await self._store.get(info.key, end=MAX_METADATA + 1), key)
        except FormatError as exc:
            log.warning("catalog entry ignored", key=info.key, reason=str(exc))
            return new_metadata(key)
        return metadata if metadata.created_ms else structs.replace(metadata, created_ms=new_metadata(key).created_ms)

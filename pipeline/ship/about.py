"""What a collector says of a session as a whole: that it is there, and, on the head, that it has ended."""

from __future__ import annotations

import structlog
from msgspec import structs

from pipeline.config import CollectorConfig
from pipeline.layout import SessionKey
from pipeline.ship.ship import VERSION
from pipeline.stores.catalog import NewerFormat, SessionMetadata, new_metadata, read_metadata, write_metadata
from pipeline.stores.store import ObjectStore

log = structlog.get_logger()


async def seen(store: ObjectStore, config: CollectorConfig, key: SessionKey, lives: bool) -> None:
    """The session is there. The head takes back an end that wasn't one, as when only its collector was restarted."""
    known = await read_metadata(store, key)
    if known is not None and known.ended_ms is not None and lives and config.role == "head":
        await write_metadata(store, structs.replace(known, ended_ms=None), merge=False)
    else:
        await _write(store, _mine(config, key))


async def ended(store: ObjectStore, config: CollectorConfig, key: SessionKey, at_ms: int) -> None:
    """The session is over; the first end that was said stands."""
    known = await read_metadata(store, key)
    if known is None or known.ended_ms is None:
        await _write(store, structs.replace(_mine(config, key), ended_ms=at_ms))


async def _write(store: ObjectStore, meta: SessionMetadata) -> None:
    try:
        await write_metadata(store, meta)
    except NewerFormat as exc:  # its records go on all the same
        log.warning("session metadata left as it is", key=meta.key.metadata, reason=str(exc))


def _mine(config: CollectorConfig, key: SessionKey) -> SessionMetadata:
    return new_metadata(key, owner_kind=config.owner_kind, owner_name=config.owner_name, writer_version=VERSION)

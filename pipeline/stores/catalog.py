"""Which sessions there are, and what is known of each as a whole.

A session's ``metadata.json`` is the truth; the catalog entry holds the same JSON where one listing finds
all sessions. Entries can be made again from the sessions themselves (``rebuild_catalog``). Written by
collectors, several to a session, and by anyone who may write to the bucket: read as hostile.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, TypeVar

import anyio
import msgspec
import structlog
from msgspec import Meta, Struct, structs

from pipeline.errors import AlreadyExists, BadKey, FormatError, NotFound, StoreError, Unavailable
from pipeline.layout import CATALOG, SessionKey, catalog_entry
from pipeline.stores.store import ObjectStore

FORMAT = 1
MAX_METADATA = 64 << 10  # bytes
_MAX_MS = 253_402_300_799_999  # the last one a date can be made of
_TRIES = 5
_CONCURRENCY = 16
_NAME = re.compile(r"session_(\d{4})-(\d\d)-(\d\d)_(\d\d)-(\d\d)-(\d\d)_(\d{6})_\d+", re.ASCII)

_Text = Annotated[str, Meta(max_length=1024)]
_Ms = Annotated[int, Meta(ge=0, le=_MAX_MS)]

_T = TypeVar("_T")

log = structlog.get_logger()


class SessionMetadata(Struct, frozen=True, kw_only=True):
    """What is known of a session as a whole. Times in ms since the epoch, 0 or None where nobody said."""

    namespace: _Text
    cluster: _Text
    session: _Text
    owner_kind: _Text = ""
    owner_name: _Text = ""
    created_ms: _Ms = 0
    ended_ms: _Ms | None = None
    ray_version: _Text | None = None
    writer_version: _Text = ""
    format: int = FORMAT

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.namespace, self.cluster, self.session)


class _Version(Struct):
    format: int = FORMAT


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(SessionMetadata)
_version = msgspec.json.Decoder(_Version)


class NewerFormat(FormatError):
    """Metadata that a newer program wrote: read by none of ours, and never written over."""


def new_metadata(key: SessionKey, **known: Any) -> SessionMetadata:
    """Metadata of a session, created when its name says unless ``created_ms`` is among ``known``."""
    known.setdefault("created_ms", session_created_ms(key.session) or 0)
    return SessionMetadata(namespace=key.namespace, cluster=key.cluster, session=key.session, **known)


def parse_metadata(data: bytes, key: SessionKey) -> SessionMetadata:
    """Raises ``FormatError`` for anything that isn't metadata of this very session."""
    if len(data) > MAX_METADATA:
        raise FormatError(f"more than {MAX_METADATA} bytes")
    try:
        if (version := _version.decode(data).format) > FORMAT:
            raise NewerFormat(f"format {version} is newer than this program knows ({FORMAT}): upgrade it")
        meta = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise FormatError(f"not session metadata: {exc}") from exc
    if (meta.namespace, meta.cluster, meta.session) != (key.namespace, key.cluster, key.session):
        raise FormatError("is another session's")
    return meta


async def read_metadata(store: ObjectStore, key: SessionKey) -> SessionMetadata | None:
    """What is known of the session; None where nothing stands there or nothing that can be used (the log says why)."""
    try:
        return await _read(store, key)
    except FormatError as exc:
        log.warning("session metadata ignored", key=key.metadata, reason=str(exc))
        return None


async def write_metadata(store: ObjectStore, meta: SessionMetadata, *, merge: bool = True) -> SessionMetadata:
    """Write what is known, first the session's own object, then its catalog entry; returns what stands there now.

    Merges with what others wrote, so that nobody's knowledge is lost (``merge_metadata``). It reads again what
    it wrote, and once more merges where another writer came in between. ``merge=False`` replaces: the head's
    collector takes back an end that wasn't one. Metadata in a newer format stays as it is (``NewerFormat``).
    """
    key = meta.key
    if not merge:
        await store.put(key.metadata, _encoder.encode(meta))
    else:
        meta = await _merge_in(store, meta)
    await store.put(key.catalog, _encoder.encode(meta))
    return meta


def merge_metadata(mine: SessionMetadata, other: SessionMetadata) -> SessionMetadata:
    """Both together: the first creation, the last end, mine where both say something, the other's where I don't."""
    owner = mine if mine.owner_kind or mine.owner_name else other
    return structs.replace(
        mine,
        owner_kind=owner.owner_kind,
        owner_name=owner.owner_name,
        created_ms=min(filter(None, (mine.created_ms, other.created_ms)), default=0),
        ended_ms=max((end for end in (mine.ended_ms, other.ended_ms) if end is not None), default=None),
        ray_version=mine.ray_version or other.ray_version,
        writer_version=mine.writer_version or other.writer_version,
    )


async def list_sessions(store: ObjectStore) -> list[SessionKey]:
    """All sessions the catalog names, in key order, from one paged listing."""
    entries = (catalog_entry(info.key) for info in await store.list(CATALOG))
    return [key for key in entries if key is not None]


async def find_sessions(store: ObjectStore) -> list[SessionKey]:
    """All sessions that stand in the store, catalog or none, in key order: looked for level by level, slowly.

    A session is what has ``metadata.json`` or ``events/``; the store may hold other people's things too.
    """
    found: list[SessionKey] = []
    for namespace in (await store.list_level("")).prefixes:
        if namespace.startswith("_"):
            continue
        for cluster in (await store.list_level(namespace)).prefixes:
            names = [key for name in (await store.list_level(cluster)).prefixes if (key := _session_at(name))]
            real = await _each(names, partial(_is_session, store))
            found += [key for key, is_one in zip(names, real, strict=True) if is_one]
    return sorted(found)


async def rebuild_catalog(store: ObjectStore) -> list[SessionKey]:
    """Write the catalog entries that are missing, and return all sessions found. No entry is removed."""
    found = await find_sessions(store)
    missing = set(found) - set(await list_sessions(store))
    await _each(sorted(missing), partial(_add_entry, store))
    return found


def session_created_ms(name: str) -> int | None:
    """When a session began, from its name; None for a name that isn't Ray's.

    Ray writes the node's local time without saying which: it is read as UTC, which is what containers run on.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        began = datetime(*map(int, found.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    return max(0, int(began.timestamp()) * 1000 + began.microsecond // 1000)


def newest_first(sessions: Iterable[SessionKey]) -> list[SessionKey]:
    """By the time in the session's name, the newest first; then by key. Names without a time come last."""
    return sorted(sessions, key=lambda key: (-(session_created_ms(key.session) or 0), key))


async def _read(store: ObjectStore, key: SessionKey) -> SessionMetadata | None:
    try:
        data = await store.get(key.metadata, end=MAX_METADATA + 1)
    except NotFound:
        return None
    return parse_metadata(data, key)


async def _merge_in(store: ObjectStore, mine: SessionMetadata) -> SessionMetadata:
    written = False
    for _ in range(_TRIES):
        absent, other = await _standing(store, mine.key)
        merged = mine if other is None else merge_metadata(mine, other)
        if other is not None and (merged == other or (written and merge_metadata(other, mine) == other)):
            return other  # it holds all that I know
        with suppress(AlreadyExists):
            await store.put(mine.key.metadata, _encoder.encode(merged), if_absent=absent)
            written = True
    raise Unavailable(f"{mine.key.metadata} in {store.url} is written by others all the time")


async def _standing(store: ObjectStore, key: SessionKey) -> tuple[bool, SessionMetadata | None]:
    """Whether nothing stands there, and what does if it can be used; what can't be is written over."""
    try:
        other = await _read(store, key)
    except NewerFormat:
        raise
    except FormatError as exc:
        log.warning("session metadata replaced", key=key.metadata, reason=str(exc))
        return False, None
    return other is None, other


def _session_at(prefix: str) -> SessionKey | None:
    try:
        return SessionKey(*prefix.removesuffix("/").split("/"))
    except BadKey:
        return None


async def _is_session(store: ObjectStore, key: SessionKey) -> bool:
    level = await store.list_level(key.root)
    return key.events in level.prefixes or any(info.key == key.metadata for info in level.objects)


async def _add_entry(store: ObjectStore, key: SessionKey) -> None:
    meta = await read_metadata(store, key) or new_metadata(key)
    with suppress(AlreadyExists):
        await store.put(key.catalog, _encoder.encode(meta), if_absent=True)


async def _each(keys: list[SessionKey], ask: Callable[[SessionKey], Awaitable[_T]]) -> list[_T]:
    """What ``ask`` answers for each key, in their order, a few asked at a time; the first error as it is."""
    answers: dict[SessionKey, _T] = {}
    waiting = iter(keys)
    failed: list[StoreError] = []

    async def work() -> None:
        for key in waiting:
            if failed:
                return
            try:
                answers[key] = await ask(key)
            except StoreError as exc:
                failed.append(exc)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(_CONCURRENCY, len(keys))):
            tasks.start_soon(work)
    if failed:
        raise failed[0]
    return [answers[key] for key in keys]

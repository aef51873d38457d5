"""Stores that hold recorded sessions, written as a collector would have, without running one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from support.captures import event_files, posts, session_name
from support.sessions import SegmentWriter

from pipeline.layout import SessionKey
from pipeline.segments.segment import Dialect
from pipeline.stores.store import ObjectStore

_bodies = msgspec.json.Decoder(list[msgspec.Raw])


async def put_recording(store: ObjectStore, capture: Path, namespace: str, cluster: str, **known: Any) -> SessionKey:
    """Store a whole recording; ``known`` is its metadata, ``sealed_ns`` when its last segment was sealed."""
    key = SessionKey(namespace, cluster, session_name(capture))
    sealed_ns = known.pop("sealed_ns", 0)
    writer = SegmentWriter(store, key)
    await writer.begin(**known)
    posted = [bytes(event) + b"\n" for body in posts(capture) for event in _bodies.decode(body)]
    if posted:
        await writer.write(posted, created_ns=sealed_ns)
    folders: tuple[tuple[str, Dialect], ...] = (("export_events", "export_api"), ("events", "log_event"))
    for folder, dialect in folders:
        for file in event_files(capture, folder):
            lines = file.read_bytes().splitlines(keepends=True)
            if lines:
                await writer.write(lines, source=f"{folder}/{file.name}", dialect=dialect, created_ns=sealed_ns)
    return key

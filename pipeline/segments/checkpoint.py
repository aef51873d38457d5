"""The local checkpoint: one session's cursor in one small file, written whole or not at all.

It only saves requests: everything in it can be added up again from the store (``recover.py``), so a
checkpoint that is lost, old, unreadable or of another store costs a listing and never a record. That is
why an unreadable one raises ``BadCheckpoint`` here, and the collector says so, puts the file aside and
goes on from the store, instead of refusing to start.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from pipeline.errors import BadCheckpoint
from pipeline.layout import SessionKey, part
from pipeline.segments.cursor import Cursor, Position

VERSION = 1
_BAD = ".unreadable"


class Checkpoint(Struct, frozen=True, kw_only=True):
    """Which store and node the cursor is about, and the cursor."""

    version: int = VERSION
    store: str
    namespace: str
    cluster: str
    session: str
    node: str
    seq: int
    sources: dict[str, Position]

    def cursor(self) -> Cursor:
        return Cursor(self.seq, dict(self.sources))

    def belongs(self, store: str, key: SessionKey) -> bool:
        return self.store == store and SessionKey(self.namespace, self.cluster, self.session) == key


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Checkpoint)


def path(data_dir: Path, session: str) -> Path:
    return data_dir / "checkpoints" / f"{part(session)}.json"


def load(file: Path) -> Checkpoint | None:
    """The checkpoint, or None where there is none. Raises ``BadCheckpoint`` where it can't be read."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise BadCheckpoint(
            f"{file}: {exc.strerror}; make it readable or remove it: it is rebuilt from the store"
        ) from exc
    try:
        found = _decoder.decode(data)
    except msgspec.DecodeError as exc:
        raise BadCheckpoint(f"{file}: {exc}; remove it: it is rebuilt from the store") from exc
    if found.version != VERSION:
        raise BadCheckpoint(
            f"{file}: version {found.version} is not {VERSION}; remove it: it is rebuilt from the store"
        )
    return found


def save(file: Path, checkpoint: Checkpoint, *, at: Callable[[str], None] = lambda _: None) -> None:
    """Write it so that a crash at any moment leaves the old one or the new one. Raises ``OSError``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temp = file.with_suffix(".tmp")
    with temp.open("wb") as out:
        out.write(_encoder.encode(checkpoint))
        out.flush()
        os.fsync(out.fileno())
    at("checkpoint_written")
    temp.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def put_aside(file: Path) -> None:
    """Keep an unreadable checkpoint for whoever wants to know why, out of the way."""
    with contextlib.suppress(OSError):
        file.replace(file.with_suffix(_BAD))

"""Which spool files may go: those that are never appended to again and all of which is in the store.

The order is what makes it safe: first a file is known to be closed, then it is read to its end, then what
was read is committed, then it is released. A file that is made and closed in between waits for the next time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import anyio

from pipeline.read.source import SPOOL
from pipeline.read.tail import Tailer
from pipeline.segments.cursor import START, Cursor

_PREFIX = f"{SPOOL.name}/"


class SpoolFiles(Protocol):
    """What is asked of the spool. Each may block for a moment."""

    def durable(self, session: str, filename: str) -> int | None:
        """How much of a file may be read; None for one that isn't registered: its writing hasn't begun."""
        ...

    def active(self, session: str) -> str | None:
        """The name of the file that may still be appended to; every other registered one never is again."""
        ...

    def release(self, session: str, filename: str) -> None:
        """All of a file that isn't active is in the store: it may be deleted, now or when its room is needed."""
        ...


class Release:
    """One session's spool files on their way out, as ``tailer`` reads them."""

    def __init__(self, spool: SpoolFiles, session: str, tailer: Tailer) -> None:
        self._spool, self._session, self._tailer = spool, session, tailer
        self._closed: set[str] = set()
        self._released: set[str] = set()

    async def note_closed(self) -> None:
        """To be called before reading: of the files seen so far, those that are closed now."""
        self._closed = await anyio.to_thread.run_sync(self._find_closed)

    async def release(self, cursor: Cursor) -> list[str]:
        """To be called after reading: let go of what was closed before, was read to its end, and is in the store."""
        ready = [name for name in self._closed - self._released if self._is_stored(_PREFIX + name, cursor)]
        for name in ready:
            await anyio.to_thread.run_sync(self._spool.release, self._session, name)
        self._released.update(ready)
        return ready

    def _find_closed(self) -> set[str]:
        """A file is registered before it is active. So one that is registered, and after that isn't active, is closed."""
        seen = [source.removeprefix(_PREFIX) for source in self._tailer.sizes() if source.startswith(_PREFIX)]
        registered = {name for name in seen if self._spool.durable(self._session, name) is not None}
        return registered - {self._spool.active(self._session)}

    def _is_stored(self, source: str, cursor: Cursor) -> bool:
        return cursor.end(source) == self._tailer.positions.get(source, START).end and self._tailer.drained(source)


def gone(cursor: Cursor, folder: Path) -> list[str]:
    """The spool files in a cursor that were released: their names never come back. Blocking.

    A crash of the machine can't bring them back either: what deleted them reached the disk before the checkpoint did.
    """
    try:
        there = {file.name for file in folder.iterdir()}
    except FileNotFoundError:
        there = set()
    except OSError:
        return []  # it may come back
    return [s for s in cursor.sources if s.startswith(_PREFIX) and s.removeprefix(_PREFIX) not in there]

"""One session's part of the spool: its files, the one being appended to, and the ids seen last.

Blocking and not thread-safe: ``spool`` calls it in a thread, under its lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from pipeline.receive.post import PostRecord
from pipeline.receive.spool_files import (
    REMEMBERED,
    CutOff,
    SpoolFile,
    recent_ids,
    remember_ids,
    remembered_bytes,
    sizes,
)


class Window:
    """The last so many ids, and those of the last post, however many they are."""

    def __init__(self, limit: int, ids: Iterable[str] = ()) -> None:
        self._limit = limit
        self._ids: dict[str, None] = dict.fromkeys(ids)

    def __contains__(self, one: str) -> bool:
        return one in self._ids

    @property
    def ids(self) -> list[str]:
        """Oldest first."""
        return list(self._ids)

    def add(self, ids: list[str]) -> None:
        self._ids.update(dict.fromkeys(ids))
        for _ in range(len(self._ids) - max(self._limit, len(ids))):
            del self._ids[next(iter(self._ids))]


class Page(Struct, eq=False):
    """What is to be appended to one session in one go. ``stored``: how many of ``records``, from the first, were."""

    records: list[PostRecord]
    ids: dict[str, int]
    bytes: int = 0
    stored: int = 0
    error: Exception | None = None

    def add(self, record: PostRecord) -> int:
        """The record's place on the page."""
        place = len(self.records)
        self.records.append(record)
        if record.event_id:
            self.ids[record.event_id] = place
        self.bytes += len(record.line) + 1
        return place


class SpoolSession:
    """``files``: those on disk, oldest first, and how much of each is durable; ``remembered``: bytes beside them."""

    def __init__(self, folder: Path, window: int) -> None:
        self.folder = folder
        self.files: dict[str, int] = {}
        self.remembered = 0
        self.used_ns = 0
        self._window_size = window
        self._window: Window | None = None
        self._file: SpoolFile | None = None
        self._released: set[str] = set()

    @property
    def active(self) -> str | None:
        file = self._file
        return file.path.name if file is not None else None

    @property
    def open(self) -> bool:
        return self._file is not None or self._window is not None

    @property
    def droppable(self) -> bool:
        """Whether all that it holds is in the store."""
        return self._file is None and self._released.issuperset(self.files)

    def scan(self) -> None:
        """See what is on disk: others may have deleted files."""
        self.files = sizes(self.folder)
        self.remembered = remembered_bytes(self.folder)
        self._released.intersection_update(self.files)

    def seen(self, event_id: str) -> bool:
        """Whether a record was stored before. Raises ``OSError``."""
        return event_id in self._ids()

    def _ids(self) -> Window:
        if self._window is None:
            ids = recent_ids(self.folder, list(self.files), self._window_size)
            self._window = Window(self._window_size, ids)
        return self._window

    def write(self, page: Page, name: str, file_bytes: int) -> None:
        """Append a page, to the open file or to a new one of this name; says on the page what became of it."""
        try:
            if self._file is None:
                self._file = SpoolFile(self.folder / name)
                self.files[name] = 0
            self._file.append(b"".join([b"%b\n" % record.line for record in page.records]))
            page.stored = len(page.records)
        except CutOff as exc:
            page.stored, page.error = exc.lines, exc
        except OSError as exc:
            page.error = exc
        self._note(page, file_bytes)

    def _note(self, page: Page, file_bytes: int) -> None:
        if self._window is not None:
            self._window.add([record.event_id for record in page.records[: page.stored] if record.event_id])
        if self._file is None:
            return
        self.files[self._file.path.name] = self._file.size
        if not self._file.size:
            del self.files[self._file.path.name]
        if page.error is not None or self._file.size >= file_bytes:
            self.close()
        self._delete_released()

    def release(self, name: str) -> None:
        if name in self.files and name != self.active:
            self._released.add(name)
            self._delete_released()

    def _delete_released(self) -> None:
        """The newest stays; what is in the others is remembered first, or a post begun in one could come twice."""
        done = self._released - {next(reversed(self.files), None)}
        if not done:
            return
        with suppress(OSError):  # a disk so full that it can't be done needs the room more than the ids
            self.remembered = remember_ids(self.folder, self._ids().ids)
        for name in done:
            self._delete(name)

    def drop(self) -> None:
        """Delete all files; only where ``droppable``."""
        for name in list(self.files):
            self._delete(name)
        with suppress(OSError):
            (self.folder / REMEMBERED).unlink(missing_ok=True)
            self.folder.rmdir()

    def _delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)
        self.files.pop(name, None)
        self._released.discard(name)

    def close(self) -> None:
        """End the open file; the next page begins another one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def forget(self) -> None:
        """Close, and let go of the window: it is read back when needed."""
        self.close()
        self._window = None

"""The timed spans of task attempts, in columns: a list a task, linked through the rows.

A span's extra data is a JSON text that mostly differs from its neighbours' only in the task id it names.
That id is taken out, so that a million spans share a few texts.

Promises: spans of an attempt are a set, whatever order they came in and however often; Ray's order (when
they ended) is restored when they are read. What it leaves to others: which attempt has which list
(``tasks.py`` keeps the heads), what spans look like in an answer (``views/``).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from api.query.columns import Column, Interner, Texts, capacity_for
from pipeline.events import ProfileEvent

MAX_EVENTS = 1000
"""The most spans Ray keeps of an attempt; it shows the newest (``task_events_max_num_profile_events_per_task``)."""

_LOOK_BACK = 16
_OWN_ID = "\0"
_MAX_NS = 2**63 - 1


class ProfileTable:
    """All spans. A list is named by the row of its newest span; 0 is the empty list."""

    def __init__(self) -> None:
        self._rows = 1
        self._start = Column(np.int64)
        self._end = Column(np.int64)
        self._next = Column(np.int32)
        self._name = Column(np.int32)
        self._extra = Column(np.int32)
        self._names: Interner[str] = Interner("")
        self._extras = Texts()

    def __len__(self) -> int:
        return self._rows - 1

    @property
    def nbytes(self) -> int:
        """About how much memory the spans take."""
        width = sum(column.itemsize for column in self._columns())
        return self._rows * width + self._names.nbytes + self._extras.nbytes

    def add(self, head: int, task_id: bytes, events: Iterable[ProfileEvent]) -> int:
        """Put spans before those of the list ``head``; the head of the longer list."""
        known = head
        names, start, end = self._names, self._start.cells, self._end.cells
        for event in events:
            start_ns, end_ns = event.start_ns, event.end_ns
            if not (0 <= start_ns <= _MAX_NS and 0 <= end_ns <= _MAX_NS):
                continue
            name = names.codes.get(event.event_name)
            if name is None:
                name = names.code(event.event_name)
            extra = 0 if event.extra_data == "{}" else self._extra_code(event.extra_data, task_id)
            if known and self._is_recent(known, (start_ns, end_ns, name, extra)):
                continue
            row = self._rows
            if row >= len(start):
                for column in self._columns():
                    column.reserve(capacity_for(row))
                start, end = self._start.cells, self._end.cells
            start[row], end[row] = start_ns, end_ns
            self._next.cells[row], self._name.cells[row] = head, name
            if extra:
                self._extra.cells[row] = extra
            self._rows = row + 1
            head = row
        return head

    def _extra_code(self, text: str, task_id: bytes) -> int:
        return self._extras.code(text.replace(_OWN_ID, "\\u0000").replace(task_id.hex(), _OWN_ID))

    def _is_recent(self, head: int, span: tuple[int, int, int, int]) -> bool:
        # Saves the memory of most repeats; those further back are left out when the list is read.
        start, end, following = self._start.cells, self._end.cells, self._next.cells
        for _ in range(_LOOK_BACK):
            if not head:
                return False
            if end[head] == span[1] and start[head] == span[0]:
                return span[2:] == (self._name.cells[head], self._extra.cells[head])
            head = following[head]
        return False

    def events(self, head: int, task_id: bytes) -> list[ProfileEvent]:
        """The spans of a list, each once, by their end; the newest of too many."""
        found: set[tuple[int, int, int, int]] = set()
        start, end, following = self._start.cells, self._end.cells, self._next.cells
        name, extra = self._name.cells, self._extra.cells
        while head:
            found.add((end[head], start[head], name[head], extra[head]))
            head = following[head]
        own = task_id.hex()
        spans = [
            (stop, begin, self._names.values[named], self._extras[text].replace(_OWN_ID, own) if text else "{}")
            for stop, begin, named, text in found
        ]
        spans.sort()
        return [ProfileEvent(begin, stop, named, text) for stop, begin, named, text in spans[-MAX_EVENTS:]]

    def _columns(self) -> tuple[Column, ...]:
        return (self._start, self._end, self._next, self._name, self._extra)

"""The task attempts of a session, in columns: one row an attempt, updated in place a record at a time.

An attempt is told of by many records: its definition (once a dialect), updates (a few states and what came
with them), spans of its profile. Each finds its row by (task id, attempt number) in one dict.

Promises: any order and any repetition of the records give the same answers. The rules that make it so:

- a state's time is the latest that was told (Ray: the later write wins, and later writes have later times);
- everything else is said once by Ray; said beats unsaid, and of two different accounts the greater wins:
  arbitrary, but always the same one. A debugger that was both paused and resumed has resumed;
- an attempt's state is the highest state it ever had, as in Ray;
- an attempt without a definition is kept and counted (``undefined``), but not listed, as in Ray.

That Ray fails the tasks of dead workers and finished jobs is worked out by ``outcome.py`` when asked for,
and never written over what the records said.

What it leaves to others: which thread calls (one at a time), answers (``views/``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from api.index.definitions import Templates
from api.index.outcome import Outcome, WorkerDeath, work_out
from api.index.profile import ProfileTable
from api.query.columns import FIRST_CAPACITY, Column, H, IdColumn, Interner, Texts, capacity_for
from pipeline.events import TASK_STATUS, ProfileEvent, TaskDefinition, TaskLogInfo, TaskProfile, TaskUpdate

TASK_ID_BYTES = 24
_NIL_TASK = b"\xff" * TASK_ID_BYTES
_NIL_JOB = b"\xff" * 4
_NIL_ACTOR = b"\xff" * 12
_RUN_SPAN = "task::"
"""Begins the name of the span that covers a whole run; the task's own name follows, which one dialect says nowhere else."""
_MAX_ATTEMPT = 2**31 - 1
_MAX_OFFSET = 1 << 62
_STATES = len(TASK_STATUS)
_OUTCOME_BYTES = 10
_KEY_BYTES = 175
"""About what an attempt's entry in the dict costs: its key, the boxed row, its slot."""

LOG_FIELDS = ("stdout_file", "stderr_file", "stdout_start", "stdout_end", "stderr_start", "stderr_end")

Component = tuple[str, bytes, str]


class TaskTable:
    """All attempts of a session. Codes in a column are places in the interner of the same name, 0 is nothing."""

    def __init__(self) -> None:
        self._row_of: dict[bytes | tuple[bytes, int], int] = {}
        self._count = 0
        self._capacity = FIRST_CAPACITY
        self.version = 0
        self.skipped = 0

        self.task_id = IdColumn(TASK_ID_BYTES)
        self.parent_id = IdColumn(TASK_ID_BYTES)
        self.attempt = Column(np.int32)
        self.template = Column(np.int32)
        self.mask = Column(np.uint16)
        self.job = Column(np.int32)
        self.name = Column(np.int32)
        self.ran_as = Column(np.int32)
        self.actor = Column(np.int32)
        self.node = Column(np.int32)
        self.worker = Column(np.int32)
        self.pid = Column(np.uint32)
        self.error_type = Column(np.int32)
        self.error = Column(np.int32)
        self.paused = Column(np.uint8)
        self.repr_name = Column(np.int32)
        self.spans = Column(np.int32)
        self.component = Column(np.int32)
        self.times: list[Column | None] = [None] * _STATES
        self._at: list[memoryview | None] = [None] * _STATES
        self.log_info: dict[str, Column] = {}

        self.templates = Templates()
        self.jobs: Interner[bytes] = Interner(b"")
        self.actors: Interner[bytes] = Interner(b"")
        self.nodes: Interner[bytes] = Interner(b"")
        self.workers: Interner[bytes] = Interner(b"")
        self.names: Interner[str] = Interner("")
        self.error_types: Interner[str] = Interner("")
        self.repr_names: Interner[str] = Interner("")
        self.log_files: Interner[str] = Interner("")
        self.errors = Texts()
        self.components: list[Component] = [("", b"", "")]
        self._component_codes: dict[Component, int] = {}
        self.profile_table = ProfileTable()
        self._outcome: Outcome | None = None

    # -- size ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._count

    @property
    def undefined(self) -> int:
        """Attempts that something was told of but never what they are."""
        return self._count - len(self.listed())

    @property
    def nbytes(self) -> int:
        """About how much memory the table takes."""
        width = 2 * TASK_ID_BYTES + _OUTCOME_BYTES + sum(column.itemsize for column in self._number_columns())
        interned = (
            self.templates, self.jobs, self.actors, self.nodes, self.workers, self.names, self.error_types,
            self.repr_names, self.log_files, self.errors, self.profile_table,
        )  # fmt: skip
        return self._count * (width + _KEY_BYTES) + sum(part.nbytes for part in interned) + 250 * len(self.components)

    # -- writing ------------------------------------------------------------------------------

    def define(self, record: TaskDefinition) -> None:
        """Take in what an attempt is."""
        row = self._row(record.task_id, record.attempt_number, record.job_id)
        if row < 0:
            return
        code = self.templates.code(record)
        job, name = self.jobs.code(record.job_id), self.names.code(record.name or "")
        actor_id, parent_id = record.actor_id, record.parent_task_id
        if not actor_id and record.type == "ACTOR_CREATION_TASK":
            actor_id = record.task_id[8:]  # a task id ends in its actor's
        actor = 0 if actor_id.startswith(_NIL_ACTOR) else self.actors.code(actor_id)
        was = self.template.cells[row]
        if was:
            self.template.cells[row] = self.templates.merged(was, code)
            job = self.jobs.greater(self.job.cells[row], job)
            name = self.names.greater(self.name.cells[row], name)
            actor = self.actors.greater(self.actor.cells[row], actor)
            parent_id = max(self.parent_id[row], parent_id)
        else:
            self.template.cells[row] = code
        self.job.cells[row], self.name.cells[row], self.actor.cells[row] = job, name, actor
        if len(parent_id) == TASK_ID_BYTES:
            self.parent_id[row] = parent_id

    def update(self, record: TaskUpdate) -> None:
        """Take in what happened to an attempt."""
        attempt, task_id = record.attempt_number, record.task_id
        row = self._row_of.get((task_id, attempt) if attempt else task_id, -1)
        if row < 0:
            row = self._row(task_id, attempt, record.job_id)
            if row < 0:
                return
        self.version += 1
        mask = was = self.mask.cells[row]
        for state, at_ns in record.states:
            if not (0 <= state < _STATES and at_ns < 1 << 63):
                self.skipped += 1
                continue
            times = self._at[state]
            if times is None:
                times = self._times_of(state)
            if at_ns > times[row]:
                times[row] = at_ns
            mask |= 1 << state
        if mask != was:
            self.mask.cells[row] = mask
        if record.worker_id:
            _settle(self.worker, row, self.workers, record.worker_id)
        if record.node_id:
            _settle(self.node, row, self.nodes, record.node_id)
        if record.worker_pid:
            self.pid.cells[row] = max(self.pid.cells[row], record.worker_pid & 0xFFFFFFFF)
        if record.log_info is not None:
            self._log(row, record.log_info)
        if record.error_type is not None:
            self._fail(row, record.error_type, record.error_message or "")
        if record.actor_repr_name:
            _settle(self.repr_name, row, self.repr_names, record.actor_repr_name)
        if record.is_debugger_paused is not None and self.paused.cells[row] != 1:
            self.paused.cells[row] = 1 + record.is_debugger_paused

    def profile(self, record: TaskProfile) -> None:
        """Take in timed spans of an attempt."""
        row = self._row(record.task_id, record.attempt_number, record.job_id)
        if row < 0:
            return
        component = (record.component_type, record.component_id, record.node_ip_address)
        code = self._component_codes.get(component)
        if code is None:
            code = self._component_codes[component] = len(self.components)
            self.components.append(component)
        was = self.component.cells[row]
        if was != code and component > self.components[was]:
            self.component.cells[row] = code
        spans = self.spans.cells
        spans[row] = self.profile_table.add(spans[row], record.task_id, record.events)
        for span in record.events:
            if span.event_name.startswith(_RUN_SPAN):
                _settle(self.ran_as, row, self.names, span.event_name[len(_RUN_SPAN) :])

    def _row(self, task_id: bytes, attempt: int, job_id: bytes) -> int:
        """The attempt's row, a new one for a new attempt; -1 for what Ray itself skips and what can't be one."""
        self.version += 1
        row = self._row_of.get((task_id, attempt) if attempt else task_id)
        if row is not None:
            return row
        nil = task_id == _NIL_TASK or not job_id or job_id == _NIL_JOB
        if nil or len(task_id) != TASK_ID_BYTES or not 0 <= attempt <= _MAX_ATTEMPT:
            self.skipped += 1
            return -1
        row = self._count
        if row >= self._capacity:
            self._grow(row)
        self._row_of[(task_id, attempt) if attempt else task_id] = row
        self.task_id[row] = task_id
        self.attempt.cells[row] = attempt
        self.job.cells[row] = self.jobs.code(job_id)
        self._count = row + 1
        return row

    def _grow(self, row: int) -> None:
        self._capacity = capacity_for(row)
        for ids in (self.task_id, self.parent_id):
            ids.reserve(self._capacity)
        for column in self._number_columns():
            column.reserve(self._capacity)
        self._at = [None if times is None else times.cells for times in self.times]

    def _number_columns(self) -> Iterator[Column]:
        yield from (
            self.attempt, self.template, self.mask, self.job, self.name, self.ran_as, self.actor, self.node, self.worker,
            self.pid, self.error_type, self.error, self.paused, self.repr_name, self.spans, self.component,
        )  # fmt: skip
        yield from (times for times in self.times if times is not None)
        yield from self.log_info.values()

    def _times_of(self, state: int) -> memoryview:
        times = self.times[state] = Column(np.int64, self._capacity)
        self._at[state] = times.cells
        return times.cells

    def _log(self, row: int, info: TaskLogInfo) -> None:
        columns = self.log_info
        if not columns:
            for field in LOG_FIELDS:
                columns[field] = Column(np.int32 if field.endswith("file") else np.int64, self._capacity)
        if info.stdout_file:
            _settle(columns["stdout_file"], row, self.log_files, info.stdout_file)
        if info.stderr_file:
            _settle(columns["stderr_file"], row, self.log_files, info.stderr_file)
        if info.stdout_start is not None:
            _raise(columns["stdout_start"].cells, row, info.stdout_start)
        if info.stdout_end is not None:
            _raise(columns["stdout_end"].cells, row, info.stdout_end)
        if info.stderr_start is not None:
            _raise(columns["stderr_start"].cells, row, info.stderr_start)
        if info.stderr_end is not None:
            _raise(columns["stderr_end"].cells, row, info.stderr_end)

    def _fail(self, row: int, error_type: str, message: str) -> None:
        kind, text = self.error_types.code(error_type), self.errors.code(message)
        was_kind, was_text = self.error_type.cells[row], self.error.cells[row]
        if was_kind == kind and was_text == text:
            return
        was = (self.error_types.values[was_kind], self.errors[was_text])
        if not was_kind or (error_type, message) > was:
            self.error_type.cells[row], self.error.cells[row] = kind, text

    # -- reading ------------------------------------------------------------------------------

    def listed(self) -> NDArray[np.intp]:
        """The rows that have a definition."""
        return np.flatnonzero(self.template.array(self._count))

    def refresh(self, dead_workers: Mapping[bytes, WorkerDeath], dead_jobs: Mapping[bytes, int]) -> None:
        """Work out anew, if anything changed, which attempts Ray counts as failed.

        ``dead_jobs``: job id -> when it ended in ms.
        """
        if self._outcome is None or not self._outcome.concerns(self.version, dead_workers, dead_jobs):
            count = self._count
            self._outcome = work_out(
                self.version,
                self.mask.array(count),
                (self.worker.array(count), self.workers, dead_workers),
                (self.job.array(count), self.jobs, dead_jobs),
            )

    @property
    def outcome(self) -> Outcome:
        """Every attempt's state, as of the last ``refresh``; without one, as the records say."""
        if self._outcome is None or self._outcome.version != self.version:
            known = self._outcome
            self.refresh(known.dead_workers if known else {}, known.dead_jobs if known else {})
        assert self._outcome is not None
        return self._outcome

    def spans_of(self, row: int) -> list[ProfileEvent]:
        """The timed spans of an attempt, by their end."""
        return self.profile_table.events(self.spans.cells[row], self.task_id[row])

    def row_of(self, task_id: bytes, attempt: int = 0) -> int | None:
        """Where an attempt is."""
        return self._row_of.get((task_id, attempt) if attempt else task_id)


def _settle(column: Column, row: int, interner: Interner[H], value: H) -> None:
    """Write a value that Ray says once; of two different ones the greater stays."""
    code = interner.codes.get(value)
    if code is None:
        code = interner.code(value)
    cells = column.cells
    was = cells[row]
    if was != code:
        cells[row] = code if not was else interner.greater(was, code)


def _raise(cells: memoryview, row: int, said: int) -> None:
    """Write an offset, of two the greater; as one more than said, since 0 is unsaid."""
    if cells[row] <= said < _MAX_OFFSET:
        cells[row] = said + 1

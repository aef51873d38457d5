"""The worker processes of a session: where each ran, when, and how it ended.

Ray tells of workers only in the posted dialect, and there not of drivers. What is known of the others
(drivers from their jobs, workers that ran a task: ``seen_workers.py``) is put together by ``views/workers.py``.

Promises: any order, any repetition give the same workers.
"""

from __future__ import annotations

from collections.abc import Mapping, ValuesView

from msgspec import Struct

from api.index.order import NEVER, combine, earlier_ms, order_of, supersedes, time_of
from api.index.outcome import WorkerDeath
from pipeline.events import WorkerDefinition, WorkerTransition, WorkerUpdate

UNKNOWN_MS = 2**64 - 1
"""Ray's own word for a time that it doesn't know (-1 in an unsigned field)."""

WORKER_BYTES = 900


class Worker(Struct, gc=False):
    """One worker process. Times are in ms, 0 where Ray hasn't said."""

    worker_id: bytes
    definition: WorkerDefinition | None = None
    job_id: bytes = b""
    launch_ms: int = 0
    launched_ms: int = 0
    start_ms: int = 0
    end_ms: int = 0
    died: int = NEVER
    death: WorkerTransition | None = None

    @property
    def is_alive(self) -> bool:
        return self.death is None

    def apply(self, transition: WorkerTransition, order: int) -> None:
        """Take one state change into account. DEAD is final, whatever arrives after it."""
        self.launch_ms = earlier_ms(self.launch_ms, transition.worker_launch_time_ms)
        self.launched_ms = earlier_ms(self.launched_ms, transition.worker_launched_time_ms)
        self.start_ms = earlier_ms(self.start_ms, transition.start_time_ms)
        self.end_ms = earlier_ms(self.end_ms, transition.end_time_ms)
        if transition.state == "DEAD" and supersedes(order, transition, self.died, self.death):
            self.died, self.death = order, transition


def death(worker: Worker) -> WorkerDeath:
    """When and why a dead worker died, as far as it was told."""
    told = worker.death
    exit_type, detail = (told.exit_type, told.exit_detail) if told is not None else (None, None)
    return WorkerDeath(worker.end_ms or time_of(worker.died) // 1_000_000, exit_type or "", detail or "")


class WorkerTable:
    """All workers by id."""

    def __init__(self) -> None:
        self._workers: dict[bytes, Worker] = {}
        self._deaths: dict[bytes, WorkerDeath] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._workers)

    def values(self) -> ValuesView[Worker]:
        return self._workers.values()

    def __contains__(self, worker_id: bytes) -> bool:
        return worker_id in self._workers

    def get(self, worker_id: bytes) -> Worker | None:
        return self._workers.get(worker_id)

    def deaths(self) -> Mapping[bytes, WorkerDeath]:
        """When and why workers died, by id."""
        return self._deaths

    def define(self, record: WorkerDefinition, position: int) -> None:
        """Take in what a worker is."""
        worker = self._worker(record.worker_id)
        worker.definition = combine(worker.definition, record)

    def update(self, record: WorkerUpdate, position: int) -> None:
        """Take in what happened to a worker."""
        worker = self._worker(record.worker_id)
        worker.job_id = max(worker.job_id, record.job_id)
        for step, transition in enumerate(record.transitions):
            worker.apply(transition, order_of(transition.timestamp_ns, position + step))
        if worker.death is not None:
            self._deaths[worker.worker_id] = death(worker)

    def _worker(self, worker_id: bytes) -> Worker:
        worker = self._workers.get(worker_id)
        if worker is None:
            worker = self._workers[worker_id] = Worker(worker_id)
            self.nbytes += WORKER_BYTES
        return worker

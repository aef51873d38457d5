"""How every attempt ended, as Ray counts it: what the records say, and what the deaths of others imply.

When a worker dies or a job finishes, Ray fails each of its attempts that had not ended. It does so a while
later, so that late records still count: one second after a worker's death, fifteen after a job's end. An
attempt that both concern is failed by whichever comes first.

Promises: pure functions of columns and mappings; nothing is written over what the records said. What it
leaves to others: which workers died and which jobs ended (``workers.py``, ``jobs.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from api.query.columns import Interner
from pipeline.events import TASK_STATUS

FINISHED, FAILED = TASK_STATUS.index("FINISHED"), TASK_STATUS.index("FAILED")
REPORTED, WORKER_DIED, JOB_ENDED = 0, 1, 2
IMPLIED_ERROR_TYPE = "WORKER_DIED"

_ENDED = 1 << FINISHED | 1 << FAILED
_WORKER_DELAY_MS = 1_000
_JOB_DELAY_MS = 15_000
_MAX_MS = (2**63 - 1) // 1_000_000
_EXIT_TYPES = (
    "SYSTEM_ERROR",
    "INTENDED_SYSTEM_EXIT",
    "USER_ERROR",
    "INTENDED_USER_EXIT",
    "NODE_OUT_OF_MEMORY",
)

# A set of states, a bit each -> the highest of them.
_HIGHEST = np.array([max(states.bit_length() - 1, 0) for states in range(1 << len(TASK_STATUS))], np.uint8)


class WorkerDeath(Struct, frozen=True):
    """When and why a worker process ended; ``exit_type`` is the name of Ray's WorkerExitType."""

    end_time_ms: int
    exit_type: str
    exit_detail: str


class Outcome(Struct, frozen=True):
    """One row an attempt. ``implied_ns`` is when Ray failed it where ``cause`` isn't ``REPORTED``."""

    version: int
    dead_workers: Mapping[bytes, WorkerDeath]
    dead_jobs: Mapping[bytes, int]
    state: NDArray[np.uint8]
    cause: NDArray[np.uint8]
    implied_ns: NDArray[np.int64]

    def concerns(self, version: int, dead_workers: Mapping[bytes, WorkerDeath], dead_jobs: Mapping[bytes, int]) -> bool:
        """Whether this is the outcome of just these."""
        return self.version == version and self.dead_workers == dead_workers and self.dead_jobs == dead_jobs


def work_out(
    version: int,
    states: NDArray[np.uint16],
    worker: tuple[NDArray[np.int32], Interner[bytes], Mapping[bytes, WorkerDeath]],
    job: tuple[NDArray[np.int32], Interner[bytes], Mapping[bytes, int]],
) -> Outcome:
    """The outcome of all attempts: ``states`` are their sets of states, ``worker`` and ``job`` column, codes and ends."""
    dead_workers, dead_jobs = dict(worker[2]), dict(job[2])
    worker_ms = _ends(worker[1], {key: death.end_time_ms for key, death in dead_workers.items()})[worker[0]]
    job_ms = _ends(job[1], dead_jobs)[job[0]]
    open_ = (states & _ENDED) == 0
    by_worker = open_ & (worker_ms > 0) & ((job_ms == 0) | (worker_ms + _WORKER_DELAY_MS <= job_ms + _JOB_DELAY_MS))
    by_job = open_ & (job_ms > 0) & ~by_worker
    implied = by_worker | by_job
    return Outcome(
        version=version,
        dead_workers=dead_workers,
        dead_jobs=dead_jobs,
        state=_HIGHEST[states | (implied.astype(np.uint16) << FAILED)],
        cause=by_worker.astype(np.uint8) * WORKER_DIED + by_job.astype(np.uint8) * JOB_ENDED,
        implied_ns=np.where(by_worker, worker_ms, np.where(by_job, job_ms, 0)) * 1_000_000,
    )


def _ends(interner: Interner[bytes], ends: Mapping[bytes, int]) -> NDArray[np.int64]:
    """Code -> when it ended in ms, at least 1; 0 for what didn't end."""
    table = np.zeros(len(interner), np.int64)
    for key, end_ms in ends.items():
        code = interner.codes.get(key, 0)
        if code:
            table[code] = min(max(end_ms, 1), _MAX_MS)
    return table


def worker_died_message(worker_id: bytes, death: WorkerDeath) -> str:
    """What Ray says of an attempt whose worker died."""
    number = _EXIT_TYPES.index(death.exit_type) if death.exit_type in _EXIT_TYPES else 0
    return (
        f"Worker running the task ({worker_id.hex()}) died with exit_type: {number} "
        f"with error_message: {death.exit_detail}"
    )


def job_ended_message(job_id: bytes) -> str:
    """What Ray says of an attempt whose job finished."""
    return f"Job finishes ({job_id.hex()}) as driver exits. Marking all non-terminal tasks as failed."

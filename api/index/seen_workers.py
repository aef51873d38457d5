"""The worker processes that tasks and log files tell of: all that is known where Ray writes no worker records.

An attempt says in which worker, on which node and under which process id it ran; a profile says whether
it was a driver's. How such a worker began and ended isn't said.

Pure functions over the columns of ``tasks.py``. Two attempts that tell differently of one worker (Ray's
don't) are settled by the greater code.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from api.index.processes import Processes
from api.index.tasks import TaskTable

DRIVER_SUFFIX = b"\xff" * 24
"""Ray makes a driver's worker id of its job's id and these."""


class SeenWorker(Struct, frozen=True, gc=False):
    """A worker that ran something. ``ip`` is known of those that were profiled."""

    worker_id: bytes
    node_id: bytes = b""
    pid: int = 0
    job_id: bytes = b""
    ip: str = ""

    @property
    def is_driver(self) -> bool:
        return self.worker_id.endswith(DRIVER_SUFFIX)


def seen_workers(tasks: TaskTable) -> dict[bytes, SeenWorker]:
    """Every worker that an attempt or a profile names."""
    ips = {worker_id: ip for _, worker_id, ip in sorted(tasks.components) if worker_id}
    seen = {worker_id: _profiled(worker_id, ip) for worker_id, ip in ips.items()}
    rows = np.flatnonzero(tasks.worker.array(len(tasks)))
    workers = tasks.worker.array(len(tasks))[rows]
    greatest = {
        name: _greatest(workers, column.array(len(tasks))[rows], len(tasks.workers))
        for name, column in (("node", tasks.node), ("pid", tasks.pid), ("job", tasks.job))
    }
    for code in np.unique(workers).tolist():
        worker_id = tasks.workers.values[code]
        seen[worker_id] = SeenWorker(
            worker_id,
            tasks.nodes.values[greatest["node"][code]],
            int(greatest["pid"][code]),
            tasks.jobs.values[greatest["job"][code]],
            ips.get(worker_id, ""),
        )
    return seen


def with_processes(seen: dict[bytes, SeenWorker], processes: Processes) -> dict[bytes, SeenWorker]:
    """The same, and what the names of log files add: workers that ran nothing, and the process of a driver."""
    for worker_id, process in processes.items():
        known = seen.get(worker_id) or _profiled(worker_id, "")
        if known.node_id and known.pid:
            continue
        job_id = known.job_id or process.job_id
        seen[worker_id] = SeenWorker(worker_id, process.node_id, process.pid, job_id, known.ip)
    return seen


def _profiled(worker_id: bytes, ip: str) -> SeenWorker:
    job_id = worker_id[:4] if worker_id.endswith(DRIVER_SUFFIX) else b""
    return SeenWorker(worker_id, job_id=job_id, ip=ip)


def _greatest(workers: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    found = np.zeros(count, values.dtype)
    np.maximum.at(found, workers, values)
    return found

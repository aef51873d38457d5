"""The worker processes that log files are named after: the only trace of some where Ray writes no worker records.

Ray names a process's logs ``worker-{worker}-{job}-{pid}.out`` and ``python-core-{worker|driver}-{worker}_{pid}.log``,
so a node's list of files says which workers ran there under which process ids.

Promises: any order, any repetition give the same processes; of two that are told of one worker the greater stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

NO_JOB = b"\xff\xff\xff\xff"
MAX_PROCESSES = 1_000_000
_PROCESS_BYTES = 400
_STREAM = re.compile(r"worker-([0-9a-f]{56})-([0-9a-f]{8})-(\d{1,9})\.(?:out|err)")
_CORE = re.compile(r"python-core-(?:worker|driver)-([0-9a-f]{56})_(\d{1,9})\.log")


class Process(Struct, frozen=True, order=True, gc=False):
    """One worker's process. ``started_for`` is the job that its streams are named after, empty where no stream was seen."""

    node_id: bytes
    pid: int
    started_for: bytes = b""

    @property
    def job_id(self) -> bytes:
        """Empty of a worker that was started before it was known for which job."""
        return b"" if self.started_for == NO_JOB else self.started_for


class Processes:
    """Processes by worker id."""

    def __init__(self) -> None:
        self._workers: dict[bytes, Process] = {}
        self._pids: dict[int, set[bytes]] = {}
        self.nbytes = 0

    def items(self) -> Iterable[tuple[bytes, Process]]:
        return self._workers.items()

    def get(self, worker_id: bytes) -> Process | None:
        return self._workers.get(worker_id)

    def stream(self, worker_id: bytes) -> str:
        """The name of a worker's stdout and stderr without ``.out`` and ``.err``; empty where none was seen."""
        known = self._workers.get(worker_id)
        if known is None or not known.started_for:
            return ""
        return f"worker-{worker_id.hex()}-{known.started_for.hex()}-{known.pid}"

    def only(self, pid: int) -> tuple[bytes, Process] | None:
        """The worker of this process id, if just one of the whole session has it."""
        workers = self._pids.get(pid, set())
        if len(workers) != 1:
            return None
        (worker_id,) = workers
        return worker_id, self._workers[worker_id]

    def learn(self, node_id: str, names: Iterable[str]) -> bool:
        """Take in the names of a node's log files; whether they told anything new."""
        try:
            node = bytes.fromhex(node_id)
        except ValueError:
            return False
        return sum(self._learn(node, name) for name in names) > 0

    def _learn(self, node_id: bytes, name: str) -> bool:
        if stream := _STREAM.fullmatch(name):
            worker, job, pid = bytes.fromhex(stream[1]), bytes.fromhex(stream[2]), int(stream[3])
        elif core := _CORE.fullmatch(name):
            worker, job, pid = bytes.fromhex(core[1]), b"", int(core[2])
        else:
            return False
        told = Process(node_id, pid, job)
        known = self._workers.get(worker)
        if known is None:
            if len(self._workers) >= MAX_PROCESSES:
                return False
            self.nbytes += _PROCESS_BYTES
        elif told <= known:
            return False
        else:
            self._pids[known.pid].discard(worker)
        self._workers[worker] = told
        self._pids.setdefault(pid, set()).add(worker)
        return True

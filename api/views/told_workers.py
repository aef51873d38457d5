"""What the dashboard itself last said of worker processes: how those began and ended that no record tells of.

The collector asks for it only where Ray writes export API files, which tell of no workers. Where Ray posts, its
records say the same and more: they go before this.
"""

from __future__ import annotations

from typing import Any

from api.index.workers import UNKNOWN_MS, Worker
from api.query.query import Row
from api.snapshots import Snapshots
from pipeline.events import WorkerDefinition, WorkerTransition

URL = "/api/v0/workers?detail=1&limit=10000"
TYPES = ("WORKER", "DRIVER", "SPILL_WORKER", "RESTORE_WORKER")
EXITS = ("SYSTEM_ERROR", "INTENDED_SYSTEM_EXIT", "USER_ERROR", "INTENDED_USER_EXIT", "NODE_OUT_OF_MEMORY")
MAX_PID = 1 << 32
_ID_BYTES = 28


def told_workers(snapshots: Snapshots) -> tuple[dict[bytes, Worker], int]:
    """The workers of the last answer by id, so far as its rows are what Ray's rows are, and when it came (ms)."""
    answer = snapshots.good(URL)
    found = map(_worker, snapshots.state_rows(URL))
    workers = {worker.worker_id: worker for worker in found if worker is not None}
    return workers, answer.time_ms if answer is not None else 0


def _worker(row: Row) -> Worker | None:
    worker_id, node_id = _id(row.get("worker_id")), _id(row.get("node_id"))
    kind, pid = row.get("worker_type"), _number(row.get("pid"), MAX_PID)
    if not worker_id or kind not in TYPES:
        return None
    worker = Worker(
        worker_id,
        WorkerDefinition(worker_id, node_id, str(kind), pid),
        launch_ms=_number(row.get("worker_launch_time_ms"), UNKNOWN_MS + 1),
        launched_ms=_number(row.get("worker_launched_time_ms"), UNKNOWN_MS + 1),
        start_ms=_number(row.get("start_time_ms"), UNKNOWN_MS + 1),
        end_ms=_number(row.get("end_time_ms"), UNKNOWN_MS + 1),
    )
    if row.get("is_alive") is False:
        exit_type, detail = row.get("exit_type"), row.get("exit_detail")
        worker.death = WorkerTransition(
            "DEAD",
            0,
            exit_type=exit_type if exit_type in EXITS else None,
            exit_detail=detail if isinstance(detail, str) else None,
        )
    return worker


def _id(value: Any) -> bytes:
    try:
        found = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        return b""
    return found if len(found) == _ID_BYTES else b""


def _number(value: Any, limit: int) -> int:
    """A count below ``limit``; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit else 0

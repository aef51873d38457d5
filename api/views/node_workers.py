"""The worker processes of a node as the dashboard's pages list them, below a node and on its own page.

They show the processes that run. So these are the workers of which nothing says that they ended; what each used
of the machine is in no record and stands at zero, since the pages can't do without figures.
"""

from __future__ import annotations

from typing import Any

from api.index.nodes import Node
from api.index.session_index import SessionIndex
from api.query.query import Row
from api.views.workers import workers_left

NO_ACTOR = "ff" * 16
MAX_WORKERS = 1000
_NO_MEMORY = {"rss": 0, "vms": 0, "pfaults": 0, "pageins": 0}


def node_workers(index: SessionIndex, node: Node) -> list[dict[str, Any]]:
    """The first thousand of one node; a process without its id is nothing that a page could show."""
    actors = {
        (actor.place.node_id, actor.place.pid): actor.actor_id.hex()
        for actor in index.actors.values()
        if actor.place is not None and actor.has_address and actor.state == "ALIVE"
    }
    left = [row for row in workers_left(index, node.node_id) if row["pid"]][:MAX_WORKERS]
    return [_worker(index, row, actors.get((node.node_id, row["pid"]), NO_ACTOR)) for row in left]


def _worker(index: SessionIndex, row: Row, actor_id: str) -> dict[str, Any]:
    return {
        "pid": row["pid"],
        "createTime": row["start_time_ms"] / 1000,
        "cpuPercent": 0,
        "cpuTimes": {"user": 0, "system": 0, "childrenUser": 0, "childrenSystem": 0},
        "cmdline": [_name(index, row)],
        "memoryInfo": _NO_MEMORY,
        "memoryFullInfo": None,
        "numFds": 0,
        "coreWorkerStats": [_stats(row, actor_id)],
        "language": "PYTHON",
    }


def _name(index: SessionIndex, row: Row) -> str:
    """A driver by what it was started with."""
    if row["worker_type"] == "DRIVER":
        driver = index.jobs.driver(bytes.fromhex(row["worker_id"][:8]))
        if driver is not None and driver.definition is not None and driver.definition.entrypoint:
            return driver.definition.entrypoint
    return f"ray::{row['worker_type']}"


def _stats(row: Row, actor_id: str) -> dict[str, Any]:
    """Ray's CoreWorkerStats of a worker that does nothing."""
    return {
        "ipAddress": row["ip"],
        "port": "0",
        "actorId": actor_id,
        "jobId": row["worker_id"][:8] if row["worker_type"] == "DRIVER" else "",
        "workerId": row["worker_id"],
        "pid": row["pid"],
        "workerType": row["worker_type"],
        "numPendingTasks": 0,
        "numObjectRefsInScope": 0,
        "usedResources": {},
        "numInPlasma": 0,
        "numLocalObjects": 0,
        "usedObjectStoreMemory": "0",
        "taskQueueLength": 0,
        "numExecutedTasks": 0,
        "objectRefs": [],
        "language": "PYTHON",
        "numRunningTasks": "0",
    }

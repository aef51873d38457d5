"""What a ``SessionIndex`` knows that finds logs: see ``log_target.LogIndex``. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from api.index.actors import Actor
from api.index.session_index import SessionIndex
from api.index.tasks import LOG_FIELDS
from api.views.jobs import job_rest
from api.views.log_target import TaskPlace


class SessionLogIndex:
    """Satisfies ``LogIndex``."""

    def __init__(self, index: SessionIndex) -> None:
        self._index = index

    def node_of_ip(self, ip: str) -> str | None:
        nodes = [
            (node.is_alive, node.definition.start_time_ms, node.node_id)
            for node in self._index.nodes.values()
            if node.definition is not None and node.definition.node_ip_address == ip
        ]
        return max(nodes)[2].hex() if nodes else None

    def has_task(self, task_id: bytes) -> bool:
        return self._index.tasks.row_of(task_id) is not None

    def task_place(self, task_id: bytes, attempt: int) -> TaskPlace | None:
        tasks = self._index.tasks
        row = tasks.row_of(task_id, attempt) if attempt >= 0 else None
        if row is None:
            return None
        return TaskPlace(
            node_id=tasks.nodes.values[tasks.node.cells[row]].hex() or None,
            worker_id=tasks.workers.values[tasks.worker.cells[row]].hex() or None,
            actor_id=tasks.actors.values[tasks.actor.cells[row]].hex() or None,
            log=self._log(row),
        )

    def _log(self, row: int) -> dict[str, Any] | None:
        tasks = self._index.tasks
        info: dict[str, Any] = {}
        for field in LOG_FIELDS:
            column = tasks.log_info.get(field)
            code = column.cells[row] if column is not None else 0
            if code:
                info[field] = tasks.log_files.values[code] if field.endswith("file") else code - 1
        return info or None

    def actor_places(self, actor_id: bytes) -> list[tuple[str, str]] | None:
        """Where it lives now (or lived last), then wherever else its tasks ran: Ray's records don't keep earlier addresses."""
        actor = self._index.actors.get(actor_id)
        if actor is None:
            return None
        places: dict[tuple[str, str], None] = {}
        worker_id, node_id = self._last_worker(actor)
        if worker_id and node_id:
            places[node_id.hex(), worker_id.hex()] = None
        tasks = self._index.tasks
        code = tasks.actors.codes.get(actor_id)
        if code is not None:
            rows = np.flatnonzero(tasks.actor.array(len(tasks)) == code)
            pairs = np.stack([tasks.node.array(len(tasks))[rows], tasks.worker.array(len(tasks))[rows]], axis=1)
            for node, worker in _last_first(pairs):
                if node and worker:
                    places[tasks.nodes.values[node].hex(), tasks.workers.values[worker].hex()] = None
        return list(places)

    def _last_worker(self, actor: Actor) -> tuple[bytes, bytes]:
        """The worker that an actor was in last and its node; export API files leave it to find by its process id."""
        if actor.place is not None:
            node_id = actor.place.node_id
            return actor.place.worker_id or self._index.worker_at(node_id, actor.place.pid), node_id
        return self._index.process(actor.pid) or (b"", b"")

    def submission_node(self, submission_id: str) -> tuple[bool, str | None]:
        row = job_rest(self._index, submission_id)
        if row is None or row.get("submission_id") != submission_id:
            return False, None
        return True, row.get("driver_node_id")


def _last_first(pairs: Any) -> list[tuple[int, int]]:
    """The different pairs, the one that was met last first."""
    found, first = np.unique(pairs[::-1], axis=0, return_index=True)
    return [(int(node), int(worker)) for node, worker in found[np.argsort(first)]]

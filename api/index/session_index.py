"""One session in memory: every record that was read of it, as the entities it tells of.

    Decoded ─▶ apply ─┬▶ tasks (columns)
                      ├▶ actors, nodes, workers, jobs, placement groups (Structs by id)
                      ├▶ log events (a ring a job)
                      └▶ opaque (kept whole for those who ask)
    beside the records: the names of log files (processes), what the dashboard said of jobs and workers

Promises: records may be applied in any order and more than once; the entities are the same. Whatever
changes an index bumps ``version``. What it leaves to others: locking
(one thread at a time), reading (``reader.py``), the shape of an answer (``views/``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from api.index.actors import ActorTable
from api.index.jobs import JobTable
from api.index.log_events import LogEvents
from api.index.nodes import NodeTable
from api.index.opaque import OpaqueTable
from api.index.outcome import WorkerDeath
from api.index.placement_groups import PlacementGroupTable
from api.index.processes import Processes
from api.index.seen_workers import SeenWorker, seen_workers, with_processes
from api.index.tasks import TaskTable
from api.index.workers import WORKER_BYTES, Worker, WorkerTable, death
from pipeline import events
from pipeline.decoding.decode import Decoded

_SESSION_LOG = re.compile(r"(/.+/session_[^/]+)/logs/")
_LOOKED_AT = 10


class SessionIndex:
    """A session's entities, and how many records they were made of."""

    def __init__(self) -> None:
        self.tasks = TaskTable()
        self.actors = ActorTable()
        self.nodes = NodeTable()
        self.workers = WorkerTable()
        self.jobs = JobTable()
        self.placement_groups = PlacementGroupTable()
        self.log_events = LogEvents()
        self.opaque = OpaqueTable()
        self.processes = Processes()
        self.logs_folder = ""
        self.told_jobs: Sequence[dict[str, Any]] = ()
        self.told_workers: Mapping[bytes, Worker] = {}
        self.told_workers_ms = 0
        self.version = 0
        self.records = 0
        self.rejected = 0
        self.unknown: dict[str, int] = {}
        self._prepared = -1
        self._seen_version = -1
        self._seen: dict[bytes, SeenWorker] = {}
        self._seen_at: dict[tuple[bytes, int], bytes] = {}
        self._pids_version = -1
        self._pids: dict[int, list[events.WorkerDefinition]] = {}
        self._of_tasks: dict[type, Callable[[Any], None]] = {
            events.TaskUpdate: self.tasks.update,
            events.TaskDefinition: self.tasks.define,
            events.TaskProfile: self.tasks.profile,
        }
        self._of_others: dict[type, Callable[[Any, int], None]] = {
            events.ActorDefinition: self.actors.define,
            events.ActorUpdate: self.actors.update,
            events.NodeDefinition: self.nodes.define,
            events.NodeUpdate: self.nodes.update,
            events.WorkerDefinition: self.workers.define,
            events.WorkerUpdate: self.workers.update,
            events.DriverJobDefinition: self.jobs.define_driver,
            events.DriverJobUpdate: self.jobs.update_driver,
            events.SubmissionJobDefinition: self.jobs.define_submission,
            events.SubmissionJobUpdate: self.jobs.update_submission,
            events.PlacementGroupDefinition: self.placement_groups.define,
            events.PlacementGroupUpdate: self.placement_groups.update,
            events.LogEvent: self._log_event,
            events.Opaque: self.opaque.add,
        }

    @property
    def nbytes(self) -> int:
        """About how much memory this index takes."""
        tables = (
            self.tasks,
            self.actors,
            self.nodes,
            self.workers,
            self.jobs,
            self.placement_groups,
            self.log_events,
            self.opaque,
            self.processes,
        )
        return sum(table.nbytes for table in tables) + WORKER_BYTES * len(self.told_workers)

    def apply(self, decoded: Decoded) -> None:
        """Take in what was decoded of one block."""
        of_tasks, of_others = self._of_tasks.get, self._of_others
        for record, position in zip(decoded.records, decoded.positions, strict=True):
            kind = type(record)
            if (task := of_tasks(kind)) is not None:
                task(record)
            else:
                of_others[kind](record, position)
        self.records += len(decoded.records)
        self.rejected += len(decoded.rejected)
        for name, count in decoded.unknown.items():
            self.unknown[name] = self.unknown.get(name, 0) + count
        self.version += 1

    def tell_logs_folder(self, path: str) -> None:
        """Take in where the nodes keep the session's logs."""
        if self.logs_folder != path:
            self.logs_folder = path
            self.version += 1

    def log_stem(self, worker_id: bytes) -> str:
        """The path of a worker's stdout and stderr on its node, without the suffix; empty where it isn't known."""
        name = self.processes.stream(worker_id)
        if not name:
            return ""
        kept = self.session_folder()
        folder = self.logs_folder or (f"{kept}/logs" if kept else "")
        return f"{folder}/{name}" if folder else ""

    def session_folder(self) -> str:
        """Where Ray kept the session on its nodes, as far as a task's log tells; empty where none does."""
        for text in self.tasks.log_files.values[:_LOOKED_AT]:
            if found := _SESSION_LOG.match(text):
                return found[1]
        return ""

    def tell_jobs(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take in what the dashboard said of jobs: rows as ``views/told_jobs.py`` reads them, instead of the last."""
        if self.told_jobs != rows:
            self.told_jobs = rows
            self.version += 1

    def tell_workers(self, workers: Mapping[bytes, Worker], at_ms: int) -> None:
        """Take in what the dashboard said of workers, instead of the last: of those that no record tells of it stands."""
        if (self.told_workers, self.told_workers_ms) != (workers, at_ms):
            self.told_workers, self.told_workers_ms = workers, at_ms
            self.version += 1

    def learn_processes(self, node_id: str, log_names: Iterable[str]) -> None:
        """Take in what the names of a node's log files tell."""
        if self.processes.learn(node_id, log_names):
            self.version += 1

    def prepared_tasks(self) -> TaskTable:
        """The tasks, those of dead workers and finished jobs marked failed as Ray marks them."""
        if self._prepared != self.version:
            self.tasks.refresh(self._deaths(), self.jobs.ends())
            self._prepared = self.version
        return self.tasks

    def _deaths(self) -> Mapping[bytes, WorkerDeath]:
        told = {name: death(worker) for name, worker in self.told_workers.items() if not worker.is_alive}
        return {**told, **self.workers.deaths()} if told else self.workers.deaths()

    def seen_workers(self) -> dict[bytes, SeenWorker]:
        """The worker processes that tasks and the names of log files tell of, by id."""
        if self._seen_version != self.version:
            self._seen = with_processes(seen_workers(self.tasks), self.processes)
            self._seen_at = {(seen.node_id, seen.pid): seen.worker_id for seen in self._seen.values()}
            self._seen_version = self.version
        return self._seen

    def worker_at(self, node_id: bytes, pid: int) -> bytes:
        """The worker that a task saw in a process; empty where none did (the export dialect leaves it to guess)."""
        self.seen_workers()
        return self._seen_at.get((node_id, pid), b"")

    def process(self, pid: int) -> tuple[bytes, bytes] | None:
        """The worker of this process id and its node, if just one of the whole session has it: ids come again."""
        named = self.processes.only(pid)
        if named is not None:
            return named[0], named[1].node_id
        if self._pids_version != self.version:
            self._pids = {}
            for worker in self.workers.values():
                if worker.definition is not None:
                    self._pids.setdefault(worker.definition.pid, []).append(worker.definition)
            self._pids_version = self.version
        found = self._pids.get(pid, ())
        return (found[0].worker_id, found[0].node_id) if len(found) == 1 and pid else None

    def _log_event(self, event: events.LogEvent, position: int) -> None:
        self.log_events.add(event, position)
        if event.source_type == "JOBS":
            self.jobs.log(event)

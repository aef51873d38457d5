"""Ray's answer about worker processes.

Four sources, the best first: what Ray told of its workers, what its dashboard said of them, its drivers (Ray tells
of them as jobs only), and the workers that are known only because a task ran in them. Of the latter two, how a
process ended isn't known; they live as long as what they served.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from api.index.actors import Actor
from api.index.jobs import Driver
from api.index.nodes import Node
from api.index.seen_workers import DRIVER_SUFFIX, SeenWorker
from api.index.session_index import SessionIndex
from api.index.workers import UNKNOWN_MS, Worker
from api.query.query import ListOptions, Row
from api.query.schemas import WORKERS
from api.views.jobs import succeeded_with
from api.views.listing import list_entities
from pipeline.events import TASK_STATUS, WorkerDefinition

_UNDEFINED = WorkerDefinition(b"", b"", "WORKER", 0)
_DRIVER_TASK = b"\xff" * 20
_RUNNING, _FINISHED = TASK_STATUS.index("RUNNING"), TASK_STATUS.index("FINISHED")


def list_workers(index: SessionIndex, options: ListOptions) -> dict[str, Any]:
    """``/api/v0/workers``."""
    known, row = _workers(index)
    return list_entities(known.items(), itemgetter(0), row, WORKERS, options)


def workers_left(index: SessionIndex, node_id: bytes) -> list[Row]:
    """The rows of those on one node that nothing says have ended."""
    known, row = _workers(index)
    name = node_id.hex()
    rows = map(row, sorted(known.items(), key=itemgetter(0)))
    return [worker for worker in rows if worker["is_alive"] and worker["node_id"] == name]


_Known = Worker | Driver | SeenWorker


def _workers(index: SessionIndex) -> tuple[dict[bytes, _Known], Callable[[tuple[bytes, _Known]], Row]]:
    """All that are known, and what makes a row of one."""
    seen = index.seen_workers()
    known: dict[bytes, _Known] = dict(seen)
    known.update((driver.job_id + DRIVER_SUFFIX, driver) for driver in index.jobs.drivers())
    served = {worker_id: known[worker_id] for worker_id in index.told_workers.keys() & known.keys()}
    known.update(index.told_workers)
    known.update((worker.worker_id, worker) for worker in index.workers.values())
    stands = index.nodes.standing()
    working = {place for place in map(_process, index.actors.values()) if place is not None}
    over = {
        (actor.place.node_id, actor.place.pid): actor.end_ns // 1_000_000
        for actor in index.actors.values()
        if actor.state == "DEAD" and actor.place is not None
    }

    def row(worker: tuple[bytes, _Known]) -> Row:
        worker_id, what = worker
        if isinstance(what, Worker):
            told = _worker_row(index, what)
            last = served.get(worker_id) if what.is_alive and worker_id not in index.workers else None
            return told if last is None else _ended(told, row((worker_id, last)), index.told_workers_ms)
        if isinstance(what, Driver):
            return _driver_row(index, what, seen.get(worker_id) or SeenWorker(worker_id))
        process = what.node_id, what.pid
        return _seen_row(index, what, process in working, over.get(process, 0), stands)

    return known, row


def _ended(told: Row, last: Row, at_ms: int) -> Row:
    """A worker that lived when the dashboard was asked for the last time has ended since if what it served has."""
    if last["is_alive"] or last["end_time_ms"] <= at_ms:
        return told
    return told | {name: last[name] for name in ("is_alive", "end_time_ms")}


def _process(actor: Actor) -> tuple[bytes, int] | None:
    """The node and process that a living actor keeps alive."""
    if actor.state != "ALIVE" or actor.place is None or not actor.has_address:
        return None
    return actor.place.node_id, actor.place.pid


def _worker_row(index: SessionIndex, worker: Worker) -> Row:
    what = worker.definition or _UNDEFINED
    death = worker.death
    return _row(
        index,
        worker.worker_id,
        is_alive=worker.is_alive,
        worker_type=what.worker_type,
        node_id=what.node_id,
        pid=what.pid,
        exit_type=death.exit_type if death is not None else None,
        exit_detail=death.exit_detail if death is not None else None,
        worker_launch_time_ms=worker.launch_ms or UNKNOWN_MS,
        worker_launched_time_ms=worker.launched_ms or UNKNOWN_MS,
        start_time_ms=worker.start_ms,
        end_time_ms=worker.end_ms,
    )


def _driver_row(index: SessionIndex, driver: Driver, seen: SeenWorker) -> Row:
    """How a driver ended is only known of one that said goodbye, or that a submitted job succeeded with: it exited with 0."""
    what = driver.definition
    began_ms, left = _own_task(index, driver.job_id)
    succeeded = driver.is_dead and (left or succeeded_with(index, driver))
    submission = index.jobs.submission(driver.submission_id)
    told = submission.driver_node_id if submission is not None else None
    node_id = (what.driver_node_id if what is not None else b"") or seen.node_id
    return _row(
        index,
        seen.worker_id,
        is_alive=not driver.is_dead,
        worker_type="DRIVER",
        node_id=node_id or _id(told),
        ip=(what.driver_ip_address if what is not None else "") or seen.ip,
        pid=what.driver_pid if what is not None else seen.pid,
        exit_type="INTENDED_USER_EXIT" if succeeded else None,
        exit_detail="Shutdown by ray.shutdown()." if succeeded else None,
        start_time_ms=driver.start_ms or began_ms,
        end_time_ms=driver.end_ms,
    )


def _own_task(index: SessionIndex, job_id: bytes) -> tuple[int, bool]:
    """When a driver's own task began to run (ms; 0 where it isn't known), and whether it finished: that is said on shutdown."""
    tasks = index.tasks
    row = tasks.row_of(_DRIVER_TASK + job_id)
    times = tasks.times[_RUNNING]
    if row is None:
        return 0, False
    began_ns = int(times.cells[row]) if times is not None else 0
    return began_ns // 1_000_000, bool(tasks.mask.cells[row] >> _FINISHED & 1)


def _id(text: str | None) -> bytes:
    try:
        return bytes.fromhex(text or "")
    except ValueError:
        return b""


def _seen_row(
    index: SessionIndex, worker: SeenWorker, works: bool, actor_end_ms: int, stands: Callable[[Node], bool]
) -> Row:
    """Alive until its node, its job or its actor ends; an actor may outlive the job that made it, and its worker with it."""
    node, driver = index.nodes.get(worker.node_id), index.jobs.driver(worker.job_id)
    began_ms = 0
    if worker.is_driver:  # without a job's record: the one in the dashboard, which connects before records are written
        node = node or index.nodes.last_head()
        began_ms, _ = _own_task(index, worker.job_id)
    ends = [node.end_ms] if node is not None and not stands(node) else []
    if driver is not None and driver.is_dead and not works:
        ends.append(driver.end_ms)
    if actor_end_ms and not works:
        ends.append(actor_end_ms)
    return _row(
        index,
        worker.worker_id,
        is_alive=not ends,
        worker_type="DRIVER" if worker.is_driver else "WORKER",
        node_id=node.node_id if node is not None else worker.node_id,
        ip=worker.ip,
        pid=worker.pid,
        start_time_ms=began_ms,
        end_time_ms=min(ends, default=0),
    )


def _row(
    index: SessionIndex,
    worker_id: bytes,
    *,
    is_alive: bool,
    worker_type: str,
    node_id: bytes,
    pid: int,
    ip: str = "",
    exit_type: str | None = None,
    exit_detail: str | None = None,
    worker_launch_time_ms: int = UNKNOWN_MS,
    worker_launched_time_ms: int = UNKNOWN_MS,
    start_time_ms: int = 0,
    end_time_ms: int = 0,
) -> Row:
    return {
        "worker_id": worker_id.hex(),
        "is_alive": is_alive,
        "worker_type": worker_type,
        "exit_type": exit_type,
        "node_id": node_id.hex(),
        "ip": index.nodes.ip(node_id) or ip,
        "pid": pid,
        "exit_detail": exit_detail,
        "worker_launch_time_ms": worker_launch_time_ms,
        "worker_launched_time_ms": worker_launched_time_ms,
        "start_time_ms": start_time_ms,
        "end_time_ms": end_time_ms,
        "debugger_port": None,
        "num_paused_threads": None,
    }

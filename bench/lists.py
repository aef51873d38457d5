"""How fast a million task attempts are sorted, paged and exported, and what that takes: ``python -m bench.lists [ATTEMPTS]``.

The index is filled directly; requests go through the whole application but the socket.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import anyio
import click
from anyio import to_thread
from support.sessions import KEY, SegmentWriter, WrappedStore, tasks
from support.taskset import JOBS, NODES, T0, WORKERS, driver_id, task_id

from api.app import create_app
from api.index.session_index import SessionIndex
from pipeline.config import ServerConfig, StoreConfig
from pipeline.decoding.decode import Decoded
from pipeline.events import TaskDefinition, TaskUpdate

QUERIES = (
    "limit=100",
    "limit=100&offset=0",
    "limit=100&sort_by=end_time_ms",
    "limit=100&sort_by=-end_time_ms",
    "limit=100&sort_by=name",
    "limit=100&sort_by=parent_task_id",
    "limit=100&sort_by=error_message",
    f"limit=100&sort_by=end_time_ms&start_time_ms={T0 // 10**6}&end_time_ms={T0 // 10**6 + 60_000}",
    "limit=100&sort_by=end_time_ms&offset=900000",
)
STREAMS = (
    "format=csv",
    "format=csv&sort_by=end_time_ms",
    "format=ndjson",
    "format=csv&detail=1&limit=100000",
    "format=csv&fields=task_id,state,start_time_ms,end_time_ms,error_message",
)


def index_of(attempts: int) -> SessionIndex:
    """Attempts of 50 functions, one in ten of them failed."""
    index, chance = SessionIndex(), random.Random(1)
    for number in range(attempts):
        task = task_id(chance.getrandbits(63))
        at_ns = T0 + number * 1_000_000
        name, failed = f"step_{number % 50:02}", number % 10 == 0
        times = [
            (1, at_ns),
            (5, at_ns + 9_999),
            (8, at_ns + 5 * 10**6),
            (12 if failed else 11, at_ns + chance.getrandbits(33)),
        ]
        said = ("RAY_TASK", f"it broke {number % 30}") if failed else (None, None)
        records = [
            TaskDefinition(task, 0, JOBS[0], "NORMAL_TASK", "PYTHON", name, name, driver_id(JOBS[0])),
            TaskUpdate(task, 0, JOBS[0], times, NODES[0], WORKERS[number % 3], 42, *said),
        ]
        index.apply(Decoded(records, [number, number]))
    return index


def resident() -> int:
    """Bytes of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def ask(app: object, query: str, *, compressed: bool = False) -> tuple[float, float, int, int, float]:
    """Seconds, those of the processor, bytes of the body, most memory while it came, and the longest that the event loop was held up."""
    size = peak = 0
    held, done = 0.0, anyio.Event()
    headers = [(b"accept-encoding", b"gzip")] if compressed else []
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
             "scheme": "http", "path": f"/sessions/{KEY}/api/v0/tasks", "raw_path": b"", "root_path": "",
             "query_string": query.encode(), "headers": headers, "server": ("s", 80), "client": ("c", 1)}  # fmt: skip

    first = True

    async def receive() -> dict[str, object]:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        nonlocal size, peak
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message
        else:
            size += len(message.get("body", b""))  # type: ignore[arg-type]
            peak = max(peak, resident())
            if not message.get("more_body"):
                done.set()

    async def beat() -> None:
        nonlocal held, peak
        while not done.is_set():
            began = time.perf_counter()
            await anyio.sleep(0.001)
            peak = max(peak, resident())
            held = max(held, time.perf_counter() - began - 0.001)

    began, spent = time.perf_counter(), time.process_time()
    async with anyio.create_task_group() as group:
        group.start_soon(beat)
        await app(scope, receive, send)  # type: ignore[operator]
        took, spent = time.perf_counter() - began, time.process_time() - spent
        done.set()
    return took, spent, size, peak, held


async def main(attempts: int) -> None:
    began = time.perf_counter()
    index = await to_thread.run_sync(index_of, attempts)
    click.echo(
        f"{attempts} attempts in {time.perf_counter() - began:.0f} s, {index.tasks.nbytes >> 20} MiB counted, {resident() >> 20} MiB resident"
    )
    store = WrappedStore()
    writer = SegmentWriter(store)
    await writer.begin()
    await writer.write(tasks(1))
    app = create_app(ServerConfig(store=StoreConfig(url="memory://"), refresh=3600.0), store)
    async with app.router.lifespan_context(app):
        await ask(app, "limit=1")
        (await app.state.sessions.open(KEY)).index = index
        await ask(app, "limit=1")
        for query in QUERIES:
            took, spent = min([(await ask(app, query))[:2] for _ in range(3)])
            click.echo(f"{took * 1000:8.0f} ms ({spent * 1000:.0f} of the processor)  {query}")
        for compressed in (False, True):
            for query in STREAMS:
                before = resident()
                took, spent, size, peak, held = await ask(app, query, compressed=compressed)
                rows = 100_000 if "limit" in query else attempts
                click.echo(
                    f"{rows / took:8.0f} rows/s ({rows / spent:.0f} a processor's second) {size >> 20:5} MiB  memory +{(peak - before) >> 20} MiB  "
                    f"loop held {held * 1000:.0f} ms  {query}{'  gzip' if compressed else ''}"
                )


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)

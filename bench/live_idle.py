"""What a thousand live sessions cost a server while nobody watches: ``python -m bench.live_idle``.

The server is the command in a process of its own. Here are the collectors' pushers, one a session, as they are: each
has some records a second to push, and every ten seconds a segment goes into the store and is told of. Memory of the
server is read as the kernel has it; in the end some sessions are opened and must be whole.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import anyio  # noqa: E402
import click  # noqa: E402
import structlog  # noqa: E402
from anyio import to_thread  # noqa: E402
from support.processes import Program, on_disk, server, session_url  # noqa: E402
from support.rayhead import fetch  # noqa: E402
from support.sessions import SegmentWriter, finishing  # noqa: E402

from pipeline.layout import SessionKey  # noqa: E402
from pipeline.push.push import Channel, Pusher  # noqa: E402
from pipeline.push.push_http import http_channel  # noqa: E402
from pipeline.segments.batch import Chunk  # noqa: E402
from pipeline.segments.segment import Header, Span  # noqa: E402
from pipeline.stores.filestore import FileStore  # noqa: E402

SEAL_EVERY = 10.0
SOURCE = "spool/1.jsonl"
MB = 1_000_000


class Sample(NamedTuple):
    """The server after so many seconds."""

    seconds: float
    rss: int
    cpu: float
    pushed: int
    held: int


class Session:
    """One live session: its pusher, and where its only source ends."""

    def __init__(self, number: int, store: FileStore, channel: Channel) -> None:
        self.key = SessionKey("default", "ray", f"session_2026-01-16_02-00-00_{number:06d}_1")
        self.node = f"{number:056x}"
        self.records = self.end = self.sealed = 0
        self.segments = SegmentWriter(store, self.key, self.node)
        self.pusher = Pusher(channel, self.key, "head", 8 << 20, lambda: None)
        self._unsealed: list[bytes] = []

    def read(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        chunk = Chunk(SOURCE, "ray_event", self.end, self.end + len(data), data, 0, records=len(lines))
        self.end += len(data)
        self.records += len(lines)
        self._unsealed += lines
        self.pusher.offer([chunk])

    async def seal(self) -> None:
        lines, self._unsealed = self._unsealed, []
        start, end = self.sealed, self.sealed + sum(map(len, lines))
        self.sealed = end
        await self.segments.write(lines, source=SOURCE, start=start)
        span = Span(SOURCE, "ray_event", start, end, len(lines))
        self.pusher.sealed(Header("default", "ray", self.key.session, self.node, self.segments.seq, [span]))


async def push_all(sessions: list[Session], rate: int, seconds: float) -> None:
    """Each session reads once a second, and seals every ten; not all at the same moment."""
    lines = [line for number in range(rate) for line in finishing(number)]
    begin = time.monotonic()
    for tick in range(int(seconds * 10)):
        for session in sessions[tick % 10 :: 10]:
            session.read(lines)
        for session in sessions[tick % 100 :: 100]:
            await session.seal()
        await anyio.sleep(max(0.0, begin + (tick + 1) / 10 - time.monotonic()))


async def watch(program: Program, every: float, samples: list[Sample]) -> None:
    begin = time.monotonic()
    while True:
        numbers = await to_thread.run_sync(_numbers, program)
        pushed = int(numbers.get('ray_history_pushes_taken_total{word="batch"}', 0))
        held = int(numbers.get("ray_history_live_bytes", 0))
        at = time.monotonic() - begin
        samples.append(Sample(at, int(numbers["process_resident_memory_bytes"]), program.cpu_seconds(), pushed, held))
        click.echo(said(samples))
        await anyio.sleep(every)


def _numbers(program: Program) -> dict[str, float]:
    status, body = fetch(f"{program.url}/metrics")
    if status != 200:
        raise AssertionError(f"/metrics was answered {status}")
    found = (line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in found}


def said(samples: list[Sample]) -> str:
    now, before = samples[-1], samples[-2] if len(samples) > 1 else samples[-1]
    passed = max(now.seconds - before.seconds, 0.001)
    return (
        f"{now.seconds:6.1f} s  memory {now.rss / MB:6.1f} MB  held {now.held / MB:5.1f} MB"
        f"  {(now.pushed - before.pushed) / passed:6.0f} pushes/s  processor {(now.cpu - before.cpu) / passed * 100:4.0f} %"
    )


async def run(program: Program, store: FileStore, count: int, rate: int, seconds: float) -> None:
    async with http_channel(program.url, None) as channel, anyio.create_task_group() as pushing:
        sessions = [Session(number, store, channel) for number in range(count)]
        for session in sessions:
            await session.segments.begin()
            pushing.start_soon(session.pusher.run, session.node)
        samples: list[Sample] = []
        async with anyio.create_task_group() as group:
            group.start_soon(watch, program, seconds / 12, samples)
            await push_all(sessions, rate, seconds)
            group.cancel_scope.cancel()
        for session in sessions[:: max(1, count // 3)]:
            await opened(program, session)
        pushing.cancel_scope.cancel()
    late = samples[len(samples) // 3 :]
    click.echo(
        f"memory over the last two thirds: {min(s.rss for s in late) / MB:.1f} to {max(s.rss for s in late) / MB:.1f} MB"
    )


async def opened(program: Program, session: Session) -> None:
    """Open one: all that it has read so far is in the first answer."""
    begin = time.monotonic()
    status, body = await to_thread.run_sync(fetch, f"{session_url(program, session.key.session)}/completeness")
    took = time.monotonic() - begin
    found = json.loads(body)
    if status != 200 or found["records"] != session.records or not found["complete"]:
        raise AssertionError(f"{session.key}: {found.get('records')} of {session.records} records: {body[:500]!r}")
    click.echo(f"opened {session.key.session}: {session.records} records, complete, in {took * 1000:.0f} ms")


@click.command()
@click.option("--sessions", default=1000, show_default=True)
@click.option("--rate", default=10, show_default=True, help="Records a second of each.")
@click.option("--seconds", default=120.0, show_default=True)
def main(sessions: int, rate: int, seconds: float) -> None:
    """Print the server's memory while so many sessions push, then open some."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory(prefix="idle-") as name:
        folder = Path(name)
        with server(on_disk(folder / "store"), folder) as program:
            arguments = (program, FileStore(folder / "store"), sessions, rate, seconds)
            anyio.run(run, *arguments, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main()

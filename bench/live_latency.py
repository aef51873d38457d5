"""How long it takes from a line that Ray wrote, or a post that was answered, to the server's index: ``python -m bench.live_latency``.

Three processes as in life: a writer that keeps its pace, the collector command, and the server with one session that
is watched. Clocks agree because they are one machine's.
"""

from __future__ import annotations

import bisect
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import anyio  # noqa: E402
import click  # noqa: E402
import structlog  # noqa: E402
from anyio import to_thread  # noqa: E402
from support.collecting import NODE, SESSION, RayFolder, key  # noqa: E402
from support.livechannel import LiveServer, serving  # noqa: E402
from support.processes import Program, collector, on_disk  # noqa: E402

from api.session.reader import Applied  # noqa: E402
from pipeline.stores.filestore import FileStore  # noqa: E402

How = Literal["file", "post"]
EVERY = 0.01
"""Seconds between two writes or posts: each has what falls due in that time."""


class Latencies(NamedTuple):
    """Seconds, sorted; ``records`` a second were written, ``slices`` were applied."""

    how: str
    records: int
    seconds: float
    slices: int
    waited: list[float]

    def at(self, share: float) -> float:
        return self.waited[min(int(len(self.waited) * share), len(self.waited) - 1)]


class Arrivals:
    """When how many records were applied; a reader's ``on_applied``."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.times: list[float] = []
        self.news = anyio.Event()

    def __call__(self, applied: Applied) -> None:
        before = self.counts[-1] if self.counts else 0
        self.counts.append(before + applied.decoded.lines)
        self.times.append(time.monotonic())
        self.news.set()
        self.news = anyio.Event()

    async def until(self, count: int) -> None:
        with anyio.fail_after(60):
            while not self.counts or self.counts[-1] < count:
                await self.news.wait()

    def of(self, number: int) -> float:
        """When the record of that number (from 0) was there."""
        return self.times[bisect.bisect_right(self.counts, number)]


@asynccontextmanager
async def watched(folder: Path, *options: str) -> AsyncIterator[tuple[LiveServer, Program, Arrivals]]:
    """A server with one session that is watched, and its collector."""
    ray = RayFolder(folder / "ray")
    ray.begin()
    async with serving(FileStore(folder / "store")) as server:
        arguments = [f"--server={server.url}", f"--node-id={NODE}", "--no-logs", "--no-poll", *options]
        start = collector(on_disk(folder / "store"), folder, ray.root, *arguments)
        program = await to_thread.run_sync(start.__enter__)
        try:
            with anyio.fail_after(20):
                while not server.sessions.live.words(key()):  # noqa: ASYNC110
                    await anyio.sleep(0.05)
            arrivals = Arrivals()
            async with server.sessions.watch(key()) as reader:
                reader.on_applied = arrivals
                yield server, program, arrivals
        finally:
            await to_thread.run_sync(start.__exit__, None, None, None)


async def measure(how: How, folder: Path, rate: int, seconds: float, *options: str) -> Latencies:
    """Write at ``rate`` for so long, and wait for each record."""
    async with watched(folder, *options) as (_, program, arrivals):
        target = f"http://127.0.0.1:{program.port}/v1/events" if how == "post" else str(target_file(folder))
        arguments = [sys.executable, __file__, "--write", how, target, str(rate), str(seconds)]
        writer = await anyio.run_process(arguments, stderr=sys.stderr)
        written: list[float] = json.loads(writer.stdout)
        await arrivals.until(len(written))
        waited = sorted(arrivals.of(number) - at for number, at in enumerate(written))
        return Latencies(how, len(written), seconds, len(arrivals.times), waited)


def target_file(folder: Path) -> Path:
    return folder / "ray" / SESSION / "logs" / "export_events" / "event_EXPORT_TASK_1.log"


def write(how: How, target: str, rate: int, seconds: float) -> list[float]:
    """Keep the pace; when each record was written, or its post answered, by the machine's clock."""
    from support.sessions import finishing

    done: list[float] = []
    put = _poster(target) if how == "post" else _appender(target)
    begin = time.monotonic()
    while len(done) < rate * seconds:
        due = int((time.monotonic() - begin) * rate)
        if due > len(done):
            numbers = range(len(done), due)
            put([line for number in numbers for line in finishing(number)])
            done += [time.monotonic()] * len(numbers)
        time.sleep(EVERY)
    return done


def _appender(target: str):  # type: ignore[no-untyped-def]
    out = Path(target).open("ab", buffering=0)  # noqa: SIM115

    def put(lines: list[bytes]) -> None:
        """The writer flushes each line, as Ray does."""
        for line in lines:
            out.write(line)

    return put


def _poster(target: str):  # type: ignore[no-untyped-def]
    import http.client
    from urllib.parse import urlsplit

    client = http.client.HTTPConnection(str(urlsplit(target).netloc))
    posts = 0

    def put(lines: list[bytes]) -> None:
        nonlocal posts
        posts += 1
        events = [
            json.loads(line) | {"sessionName": SESSION, "eventId": f"{posts}-{at}"} for at, line in enumerate(lines)
        ]
        client.request("POST", "/v1/events", json.dumps(events).encode(), {"Content-Type": "application/json"})
        answer = client.getresponse()
        answer.read()
        if answer.status != 200:
            raise AssertionError(f"the collector answered {answer.status}")

    return put


def report(found: Latencies) -> str:
    """One line."""
    percentiles = ", ".join(f"p{share * 100:g} {found.at(share) * 1000:.1f} ms" for share in (0.5, 0.9, 0.99, 1.0))
    rate = found.records / found.seconds
    return f"{found.how:<5} {found.records:,} records, {rate:,.0f} a second, in {found.slices:,} slices: {percentiles}"


@click.command()
@click.option("--rate", default=1000, show_default=True, help="Records a second.")
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--linger", default="", help="The collector's --linger.")
@click.option("--write", "writing", nargs=4, hidden=True, default=None)
def main(rate: int, seconds: float, linger: str, writing: tuple[str, str, str, str] | None) -> None:
    """Print how long records are on their way, written to a file and posted."""
    if writing is not None:
        how: How = "post" if writing[0] == "post" else "file"
        click.echo(json.dumps(write(how, writing[1], int(writing[2]), float(writing[3]))))
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    options = [f"--linger={linger}"] if linger else []
    for how in ("file", "post"):
        with tempfile.TemporaryDirectory(prefix="live-") as folder:
            found = anyio.run(measure, how, Path(folder), rate, seconds, *options, backend_options={"use_uvloop": True})
            click.echo(report(found))


if __name__ == "__main__":
    main()

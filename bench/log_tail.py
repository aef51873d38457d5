"""How long a line of a log takes from its writer to whoever follows it: ``python -m bench.log_tail``.

Three processes as in life: a writer that keeps its pace, the collector command, and the server command; here are the
followers, over HTTP. Nothing of the log is stored meanwhile. Clocks agree because they are one machine's.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import anyio  # noqa: E402
import click  # noqa: E402
import httpx  # noqa: E402
from anyio import to_thread  # noqa: E402
from support.collecting import NODE, SESSION, RayFolder  # noqa: E402
from support.processes import Program, collector, on_disk, server, session_url  # noqa: E402
from support.rayhead import fetch, until  # noqa: E402

NAME = "raylet.out"
EVERY = 0.01
"""Seconds between two writes: each has the lines that fall due in that time."""
LEAD = 3.0
"""Seconds that a follower has to begin, which aren't measured."""


class Measured(NamedTuple):
    """Seconds that lines were on their way, sorted, for all followers; and what it cost."""

    waited: list[float]
    first: list[float]
    collector_cpu: float
    server_cpu: float

    def at(self, share: float) -> float:
        return self.waited[min(int(len(self.waited) * share), len(self.waited) - 1)]


def write(target: str, rate: int, seconds: float) -> None:
    """Keep the pace; each line says when it was written."""
    begin, done = time.monotonic(), 0
    with Path(target).open("ab", buffering=0) as out:
        while done < rate * seconds:
            due = int((time.monotonic() - begin) * rate)
            for number in range(done, due):
                out.write(b"%d %.6f and what a line of a log says besides\n" % (number, time.time()))
            done = max(done, due)
            time.sleep(EVERY)
        out.write(b"end\n")


async def follow(url: str, lines: int, waited: list[float], first: list[float]) -> None:
    """Read to the end; each line must come once, in order."""
    query: dict[str, str | int] = {"node_id": NODE, "filename": NAME, "lines": -1}
    began, expected, rest = time.time(), 0, b""
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("GET", f"{url}/api/v0/logs/stream", params=query) as answer,
    ):
        async for piece in answer.aiter_raw():
            now = time.time()
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                if line == b"end":
                    if expected < lines:
                        raise AssertionError(f"{expected} of {lines} lines came")
                    return
                number, at = int(line.split()[0]), float(line.split()[1])
                if number != expected:
                    raise AssertionError(f"line {number} came where {expected} was due")
                expected += 1
                if not number:
                    first.append(now - began)
                if at > began + LEAD:
                    waited.append(now - at)


async def measure(
    folder: Path, programs: tuple[Program, Program], followers: int, rate: int, seconds: float
) -> Measured:
    collecting, serving = programs
    target = folder / "ray" / SESSION / "logs" / NAME
    url = session_url(serving, SESSION)
    listed = f"{url}/api/v0/logs?node_id={NODE}&glob={NAME}"
    await to_thread.run_sync(until, lambda: NAME.encode() in fetch(listed)[1], "the log to be listed")
    waited: list[float] = []
    first: list[float] = []
    before = collecting.cpu_seconds(), serving.cpu_seconds()
    async with anyio.create_task_group() as group:
        for _ in range(followers):
            group.start_soon(follow, url, int(rate * (seconds + LEAD)), waited, first)
        arguments = [sys.executable, __file__, "--write", str(target), str(rate), str(seconds + LEAD)]
        group.start_soon(anyio.run_process, arguments)
    after = collecting.cpu_seconds(), serving.cpu_seconds()
    took = seconds + LEAD
    return Measured(sorted(waited), sorted(first), (after[0] - before[0]) / took, (after[1] - before[1]) / took)


def report(found: Measured, followers: int, rate: int) -> str:
    """Two lines."""
    percentiles = ", ".join(f"p{share * 100:g} {found.at(share) * 1000:.0f} ms" for share in (0.5, 0.9, 0.99, 1.0))
    return (
        f"{rate:,} lines a second, {followers} followers, {len(found.waited):,} arrivals: {percentiles}\n"
        f"first line within {found.first[-1] * 1000:.0f} ms; processors: collector {found.collector_cpu * 100:.0f} %,"
        f" server {found.server_cpu * 100:.0f} %"
    )


@click.command()
@click.option("--rate", default=5, show_default=True, help="Lines a second.")
@click.option("--followers", default=1, show_default=True)
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--write", "writing", nargs=3, hidden=True, default=None)
def main(rate: int, followers: int, seconds: float, writing: tuple[str, str, str] | None) -> None:
    """Print how long lines are on their way."""
    if writing is not None:
        write(writing[0], int(writing[1]), float(writing[2]))
        return
    with tempfile.TemporaryDirectory(prefix="tail-") as name:
        folder = Path(name)
        ray = RayFolder(folder / "ray")
        (ray.begin() / "logs" / NAME).touch()
        store = on_disk(folder / "store")
        with server(store, folder) as serving:
            options = [f"--server={serving.url}", f"--node-id={NODE}", "--no-poll", "--log-age=3600s"]
            with collector(store, folder, ray.root, *options) as collecting:
                found = anyio.run(measure, folder, (collecting, serving), followers, rate, seconds)
        click.echo(report(found, followers, rate))


if __name__ == "__main__":
    main()

"""What counting in the background costs those who ask meanwhile: ``python -m bench.backfill``.

The same store and the same questions twice: to a server that counts nothing unasked, and to one that has large sessions
to count all the while. Each of some small sessions is opened for the first time, at moments that the server can't know;
between them one that is open already is asked about. What counts is the ratio of both servers' times.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import anyio  # noqa: E402
import click  # noqa: E402
import numpy as np  # noqa: E402
from support.counting import RECORDS, key  # noqa: E402
from support.processes import Program, on_disk, server  # noqa: E402
from support.rayhead import fetch, until  # noqa: E402
from support.sessions import SegmentWriter, tasks  # noqa: E402

from pipeline.layout import SessionKey  # noqa: E402
from pipeline.stores.filestore import FileStore  # noqa: E402

PER_SEGMENT = 2000
SUMMARY = "/api/v0/tasks/summarize"


class Asked(NamedTuple):
    """Seconds of each answer, and how many sessions were counted meanwhile."""

    cold: list[float]
    warm: list[float]
    counted: float


async def fill(folder: Path, small: int, large: int, segments: int) -> None:
    """Sessions that have ended: the small ones the oldest, so that the others' turn comes first."""
    store = FileStore(folder)
    lines = [tasks(PER_SEGMENT, first=1 + at * PER_SEGMENT) for at in range(segments)]
    for number in range(small + large):
        writer = SegmentWriter(store, key(number))
        await writer.begin(ended_ms=RECORDS)
        for at in range(1 if number < small else segments):
            await writer.write(lines[at])


def ask(program: Program, small: int, pause: float) -> Asked:
    open_already, rest = key(0), [key(number) for number in range(1, small)]
    _answer(program, open_already)
    time.sleep(3)  # it begins after two
    before, cold, warm = _counted(program), [], []
    for number, known in enumerate(rest):
        time.sleep(pause * (1 + number % 7 / 7))
        cold.append(_answer(program, known))
        warm += [_answer(program, open_already) for _ in range(5)]
    return Asked(cold, warm, _counted(program) - before)


def _answer(program: Program, known: SessionKey) -> float:
    begin = time.perf_counter()
    status, body = fetch(f"{program.url}/sessions/{known}{SUMMARY}", timeout=120)
    if status != 200 or b"FINISHED" not in body:
        raise AssertionError(f"{known} was answered {status}: {body[:300]!r}\n{program.log()[-2000:]}")
    return time.perf_counter() - begin


def _counted(program: Program) -> float:
    found = re.search(rb'backfill_sessions_total\{result="counted"\} ([0-9.e+]+)', fetch(f"{program.url}/metrics")[1])
    return float(found[1]) if found else 0.0


def said(name: str, asked: Asked) -> str:
    cold, warm = np.array(asked.cold) * 1000, np.array(asked.warm) * 1000
    return (
        f"{name:<22} first answer p50 {np.median(cold):6.1f} max {cold.max():6.1f} ms"
        f"   others p50 {np.median(warm):5.1f} p99 {np.percentile(warm, 99):6.1f} ms   counted meanwhile {asked.counted:3.0f}"
    )


def ratios(without: Asked, beside: Asked) -> str:
    def of(measure: str, one: list[float], other: list[float]) -> str:
        p50, most = (float(how(other) / how(one)) for how in (np.median, np.max))
        return f"{measure} p50 x {p50:.2f}, max x {most:.2f}"

    return f"{of('first answer', without.cold, beside.cold)};  {of('others', without.warm, beside.warm)}"


@click.command()
@click.option("--small", default=30, show_default=True, help="Sessions that are opened.")
@click.option("--large", default=40, show_default=True, help="Sessions that are to be counted.")
@click.option("--segments", default=15, show_default=True, help=f"Of each large one, of {PER_SEGMENT:,} tasks each.")
@click.option("--pause", default=0.8, show_default=True, help="Seconds between two that are opened, at least.")
def main(small: int, large: int, segments: int, pause: float) -> None:
    """Print how long answers take without and beside the counting, and that all is counted in the end."""
    with tempfile.TemporaryDirectory(prefix="backfill-") as name:
        folder = Path(name)
        for run in ("without", "beside"):
            anyio.run(fill, folder / run, small, large, segments)
        with server(on_disk(folder / "without"), folder, "--backfill-bytes=0") as program:
            without = ask(program, small, pause)
        click.echo(said("without", without))
        with server(on_disk(folder / "beside"), folder) as program:
            beside = ask(program, small, pause)
            click.echo(said("beside the counting", beside))
            click.echo(ratios(without, beside))
            begin = time.monotonic()
            until(
                lambda: b'"uncounted":0' in fetch(f"{program.url}/v1/sessions?limit=1")[1], "all", timeout=900, pause=1
            )
            click.echo(
                f"the rest counted in {time.monotonic() - begin:.0f} s more, peak memory {program.peak_rss() / 1e6:.0f} MB"
            )


if __name__ == "__main__":
    main()

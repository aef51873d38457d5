"""How long followers wait after trouble on the way to them, and that they miss nothing: ``python -m bench cut``.

The real commands, a network that is cut for as long as one says, programs that are killed, records all the while; the
trouble itself and what is held in the end are those of the tests (``tests/support/troubles.py``), at life's durations:
messages are given up, the stream falls silent, a session is taken for lost.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import anyio  # noqa: E402
import click  # noqa: E402
from anyio import to_thread  # noqa: E402
from support.troubles import Site, site  # noqa: E402

Trouble = Callable[[Site, Callable[[], Awaitable[None]]], Awaitable[None]]
"""Makes trouble, lets ``meanwhile`` go by, ends it."""


async def _cut(it: Site, meanwhile: Callable[[], Awaitable[None]], which: int = 0) -> None:
    it.networks[which].cut()
    await meanwhile()
    it.networks[which].heal()


async def _no_collector(it: Site, meanwhile: Callable[[], Awaitable[None]]) -> None:
    await it.kill_collector()
    await meanwhile()


async def _no_server(it: Site, meanwhile: Callable[[], Awaitable[None]]) -> None:
    it.servers[0].kill()
    await meanwhile()
    await it.kill_server()


async def _no_nats(it: Site, meanwhile: Callable[[], Awaitable[None]]) -> None:
    assert it.nats is not None
    await to_thread.run_sync(it.nats.kill)
    await meanwhile()
    await to_thread.run_sync(it.nats.start)


TROUBLES: dict[str, tuple[str, Trouble]] = {
    "http, network cut": ("http", _cut),
    "http, collector killed": ("http", _no_collector),
    "http, server away": ("http", _no_server),
    "nats, cut before it": ("nats", _cut),
    "nats, cut behind it": ("nats", partial(_cut, which=1)),
    "nats, nats-server away": ("nats", _no_nats),
    "nats, server away": ("nats", _no_server),
}


async def suffer(name: str, folder: Path, seconds: float, rate: float, age: float) -> str:
    """One line of the table; raises where anything is missing or told twice."""
    how, trouble = TROUBLES[name]
    async with site(folder, how, segment_age=age) as it:
        stayed = [await it.follow(number) for number in range(len(it.servers))]
        came_back = await it.follow(len(it.servers) - 1)
        await it.writer.keep_on(2, rate)
        before = it.writer.written

        async def meanwhile() -> None:
            await it.writer.keep_on(seconds / 2, rate)
            came_back.break_off()
            await it.writer.keep_on(seconds / 2, rate)

        await trouble(it, meanwhile)
        during = it.writer.written - before
        waited = await it.all_told(within=60)
        await it.writer.keep_on(1, rate)
        statuses = " ".join(stayed[0].statuses)
        await it.settle()
        most = max(server.peak_rss() for server in it.servers) / 1e6
        return (
            f"{name:<24} {2 * it.writer.written:>9,} {2 * during:>9,} {3 * it.writer.written:>9,} {waited:>9.2f}"
            f" {statuses:<28} {most:>5.0f} MB"
        )


HEADING = f"{'':<24} {'records':>9} {'meanwhile':>9} {'events':>9} {'whole, s':>9} {'statuses told':<28} {'memory':>8}"


@click.command()
@click.option("--seconds", default=30.0, show_default=True, help="How long the trouble lasts.")
@click.option("--rate", default=100.0, show_default=True, help="Tasks a second, two records and three events each.")
@click.option("--segment-age", default=10.0, show_default=True, help="Seconds after which a segment is sealed.")
@click.option("--only", multiple=True, help="Those whose name begins so.")
def main(seconds: float, rate: float, segment_age: float, only: tuple[str, ...]) -> None:
    """Make trouble of each kind; print how long after it all who follow had every event, each once."""
    click.echo(HEADING)
    for name in TROUBLES:
        if not only or name.startswith(only):
            with tempfile.TemporaryDirectory(prefix="cut-") as folder:
                click.echo(anyio.run(suffer, name, Path(folder), seconds, rate, segment_age))


if __name__ == "__main__":
    main()

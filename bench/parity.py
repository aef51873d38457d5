"""``python -m bench.parity``: plays recordings through both programs and prints how alike the answers are to the live dashboard's.

python -m bench.parity                    the larger captures, where they are at hand, and the small ones
python -m bench.parity FOLDER … --verbose one recording, and which fields differ
python -m bench.parity --tool             the table is that of tools/parity.py
python -m bench.parity --replay           and the head's dashboard is tools/replay_dashboard.py

A recording's own dashboard answers the collector's poll. The table is that of ``tests/support/parity.py``; the tools
stand beside the repository, where they are at hand. They know a dashboard of fewer answers (no workers, no nodes), and
count some figures of machines and processes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.captures import DATA, captures, parity_tool, session_name  # noqa: E402
from support.parity import Compared, alike, ask, compare, exactly, mean, polled_of, share  # noqa: E402
from support.play import play, play_beside  # noqa: E402
from support.processes import server, session_url, wait_for_session  # noqa: E402
from support.rayhead import fetch, free_ports, until  # noqa: E402

NAMES = ("posted", "export", "tasks", "actors", "nodes", "data", "serve")


@click.command()
@click.argument("recordings", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--verbose", is_flag=True, help="Name the kinds of fields that are missing or differ.")
@click.option("--only", default="", help="Only requests that contain this.")
@click.option("--exact", is_flag=True, help="Times to the last millisecond.")
@click.option("--tool", "by_tool", is_flag=True, help="Count with the tool beside the repository.")
@click.option("--replay", is_flag=True, help="And have the dashboard played by the other one, which answers less.")
def main(recordings: tuple[Path, ...], verbose: bool, only: str, exact: bool, by_tool: bool, replay: bool) -> None:
    """Print the parity table of each recording."""
    tool = parity_tool()
    if (by_tool or replay) and tool is None:
        raise click.ClickException("the tools are not beside this repository")
    for recording in recordings or everything():
        click.echo(f"\n{recording.name} ({session_name(recording)})")
        with tempfile.TemporaryDirectory(prefix="parity-") as name, played(recording, Path(name), replay) as base:
            if by_tool or replay:
                options = [*(["--verbose"] if verbose else []), f"--only={only}"]
                subprocess.run([sys.executable, str(tool), str(recording), base, *options], check=True)
            else:
                show(
                    [
                        compare(*each, exactly if exact else alike, polled_of(recording))
                        for each in ask(recording, base, lambda url: only in url)
                    ],
                    verbose,
                )


@contextmanager
def played(recording: Path, folder: Path, replay: bool) -> Iterator[str]:
    """The recording in a store, and a server on it; the session's address there."""
    if replay:
        with replayed(recording) as dashboard:
            store = play_beside(dashboard, recording, folder)
    else:
        store = play(recording, folder)
    with server(store, folder) as program:
        wait_for_session(program, session_name(recording))
        yield session_url(program, session_name(recording))


@contextmanager
def replayed(recording: Path) -> Iterator[str]:
    """The dashboard of ``tools/replay_dashboard.py``."""
    port = free_ports(1)[0]
    script = Path(str(parity_tool())).with_name("replay_dashboard.py")
    process = subprocess.Popen([sys.executable, str(script), str(recording), f"--port={port}"])
    try:
        until(lambda: fetch(f"http://127.0.0.1:{port}/api/version")[0] == 200, "the replayed dashboard")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def show(compared: list[Compared], verbose: bool) -> None:
    for each in compared:
        status = f"STATUS {each.status[1]}, live {each.status[0]} " if each.wrong_status else ""
        figures = f"{each.equal:>6}/{len(each.leaves):<6} missing {len(each.missing):<5} other {len(each.other):<5}"
        click.echo(f"{each.share:7.2%} {figures} extra rows {len(each.extra_rows):<4} {status}{each.url}")
        if verbose:
            for line in each.lines():
                click.echo(f"          {line.removeprefix(f'{each.url}: ')}")
    wrong, extra = sum(each.wrong_status for each in compared), sum(len(each.extra_rows) for each in compared)
    click.echo(
        f"equal {share(compared):.3%} of {sum(len(each.leaves) for each in compared)} leaves, mean {mean(compared):.3%} "
        f"of {len(compared)} requests; wrong status {wrong}, extra rows {extra}"
    )


def everything() -> list[Path]:
    larger = captures()
    found = sorted(folder for folder in larger.iterdir() if (folder / "session").is_file()) if larger else []
    return [*found, *(DATA / name for name in NAMES)]


if __name__ == "__main__":
    main()

"""``python -m bench.parity``: plays recordings through both programs and prints how alike the answers are to the live dashboard's.

python -m bench.parity                    the larger captures, where they are at hand, and the small ones
python -m bench.parity FOLDER … --verbose one recording, and which fields differ
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.captures import DATA, captures, parity_tool, session_name  # noqa: E402
from support.play import play  # noqa: E402
from support.processes import server, session_url, wait_for_session  # noqa: E402


@click.command()
@click.argument("recordings", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--verbose", is_flag=True, help="Name the kinds of fields that are missing or differ.")
@click.option("--only", default="", help="Only requests that contain this.")
def main(recordings: tuple[Path, ...], verbose: bool, only: str) -> None:
    """Print the parity table of each recording."""
    tool = parity_tool()
    if tool is None:
        raise click.ClickException("parity.py is not beside this repository")
    options = [*(["--verbose"] if verbose else []), f"--only={only}"]
    for recording in recordings or everything():
        click.echo(f"\n{recording.name} ({session_name(recording)})")
        with tempfile.TemporaryDirectory(prefix="parity-") as name:
            store = play(recording, Path(name))
            with server(store, Path(name)) as program:
                wait_for_session(program, session_name(recording))
                base = session_url(program, session_name(recording))
                subprocess.run([sys.executable, str(tool), str(recording), base, *options], check=True)


def everything() -> list[Path]:
    larger = captures()
    found = sorted(folder for folder in larger.iterdir() if (folder / "session").is_file()) if larger else []
    return [*found, DATA / "posted", DATA / "export"]


if __name__ == "__main__":
    main()

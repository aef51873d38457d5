"""``ray-history demo``: a recorded session, collected, stored and served on this machine, with nothing else set up."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import anyio
import click
from anyio import to_thread

from api.app import create_app
from api.cli.expect import compare
from api.cli.logs import configure
from api.cli.options import data_home, log_options, option, port_option
from api.cli.recording import Recording, play
from api.cli.run import address, listen, run, serve_http
from api.groups import first_error
from pipeline.config import CollectorConfig, ServerConfig, StoreConfig
from pipeline.stores.open_store import open_store

RECORDINGS = Path(__file__).resolve().parents[2] / "tests" / "data"
NAMES = ("demo", "tasks", "nodes")
NAMESPACE = "default"


@click.command()
@option(
    "--recording",
    "Folder of a recorded session to play, given again for several; the source checkout holds some in tests/data.",
    own="DEMO_RECORDING",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    default=[RECORDINGS / name for name in NAMES],
    show_default=", ".join(f"tests/data/{name}" for name in NAMES),
)
@port_option("--port", "Port to answer at, where 8080 is taken.", 8080, own="DEMO_PORT", envvar=["PORT"])
@option(
    "--once/--serve",
    "Check the answers against what the recording says they must be, and exit 0 or 1, instead of serving on. Takes a free port.",
    own="DEMO_ONCE",
    default=False,
)
@log_options(level="warning")
def demo(recording: tuple[Path, ...], port: int, once: bool, **options: Any) -> None:
    """Play recorded Ray sessions through the collector and serve them."""
    configure(options["log_format"], options["log_level"])
    played = [Recording(folder) for folder in recording]
    failures: list[str] = []

    async def main(stop: anyio.Event) -> None:
        with (
            listen("127.0.0.1", 0 if once else port) as listener,
            tempfile.TemporaryDirectory(prefix="ray-history-demo-") as name,
        ):
            root = Path(name)
            store = StoreConfig(url=f"file://{root / 'store'}")
            serving = ServerConfig(store=store, dashboards=data_home() / "dashboards")
            async with open_store(store) as opened:
                with first_error():
                    for each in played:
                        await play(each, _collecting(each, root / each.name, store), opened)
                    async with anyio.create_task_group() as group:
                        group.start_soon(serve_http, create_app(serving, opened), listener, stop)
                        if once:
                            failures.extend(await _checked(played, address(listener)))
                            stop.set()
                        else:
                            _introduce(played, address(listener), store.url)

    run(main)
    if failures:
        raise SystemExit(1)


def _collecting(played: Recording, root: Path, store: StoreConfig) -> CollectorConfig:
    return CollectorConfig(
        store=store,
        data_dir=root / "collector",
        cluster=played.name,
        namespace=NAMESPACE,
        ray_tmp=root / "ray",
        node_id=played.head_node(),
        events_port=0,
    )


async def _checked(played: list[Recording], base: str) -> list[str]:
    failures = []
    for each in played:
        for said in await to_thread.run_sync(compare, base, _key(each), each.expected()):
            click.echo(said.line)
            if not said.right:
                failures.append(said.line)
    click.echo("demo: all answers are right" if not failures else f"demo: {len(failures)} answers are wrong")
    return failures


def _key(played: Recording) -> str:
    return f"{NAMESPACE}/{played.name}/{played.session}"


def _introduce(played: list[Recording], base: str, store: str) -> None:
    sessions = [f"{base}/sessions/{_key(each)}" for each in played]
    first, last = sessions[0], sessions[-1]
    addresses = "".join(f"  {session}/\n" for session in sessions)
    click.echo(
        f"""
Recorded Ray sessions were collected into {store}
and are served until you press Ctrl-C:

  {base}/             all sessions
{addresses}
Ask them what you would ask Ray's dashboard:

  curl -s '{first}/api/v0/tasks/summarize'
  curl -s '{first}/api/v0/tasks?filter_keys=state&filter_predicates=%3D&filter_values=FAILED&detail=1'
  curl -s '{last}/nodes?view=summary'

or with Ray's own command line:

  ray list tasks --address {first}
"""
    )

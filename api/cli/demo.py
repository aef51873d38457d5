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
from pipeline.open_store import open_store

RECORDING = Path(__file__).resolve().parents[2] / "tests" / "data" / "demo"
NAMESPACE, CLUSTER = "default", "demo"


@click.command()
@option(
    "--recording",
    "Folder of the recorded session to play; the source checkout holds some in tests/data.",
    own="DEMO_RECORDING",
    type=click.Path(path_type=Path, file_okay=False),
    default=RECORDING,
    show_default="tests/data/demo",
)
@port_option("--port", "Port to answer at, where 8080 is taken.", 8080, own="DEMO_PORT", envvar=["PORT"])
@option(
    "--once/--serve",
    "Check the answers against what the recording says they must be, and exit 0 or 1, instead of serving on. Takes a free port.",
    own="DEMO_ONCE",
    default=False,
)
@log_options(level="warning")
def demo(recording: Path, port: int, once: bool, **options: Any) -> None:
    """Play a recorded Ray session through the collector and serve it."""
    configure(options["log_format"], options["log_level"])
    played = Recording(recording)
    failures: list[str] = []

    async def main(stop: anyio.Event) -> None:
        with (
            listen("127.0.0.1", 0 if once else port) as listener,
            tempfile.TemporaryDirectory(prefix="ray-history-demo-") as name,
        ):
            root = Path(name)
            store = StoreConfig(url=f"file://{root / 'store'}")
            await _collected(played, root, store)
            serving = ServerConfig(store=store, dashboards=data_home() / "dashboards")
            async with open_store(store) as opened:
                with first_error():
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


async def _collected(played: Recording, root: Path, store: StoreConfig) -> None:
    config = CollectorConfig(
        store=store,
        data_dir=root / "collector",
        cluster=CLUSTER,
        namespace=NAMESPACE,
        ray_tmp=root / "ray",
        node_id=played.head_node(),
        events_port=0,
        poll=None,  # whatever dashboard runs on this machine, it isn't the recorded one
    )
    async with open_store(store) as opened:
        with first_error():
            await play(played, config, opened)


async def _checked(played: Recording, base: str) -> list[str]:
    failures = []
    for said in await to_thread.run_sync(compare, base, f"{NAMESPACE}/{CLUSTER}/{played.session}", played.expected()):
        click.echo(said.line)
        if not said.right:
            failures.append(said.line)
    click.echo("demo: all answers are right" if not failures else f"demo: {len(failures)} answers are wrong")
    return failures


def _introduce(played: Recording, base: str, store: str) -> None:
    session = f"{base}/sessions/{NAMESPACE}/{CLUSTER}/{played.session}"
    click.echo(
        f"""
A recorded Ray session was collected into {store}
and is served until you press Ctrl-C:

  {base}/             all sessions
  {session}/

Ask it what you would ask Ray's dashboard:

  curl -s '{session}/api/v0/tasks/summarize'
  curl -s '{session}/api/v0/tasks?filter_keys=state&filter_predicates=%3D&filter_values=FAILED&detail=1'
  curl -s '{session}/logical/actors'

or with Ray's own command line:

  ray list tasks --address {session}
"""
    )

"""The commands: options to settings, settings to what runs."""

from __future__ import annotations

import importlib.metadata
import secrets
import tempfile
from pathlib import Path
from typing import Any

import anyio
import click
import structlog
from anyio import to_thread
from msgspec import structs

from api.app import create_app
from api.cli.dashboard import dashboard
from api.cli.demo import demo
from api.cli.logs import configure
from api.cli.logs_and_polls import logs_and_polls_options
from api.cli.ls import ls
from api.cli.options import (
    collector_options,
    data_home,
    log_options,
    option,
    push_token_option,
    server_options,
    store_options,
)
from api.cli.raylogs import logs, timeline
from api.cli.run import address, listen, run, serve_http
from api.cli.settings import collector_config, server_config, store_config
from api.cli.tail import tail
from api.groups import first_error
from pipeline.collector import run_collector
from pipeline.config import CollectorConfig, ServerConfig
from pipeline.errors import ConfigError, Unavailable
from pipeline.stores.open_store import open_store
from pipeline.stores.store import ObjectStore

LOOPBACK = ("127.0.0.1", "::1", "localhost")
UP_SEGMENT_AGE = 1.0
"""Many small objects are no matter on a local disk, and news are there at once."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

log = structlog.get_logger()

data_dir_option = option(
    "--data-dir",
    "Where posts wait for the store, and how far it has come. Put it on a volume that outlives the container.",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: data_home() / "collector",
    show_default="~/.local/share/ray-history/collector",
)
home_option = option(
    "--data-dir",
    "Where everything is kept: the history in store/, what waits for it in collector/.",
    type=click.Path(path_type=Path, file_okay=False),
    default=data_home,
    show_default="~/.local/share/ray-history",
)


@click.group(context_settings=CONTEXT)
@click.version_option(importlib.metadata.version("ray-history"), prog_name="ray-history")
def ray_history() -> None:
    """Keep what Ray clusters did, and answer what their dashboards answered.

    Every option can be given by its environment variable too.
    """


@ray_history.command()
@store_options
@data_dir_option
@collector_options()
@push_token_option
@logs_and_polls_options
@log_options()
def collect(**options: Any) -> None:
    """Follow the Ray node on this machine and keep what it tells in the store."""
    configure(options["log_format"], options["log_level"])
    config = collector_config(options, store_config(options), options["data_dir"])
    run(lambda stop: _collect(config, stop))


@ray_history.command()
@store_options
@server_options
@push_token_option
@log_options()
def serve(**options: Any) -> None:
    """Answer from the store what the dashboards answered.

    Without --store it serves what `ray-history up` has kept.
    """
    configure(options["log_format"], options["log_level"])
    config = server_config(options, store_config(options, default=f"file://{data_home() / 'store'}"))
    run(lambda stop: _serve(config, stop))


@ray_history.command()
@home_option
@store_options
@collector_options(segment_age=UP_SEGMENT_AGE, host="--events-host")
@logs_and_polls_options
@server_options
@push_token_option
@log_options()
def up(**options: Any) -> None:
    """Collect and serve in one process: for a laptop with Ray on it.

    Keeps the history in a folder unless --store names another place. Ray tells most where it, and each driver that
    is begun by hand, was started with

    \b
      RAY_enable_ray_event=true
      RAY_enable_core_worker_ray_event_to_aggregator=true
      RAY_DASHBOARD_AGGREGATOR_AGENT_EVENTS_EXPORT_ADDR=http://127.0.0.1:8084/v1/events
      RAY_DASHBOARD_AGGREGATOR_AGENT_EXPOSABLE_EVENT_TYPES=ALL

    or with RAY_enable_export_api_write=true, which writes files instead of posting.
    """
    configure(options["log_format"], options["log_level"])
    home = options["data_dir"].expanduser().absolute()
    store = store_config(options, default=f"file://{home / 'store'}")
    collector = collector_config(options, store, home / "collector")
    run(lambda stop: _up(collector, server_config(options, store), stop))


ray_history.add_command(demo)
ray_history.add_command(dashboard)
ray_history.add_command(logs)
ray_history.add_command(timeline)
ray_history.add_command(ls)
ray_history.add_command(tail)


async def _collect(config: CollectorConfig, stop: anyio.Event) -> None:
    await to_thread.run_sync(_writable, config.data_dir)
    async with open_store(config.store) as store:
        if not await run_collector(config, store, stop=stop):
            raise _left(config)


async def _serve(config: ServerConfig, stop: anyio.Event) -> None:
    with listen(config.host, config.port) as listener:
        async with open_store(config.store) as store:
            _say_answering(address(listener), config, store)
            await serve_http(create_app(config, store), listener, stop)


async def _up(collector: CollectorConfig, server: ServerConfig, stop: anyio.Event) -> None:
    """The server goes on answering while the collector puts away what is left."""
    await to_thread.run_sync(_writable, collector.data_dir)
    with listen(server.host, server.port) as listener:
        if collector.server is None and collector.push is None:
            token = server.push_token or secrets.token_urlsafe()
            server = structs.replace(server, push_token=token)
            collector = structs.replace(collector, push_token=token, server=address(listener))
        async with open_store(server.store) as store:
            collected = anyio.Event()
            clean = False

            async def collect_all() -> None:
                nonlocal clean
                clean = await run_collector(collector, store, stop=stop)
                collected.set()

            _say_answering(address(listener), server, store)
            with first_error():
                async with anyio.create_task_group() as group:
                    group.start_soon(collect_all)
                    group.start_soon(serve_http, create_app(server, store), listener, collected)
            if not clean:
                raise _left(collector)


def _say_answering(where: str, config: ServerConfig, store: ObjectStore) -> None:
    log.info("answering", address=where, store=store.url, tokens=len(config.tokens))
    if not config.tokens and config.host not in LOOPBACK:
        log.warning("whoever reaches this server may read everything: set RAY_HISTORY_TOKEN", host=config.host)


def _left(config: CollectorConfig) -> Unavailable:
    return Unavailable(f"not all is in the store yet: what is left waits in {config.data_dir} for the next start")


def _writable(folder: Path) -> None:
    """Posts are answered 200 on the strength of this folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise ConfigError(f"--data-dir {folder} can't be written to: {exc.strerror or exc}") from exc

"""Options of what the collector keeps beside records: plain logs, the dashboard's own answers, and what of them is masked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from api.cli.options import default_of, duration_option, option, size_option, stacked
from pipeline.config import CollectorConfig, LogConfig, PollConfig
from pipeline.dashboard.poll import check_extra

logs_and_polls_options = stacked(
    option(
        "--logs/--no-logs",
        "Store plain logs as they grow, so that a killed node loses seconds of them. Off where something else keeps them.",
        default=True,
    ),
    duration_option(
        "--log-age",
        "How much of its logs a killed node may lose; longer means fewer objects.",
        default_of(LogConfig, "age"),
    ),
    size_option(
        "--log-chunk-bytes",
        "Size at which a piece of a log is stored at once: larger means fewer objects, smaller means less to read for a tail.",
        default_of(LogConfig, "chunk_bytes"),
    ),
    option(
        "--log-puts",
        "Requests a second for logs, on average; beyond it files wait their turn. Raise it where hundreds of workers talk much.",
        type=click.FloatRange(0.1, 10_000),
        default=default_of(LogConfig, "puts_per_second"),
    ),
    option(
        "--poll/--no-poll",
        "On the head, ask the dashboard for what no event carries. Off where nothing may ask it.",
        default=True,
    ),
    option(
        "--dashboard",
        "Address of the Ray dashboard. Change it where Ray was started with another port or host.",
        envvar=["RAY_DASHBOARD_ADDRESS"],
        default=default_of(PollConfig, "dashboard"),
        metavar="URL",
    ),
    duration_option(
        "--poll-interval",
        "How old the last answer of a killed head may be; each round is about ten requests.",
        default_of(PollConfig, "interval"),
        envvar=["RAY_COLLECTOR_POLL_INTERVAL"],
    ),
    option(
        "--poll-endpoint",
        "One more path to ask the dashboard for; may be given several times. In the variable, separated by spaces or commas. "
        "A path may change the cluster by being asked.",
        envvar=["RAY_COLLECTOR_ADDITIONAL_ENDPOINTS"],
        multiple=True,
        metavar="PATH",
    ),
    option(
        "--dashboard-token",
        "Token of a cluster with token authentication. Better given by its variable or file than on a command line.",
        envvar=["RAY_AUTH_TOKEN"],
        metavar="TOKEN",
    ),
    option(
        "--dashboard-token-file",
        "The same from a file, read again for each round, so that it may be replaced.",
        envvar=["RAY_AUTH_TOKEN_PATH"],
        type=click.Path(path_type=Path, dir_okay=False),
    ),
    option(
        "--redact/--keep-secrets",
        "Mask the values of env_vars in runtime environments before anything leaves this machine. Off where they must be seen.",
        default=default_of(CollectorConfig, "redact"),
    ),
)


def log_config(options: dict[str, Any]) -> LogConfig | None:
    """How plain logs are stored; None: they aren't."""
    if not options["logs"]:
        return None
    return LogConfig(
        age=options["log_age"], chunk_bytes=options["log_chunk_bytes"], puts_per_second=options["log_puts"]
    )


def poll_config(options: dict[str, Any]) -> PollConfig | None:
    """What the dashboard is asked for; None: nothing. Raises ``ConfigError`` for a path that isn't one."""
    if not options["poll"]:
        return None
    address = options["dashboard"] or default_of(PollConfig, "dashboard")
    extra = [path for given in options["poll_endpoint"] for path in given.split(",") if path]
    return PollConfig(
        dashboard=address if "://" in address else f"http://{address}",
        interval=options["poll_interval"],
        extra=tuple(map(check_extra, extra)),
        token=options["dashboard_token"] or None,
        token_file=options["dashboard_token_file"],
    )

"""Every option of the commands that run, with its environment variables and why one would change it.

The only place that reads the environment. Names of KubeRay's collector and history server are taken too,
after ours, so that an existing manifest keeps its meaning.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from api.cli.values import DURATION, SIZE, duration_text, size_text
from pipeline.config import CollectorConfig, ServerConfig

F = TypeVar("F", bound=Callable[..., Any])
PREFIX = "RAY_HISTORY_"


def option(
    name: str, why: str, *, envvar: Sequence[str] = (), own: str | None = None, also: Sequence[str] = (), **attrs: Any
) -> Callable[[F], F]:
    """An option whose own variable is ``RAY_HISTORY_`` and its name (or ``own``); ``envvar`` names others that are
    taken too, ``also`` is what else the option is called."""
    first = PREFIX + (own or name.lstrip("-").split("/")[0].upper().replace("-", "_"))
    attrs.setdefault("show_default", True)
    return click.option(name, *also, help=why, envvar=[first, *envvar], show_envvar=True, **attrs)


class PortOption(click.Option):
    """A port, whose variables may hold what Kubernetes puts there for a Service of that name: ``tcp://10.0.0.7:8080``."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        names = [self.envvar] if isinstance(self.envvar, str) else self.envvar or ()
        values = (os.environ.get(name, "") for name in names)
        return next((value for value in values if value and "://" not in value), None)


def port_option(name: str, why: str, default: int, **attrs: Any) -> Callable[[F], F]:
    return option(name, why, cls=PortOption, type=click.IntRange(0, 65535), default=default, **attrs)


def default_of(config: type[msgspec.Struct], field: str) -> Any:
    """What a settings Struct says where nobody says anything."""
    return next(f.default for f in msgspec.structs.fields(config) if f.name == field)


def size_option(name: str, why: str, default: int, **attrs: Any) -> Callable[[F], F]:
    return option(name, why, type=SIZE, default=default, show_default=size_text(default), **attrs)


def duration_option(name: str, why: str, default: float, **attrs: Any) -> Callable[[F], F]:
    return option(name, why, type=DURATION, default=default, show_default=duration_text(default), **attrs)


def stacked(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown in the order given."""

    def decorate(command: F) -> F:
        for each in reversed(options):
            command = each(command)
        return command

    return decorate


def data_home() -> Path:
    """Where this user's programs keep data: ``$XDG_DATA_HOME`` or ``~/.local/share``."""
    named = os.environ.get("XDG_DATA_HOME", "")
    return (Path(named) if named.startswith("/") else Path.home() / ".local" / "share") / "ray-history"


store_options = stacked(
    option(
        "--store",
        "Where the history is kept: s3://bucket/prefix or file:///path. Collectors and servers that share it belong together.",
        metavar="URL",
    ),
    option(
        "--s3-bucket",
        "The same as --store s3://BUCKET, for manifests written for KubeRay's history server. --store goes before it.",
        envvar=["S3_BUCKET"],
        metavar="BUCKET",
    ),
    option(
        "--s3-endpoint",
        "Address of an S3-compatible store (MinIO, SeaweedFS, Ceph, GCS, OSS). Leave it out for AWS.",
        envvar=["S3_ENDPOINT"],
        metavar="URL",
    ),
    option(
        "--s3-region",
        "Region of the bucket, where the store cares and the environment of the AWS tools doesn't say.",
        envvar=["S3_REGION"],
        metavar="NAME",
    ),
    option(
        "--s3-path-style/--s3-host-style",
        "host/bucket instead of bucket.host: most stores that aren't AWS want it.",
        envvar=["S3FORCE_PATH_STYLE"],
        default=False,
    ),
    option(
        "--s3-disable-ssl/--s3-ssl",
        "Plain http where --s3-endpoint names no scheme: for a store inside the same network without a certificate.",
        envvar=["S3DISABLE_SSL"],
        default=False,
    ),
    option(
        "--create-bucket/--no-create-bucket",
        "Make the bucket where it is absent. Off, because a typing error should not make one.",
        default=False,
    ),
)


def log_options(level: str = "info") -> Callable[[F], F]:
    """How much is said and in which form; ``level`` is what is said unless asked otherwise."""
    return stacked(
        option(
            "--log-format",
            "console for people, json for machines; auto takes console on a terminal.",
            type=click.Choice(["auto", "console", "json"]),
            default="auto",
        ),
        option(
            "--log-level",
            "The least serious lines to show: debug to find out why something is not collected.",
            type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
            default=level,
        ),
    )


def collector_options(segment_age: float | None = None, host: str = "--host") -> Callable[[F], F]:
    """The collector's own options. ``up`` has another ``--host``, so there this one is called otherwise."""
    if segment_age is None:
        segment_age = default_of(CollectorConfig, "segment_age")
    return stacked(
        option(
            "--cluster",
            "Name of the Ray cluster: the sessions of one name belong together. Change it where several share a store.",
            envvar=["RAY_CLUSTER_NAME"],
            default=default_of(CollectorConfig, "cluster"),
        ),
        option(
            "--namespace",
            "What the cluster's name is unique in: on Kubernetes, the namespace.",
            envvar=["RAY_CLUSTER_NAMESPACE"],
            default=default_of(CollectorConfig, "namespace"),
        ),
        option(
            "--role",
            "What the Ray node beside this is. Only the head's collector says that a session has ended.",
            envvar=["RAY_ROLE"],
            type=click.Choice(["head", "worker"], case_sensitive=False),
            default=default_of(CollectorConfig, "role"),
        ),
        option(
            "--owner-kind",
            "Kind of what owns the cluster (RayJob, RayService, RayCluster), shown beside its sessions.",
            envvar=["OWNER_KIND"],
            default="",
            show_default=False,
        ),
        option(
            "--owner-name",
            "Name of what owns the cluster. Give it together with --owner-kind.",
            envvar=["OWNER_NAME"],
            default="",
            show_default=False,
        ),
        option(
            "--ray-tmp",
            "Ray's folder of sessions, shared with the Ray container. Change it where ray start has --temp-dir.",
            envvar=["RAY_TMP_ROOT"],
            type=click.Path(path_type=Path, file_okay=False),
            default=default_of(CollectorConfig, "ray_tmp"),
        ),
        option(
            "--node-id",
            "Ray's hex id of this node. Leave it out: it is found in the session folder. "
            "Give it where that folder can't be shared and nothing is posted.",
        ),
        option(
            host,
            "Address to take posts at. Ray's agent is on the same machine or pod, so loopback does; "
            "widen it only where Ray posts from elsewhere.",
            own="EVENTS_HOST",
            default=default_of(CollectorConfig, "host"),
        ),
        port_option(
            "--events-port",
            "Port to take posts at: what RAY_DASHBOARD_AGGREGATOR_AGENT_EVENTS_EXPORT_ADDR says in Ray's environment.",
            default_of(CollectorConfig, "events_port"),
            envvar=["EVENTS_PORT"],
        ),
        size_option(
            "--segment-bytes",
            "Size at which a segment is closed and uploaded: larger means fewer requests, smaller means less memory.",
            default_of(CollectorConfig, "segment_bytes"),
        ),
        duration_option(
            "--segment-age",
            "Age at which a segment is closed however small: how long news may be missing from the store. "
            "Longer means fewer and larger objects.",
            segment_age,
        ),
        duration_option(
            "--linger",
            "Between two readings, at least: shorter means news are pushed sooner, longer means larger batches and less work.",
            default_of(CollectorConfig, "linger"),
        ),
        size_option(
            "--disk-limit",
            "What the spool may take on disk; over it posts are refused with 503, and Ray keeps them. "
            "Size it for the longest outage of the store that must lose nothing.",
            default_of(CollectorConfig, "disk_limit"),
        ),
        option(
            "--server",
            "Address of the history server to push to as things happen. Without it, news arrive with the segments.",
            metavar="URL",
        ),
        option(
            "--push",
            "nats://host:4222[/prefix]: push there instead of to --server, where several servers stand behind one address.",
            metavar="URL",
        ),
        size_option(
            "--push-bytes",
            "Memory for what was read and isn't stored yet: a server that was restarted gets that much again.",
            default_of(CollectorConfig, "push_bytes"),
        ),
    )


push_token_option = option(
    "--push-token",
    "What collectors say to the server so that they may push to it. Without one the server takes pushes from "
    "its own machine only. Give it by its variable: an argument can be read by others.",
    metavar="SECRET",
)


token_options = stacked(
    option(
        "--token",
        "What one has to say to read, of every namespace: set it wherever others can reach the server. Browsers are asked "
        "for it; Ray's own clients say RAY_AUTH_TOKEN with RAY_AUTH_MODE=token. Give it by its variable: an argument "
        "can be read by others.",
        metavar="SECRET",
    ),
    option(
        "--tokens-file",
        "More of them, a line each: TOKEN, or TOKEN NAMESPACE,NAMESPACE for one that opens only those. Lines with # in "
        "front are left out. Read at the start.",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
    ),
)


dashboard_dir_option = option(
    "--dashboard-dir",
    "The Ray dashboard's own pages to show sessions with: one build (Ray's dashboard/client/build), or a folder of them "
    "named by version. Give it where the server can't install any; it goes before all others.",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
)

dashboards_option = option(
    "--dashboards",
    "Where the pages that were installed are, a folder a version. Put it on a volume that outlives the container.",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: data_home() / "dashboards",
    show_default="~/.local/share/ray-history/dashboards",
)

server_options = stacked(
    option(
        "--host",
        "Address to answer at. Loopback, because whoever reaches it may read everything; 0.0.0.0 in a container.",
        default=default_of(ServerConfig, "host"),
    ),
    port_option("--port", "Port to answer at. 0 takes a free one.", default_of(ServerConfig, "port")),
    duration_option(
        "--refresh",
        "How far an answer may be behind the store: shorter means fresher answers, longer means fewer requests to it.",
        default_of(ServerConfig, "refresh"),
    ),
    size_option(
        "--cache-bytes",
        "Memory for loaded sessions; over it the one not asked for longest goes. A session larger than this is refused.",
        default_of(ServerConfig, "cache_bytes"),
    ),
    option(
        "--load-concurrency",
        "Sessions loaded at once: more serve several first visitors sooner, fewer need less memory.",
        type=click.IntRange(1, 64),
        default=default_of(ServerConfig, "load_concurrency"),
    ),
    size_option(
        "--backfill-bytes",
        "Memory, beside --cache-bytes, for counting in the background the tasks of sessions that nobody opened, one at a "
        "time; larger sessions are counted if they fit well into what --cache-bytes has left. 0 counts none unasked.",
        default_of(ServerConfig, "backfill_bytes"),
    ),
    token_options,
    dashboard_dir_option,
    dashboards_option,
    size_option(
        "--live-bytes",
        "Memory for what live sessions push until it is in the store, of all of them: "
        "ten seconds of their records or so, compressed.",
        default_of(ServerConfig, "live_bytes"),
    ),
    option(
        "--live",
        "nats://host:4222[/prefix]: where collectors push to with --push, so that several servers can share them.",
        metavar="URL",
    ),
)

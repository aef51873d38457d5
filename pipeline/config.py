"""All settings of both programs, read once at the start; nothing else reads the environment.

The command line (``api/__main__.py``) fills these from options and environment variables, KubeRay's
names among them. Each field says why one would change it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct


class StoreConfig(Struct, frozen=True, kw_only=True):
    """Where the history is kept. Credentials come from botocore's own chain, never from here."""

    url: str
    """``s3://bucket/prefix`` or ``file:///path``. Change it to say where the history is kept."""
    endpoint: str | None = None
    """Address of an S3-compatible store (MinIO, SeaweedFS, Ceph). None: AWS."""
    region: str | None = None
    """Region of the bucket, where the store cares."""
    path_style: bool = False
    """``host/bucket`` instead of ``bucket.host``: most stores that aren't AWS want it."""
    create_bucket: bool = False
    """Make the bucket where it is absent. Off, because a typing error should not make one."""


class LogConfig(Struct, frozen=True, kw_only=True):
    """How the plain logs of a node go into the store."""

    age: float = 10.0
    """Seconds after which what was written is stored however little: how much of its logs a killed node may lose."""
    chunk_bytes: int = 4 << 20
    """Size at which a chunk is stored at once: larger means fewer objects, smaller means less to read for a tail."""
    uploads: int = 4
    """Chunks on their way at once: more is faster over a slow link and takes more memory (a chunk each)."""
    puts_per_second: float = 20.0
    """Requests a second, on average: beyond it files wait their turn, so that a thousand chatty workers cost no more."""
    max_files: int = 50_000
    """Files of one session that are followed; more are said in the log and left alone."""


class PollConfig(Struct, frozen=True, kw_only=True):
    """What the head's collector asks the dashboard for, because no event carries it."""

    dashboard: str = "http://127.0.0.1:8265"
    """Address of the Ray dashboard. Change it where Ray was started with another port or host."""
    interval: float = 10.0
    """Seconds between two rounds: how old the last answer of a killed head may be. Each round is about ten requests."""
    extra: tuple[str, ...] = ()
    """More paths (with query) to ask for, each as the dashboard has it. A path may change the cluster by being asked."""
    token: str | None = None
    """The token of a cluster with token authentication."""
    token_file: Path | None = None
    """The same from a file, read again for each round, so that it may be replaced."""
    body_limit: int = 16 << 20
    """Bytes of the largest answer that is kept."""


class CollectorConfig(Struct, frozen=True, kw_only=True):
    """One collector beside one Ray node."""

    store: StoreConfig
    data_dir: Path
    """Spool and checkpoint. Put it on a volume that outlives the container: posts answered 200 wait here for S3."""
    cluster: str = "ray"
    namespace: str = "default"
    role: Literal["head", "worker"] = "head"
    """Only the head's collector says that a session has ended."""
    owner_kind: str = ""
    owner_name: str = ""
    ray_tmp: Path = Path("/tmp/ray")
    node_id: str | None = None
    """Ray's hex node id. None: found in the Ray session folder or in the first post."""
    host: str = "127.0.0.1"
    """Where posts are taken. Ray's agent is on the same machine or pod, so loopback does."""
    events_port: int = 8084
    segment_bytes: int = 16 << 20
    """Uncompressed size at which a segment is closed: larger means fewer requests, smaller means less memory."""
    segment_age: float = 10.0
    """Seconds after which a segment is closed however small: how long a dead session's end may be missing from the store."""
    linger: float = 0.02
    """Seconds between two readings, at least: shorter means news are pushed sooner, longer means larger batches and less work."""
    disk_limit: int = 2 << 30
    """Bytes the spool may take; over it posts are refused with 503, and Ray keeps them."""
    body_limit: int = 64 << 20
    """Bytes one post may have; over it 413."""
    server: str | None = None
    """Address of the server to push to as it happens."""
    push: str | None = None
    """``nats://…``: push there instead, where several servers stand behind one address."""
    push_token: str | None = None
    """What the server wants to hear from those who push."""
    push_bytes: int = 8 << 20
    """Memory for what was read and isn't stored yet, a session: a server that was restarted gets it again."""
    logs: LogConfig | None = LogConfig()
    """How plain logs are stored. None: they aren't."""
    poll: PollConfig | None = PollConfig()
    """What the dashboard is asked for. None: nothing. Only the head's collector asks."""
    redact: bool = True
    """Mask the values of ``env_vars`` in runtime environments before anything is sent. Off where they must be seen."""
    shutdown_budget: float = 25.0
    """Seconds SIGTERM leaves for sealing and uploading: below Kubernetes' grace period of 30."""
    rescan: float = 1.0
    """Seconds between scans of the folders when no change was reported: the watcher is only a hint."""


class Token(Struct, frozen=True, kw_only=True):
    """What one has to say to read."""

    digest: bytes
    """SHA-256 of it: the token itself is forgotten once it was read."""
    namespaces: frozenset[str] | None = None
    """The namespaces that it opens. None: all."""


class ServerConfig(Struct, frozen=True, kw_only=True):
    """One server."""

    store: StoreConfig
    host: str = "127.0.0.1"
    port: int = 8080
    refresh: float = 2.0
    """Seconds for which an answer may be behind the store: a growing session is looked at again after that."""
    cache_bytes: int = 2 << 30
    """Memory for loaded sessions; over it the one not asked for longest goes."""
    load_concurrency: int = 4
    """Sessions loaded at once."""
    backfill_bytes: int = 256 << 20
    """Memory, beside ``cache_bytes``, for counting the tasks of sessions that nobody opened. 0: they aren't counted unasked."""
    dashboard_dir: Path | None = None
    """The official dashboard's pages: one build, or a folder of builds named by Ray version. Goes before all others."""
    dashboards: Path | None = None
    """Where ``ray-history dashboard install`` puts builds."""
    live_bytes: int = 64 << 20
    """Memory for what was pushed and isn't sealed yet, of all sessions; over it the oldest goes, and is read from the store."""
    live: str | None = None
    """``nats://…``: what is pushed comes from there, too."""
    push_token: str | None = None
    """What collectors must say to push. None: only those on this machine may."""
    tokens: tuple[Token, ...] = ()
    """What one has to say to read. None: whoever reaches the server may read everything."""

"""NATS as both sides use it: the connection that comes back by itself, the stream, and the subjects. Needs nats-py.

    {prefix}.push.{namespace}.{cluster}.{session}.{node}   JetStream: batches and sealed segments, bounded by age and bytes
    {prefix}.word.{namespace}.{cluster}.{session}.{node}   that somebody is there; small, heard by every server
    {prefix}.log.{namespace}.{cluster}.{session}.{node}    logs that somebody follows; what is lost is asked for again
    {prefix}.ask.{namespace}.{cluster}.{session}           from servers: somebody watches, close a segment, push a log

The address is ``nats://[user:password@]host:port[/prefix][?age=300&bytes=1073741824]``; ``age`` and ``bytes`` bound the
stream where it isn't there yet and is made.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import anyio
import nats
import structlog
from msgspec import Struct
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from pipeline.errors import BadKey, ConfigError
from pipeline.layout import SessionKey, part
from pipeline.push.pushed import LogAsk

PREFIX = "ray-history"
AGE = 300.0
BYTES = 1 << 30
CONNECT_SECONDS = 3
REPLY_SECONDS = 5.0
RETRY_SECONDS = 1.0
ATTENTION = 15.0
"""Seconds for which a server's asking holds: three of its repetitions."""
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")

log = structlog.get_logger()


class Ask(Struct, frozen=True):
    """What a server asks of a session's collectors: to hurry, of some nodes to close their segment, of some to push logs.

    ``logs`` is by node, all of ``server``'s each time; it holds for ``ATTENTION`` seconds.
    """

    watched: bool = True
    seal: list[str] = []
    logs: dict[str, list[LogAsk]] = {}
    server: str = ""


class NatsPlace(Struct, frozen=True):
    """What an address says. ``shown`` may be logged."""

    servers: list[str]
    prefix: str
    age: float
    bytes: int
    shown: str

    @property
    def stream(self) -> str:
        return f"{self.prefix}-push"


def parse_nats(url: str) -> NatsPlace:
    """Raises ``ConfigError``, without saying what may have a password in it."""
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.split(",")
        query = {
            name: float(values[-1]) for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()
        }
    except ValueError as exc:
        raise ConfigError("not an address of NATS: nats://host:4222/prefix?age=300&bytes=1073741824") from exc
    prefix = parts.path.strip("/") or PREFIX
    if _PREFIX.fullmatch(prefix) is None:
        raise ConfigError("the prefix in the address of NATS must be letters, digits, - or _")
    age, size = query.pop("age", AGE), query.pop("bytes", BYTES)
    if query or not all(hosts) or not age >= 1 or not size >= 1 << 20:
        raise ConfigError("the address of NATS has a host, and age (from 1) and bytes (from 1048576) if any")
    shown = ",".join(host.rpartition("@")[2] for host in hosts)
    return NatsPlace([f"{parts.scheme}://{host}" for host in hosts], prefix, age, int(size), f"nats://{shown}")


def subject(prefix: str, kind: str, key: SessionKey, node: str | None = None) -> str:
    """A subject. A dot separates its parts, so those of names are written otherwise."""
    names = [key.namespace, key.cluster, key.session, *([node] if node is not None else [])]
    return ".".join([prefix, kind, *(name.replace(".", "%2E") for name in names)])


def place_of(subject_: str) -> tuple[SessionKey, str]:
    """Session and node of a subject of ``push``, ``word`` or ``log``. Raises ``BadKey``."""
    names = [name.replace("%2E", ".") for name in subject_.split(".")[2:]]
    if len(names) != 4:
        raise BadKey(f"not a subject of ours: {subject_[:80]!r}")
    return SessionKey(*names[:3]), part(names[3])


class Link:
    """A connection. ``client`` is None until it was there for the first time; after that it mends itself."""

    def __init__(self, place: NatsPlace) -> None:
        self.place = place
        self.client: Client | None = None
        self.up = anyio.Event()
        self.closing = False

    @property
    def stream(self) -> JetStreamContext:
        """JetStream over the connection, which must have been there."""
        assert self.client is not None, "not connected yet"
        return self.client.jetstream(timeout=REPLY_SECONDS)

    async def ensure_stream(self) -> None:
        """Make the stream where there is none. Raises what nats-py raises."""
        try:
            await self.stream.stream_info(self.place.stream)
        except NotFoundError:
            config = StreamConfig(
                name=self.place.stream,
                subjects=[f"{self.place.prefix}.push.>"],
                retention=RetentionPolicy.LIMITS,
                max_age=self.place.age,
                max_bytes=self.place.bytes,
                storage=StorageType.FILE,
                num_replicas=1,
            )
            await self.stream.add_stream(config)
            log.info("stream made", nats=self.place.shown, stream=self.place.stream, seconds=self.place.age)

    async def connect(self) -> None:
        """Try until it is there."""
        said = False
        while True:
            client = Client()
            try:
                await client.connect(
                    self.place.servers,
                    name="ray-history",
                    error_cb=self._failed,
                    disconnected_cb=self._lost,
                    reconnected_cb=self._back,
                    connect_timeout=CONNECT_SECONDS,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RETRY_SECONDS,  # type: ignore[arg-type]
                    ping_interval=5,
                    max_outstanding_pings=2,
                )
            except (nats.errors.Error, OSError, TimeoutError) as exc:
                if not said:
                    log.warning("NATS can't be reached, trying again", nats=self.place.shown, reason=_reason(exc))
                said = True
                await anyio.sleep(RETRY_SECONDS)
                continue
            self.client = client
            log.info("NATS reached", nats=self.place.shown)
            self.up.set()
            return

    async def _failed(self, exc: Exception) -> None:
        log.debug("NATS client", nats=self.place.shown, reason=_reason(exc))

    async def _lost(self) -> None:
        if not self.closing:
            log.warning("NATS is gone, trying again", nats=self.place.shown)

    async def _back(self) -> None:
        log.info("NATS is back", nats=self.place.shown)


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__


@asynccontextmanager
async def linked(place: NatsPlace) -> AsyncIterator[Link]:
    """A link that connects in the background, for as long as the context lasts."""
    link = Link(place)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.connect)
        try:
            yield link
        finally:
            tasks.cancel_scope.cancel()
            link.closing = True
            if link.client is not None:
                with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                    await link.client.close()

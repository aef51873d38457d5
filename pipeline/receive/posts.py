"""The HTTP server that takes posts: uvicorn inside our task group, on a socket we hold, without signal handlers.

Beside ``/v1/events`` it answers ``/metrics`` and the probes.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Generator, Iterator

import anyio
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pipeline import metrics
from pipeline.errors import ConfigError
from pipeline.receive.ingest import Metrics, Outcome, ingest_app
from pipeline.receive.spool import Spool

UNDER_WAY = 3
"""Seconds for posts that are under way when told to stop: as long as Ray waits for an answer."""


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that takes connections at once. Raises ``ConfigError`` where the address can't be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=256)
    except OSError as exc:
        raise ConfigError(
            f"can't take posts on {host}:{port}: {exc.strerror}; choose another --host or --events-port"
        ) from exc
    with listener:
        yield listener


class Posts:
    """Takes posts into a spool until ``finish``. ``taken`` is called after each: what was posted can be read now."""

    def __init__(self, spool: Spool, body_limit: int, listener: socket.socket, taken: Callable[[], None]) -> None:
        def render() -> tuple[bytes, str]:
            metrics.SPOOL_BYTES.set(spool.used_bytes)
            return generate_latest(), CONTENT_TYPE_LATEST

        def count(post: Outcome) -> None:
            _count(post)
            if post.result is not None:
                taken()

        app = ingest_app(spool, body_limit=body_limit, metrics=Metrics(render=render, count=count))
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._finished = anyio.Event()
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=UNDER_WAY,
        )
        self._server = _Server(config)

    async def run(self) -> None:
        try:
            await self._server.serve([self._listener])
        finally:
            self._finished.set()

    async def finish(self) -> None:
        """Take no more connections, let posts under way be answered, and return when they were."""
        self._server.should_exit = True
        await self._finished.wait()


def _count(post: Outcome) -> None:
    metrics.POSTS.labels(post.status).inc()
    if post.result is not None:
        metrics.POST_BYTES.inc(post.size)
        metrics.RECORDS_POSTED.labels("accepted").inc(post.result.accepted)
        metrics.RECORDS_POSTED.labels("duplicate").inc(post.result.duplicates)
        metrics.RECORDS_POSTED.labels("quarantined").inc(post.result.quarantined)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the command line's."""
        yield

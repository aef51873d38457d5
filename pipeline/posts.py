"""The HTTP server that takes posts: uvicorn inside our task group, on a socket we hold, without signal handlers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator, Iterator

import anyio
import uvicorn
from starlette.types import ASGIApp

from pipeline.errors import ConfigError

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
    """Runs an app on a socket until ``finish``."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
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


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the command line's."""
        yield

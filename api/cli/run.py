"""Running until told to stop: signals, sockets, uvicorn. The edge between commands and the parts they start."""

from __future__ import annotations

import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
import structlog
import uvicorn
from anyio.abc import TaskStatus
from starlette.applications import Starlette

from api.groups import first_error
from api.streams.connection import StreamingProtocol
from pipeline.errors import ConfigError

GRACE = 5
"""Seconds that requests under way have to finish at the end."""

KEEP_ALIVE = 15
"""Seconds for which a connection is kept that says nothing: several of a collector's heartbeats."""

MAX_MESSAGE = 4096
"""Bytes of a WebSocket message that comes in: who follows a job's log only listens."""

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: one place decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(main: Callable[[anyio.Event], Awaitable[None]]) -> None:
    """Run ``main`` on uvloop until it returns. SIGTERM and SIGINT set its event; a second one ends it at once."""
    if not anyio.run(_until_signalled, main, backend_options={"use_uvloop": True}):
        raise SystemExit(1)


async def _until_signalled(main: Callable[[anyio.Event], Awaitable[None]]) -> bool:
    """Whether ``main`` came to its end."""
    stop = anyio.Event()
    whole = False

    async def watch(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                if stop.is_set():
                    log.warning("stopping at once", signal=number.name)
                    scope.cancel()
                log.info("stopping", signal=number.name)
                stop.set()

    with first_error():
        async with anyio.create_task_group() as group:
            await group.start(watch, group.cancel_scope)
            await main(stop)
            whole = True
            group.cancel_scope.cancel()
    return whole


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket to answer at. Raises ``ConfigError`` that says what to change where there can't be one."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as exc:
        where = f"{host}:{port}"
        if exc.errno == 98:
            raise ConfigError(f"{where} is taken by another program: choose another port with {option}") from exc
        raise ConfigError(f"can't listen at {where}: {exc.strerror or exc}") from exc


def address(listener: socket.socket) -> str:
    """``http://host:port`` as someone on this machine reaches it."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve_http(app: Starlette, listener: socket.socket, stop: anyio.Event) -> None:
    """Answer at ``listener`` until ``stop``; requests under way may finish, streams are cut after ``GRACE``.

    Those who hold a request on purpose are told by ``app.state.closing``.
    """
    config = uvicorn.Config(
        app,
        http=StreamingProtocol,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=KEEP_ALIVE,
    )
    server = _Server(config)
    async with anyio.create_task_group() as group:

        async def until_stopped() -> None:
            await stop.wait()
            app.state.closing.set()
            server.should_exit = True

        group.start_soon(until_stopped)
        await server.serve([listener])
        group.cancel_scope.cancel()

"""Both ends of the push channel in a test: a server that can be started again, a network that can be cut,
and a witness that holds every applied range to have come once.

    async with serving(store) as server, cuttable(server.port) as network:
        async with collecting(settings(tmp_path, server=network.url), store): ...
        async with witnessed(server, key()) as witness: ...
"""

from __future__ import annotations

import json
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import httpx
import msgspec
from anyio.abc import SocketStream, TaskGroup
from support.collecting import SESSION, key, settled
from support.sessions import defined_task, finishing

from api.app import create_app
from api.cli.run import listen, serve_http
from api.groups import first_error
from api.session.reader import Applied
from api.session.sessions import Sessions
from pipeline.config import ServerConfig, StoreConfig
from pipeline.layout import SessionKey
from pipeline.stores.store import ObjectStore


class LiveServer:
    """A server in this process. After ``stop``, ``start`` is another one at the same port, with nothing in memory."""

    def __init__(self, store: ObjectStore, group: TaskGroup, config: ServerConfig) -> None:
        self._store, self._group, self._config = store, group, config
        self._ended = anyio.Event()
        self._stop = anyio.Event()
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.app = create_app(self._config, self._store)
        self.sessions: Sessions = self.app.state.sessions
        self._ended, self._stop = anyio.Event(), anyio.Event()
        listener = listen("127.0.0.1", self.port)
        self._group.start_soon(self._run, listener, self._ended)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{self.url}/livez")).status_code == 200

    async def stop(self) -> None:
        """As SIGTERM does."""
        self._stop.set()
        await self._ended.wait()

    async def _run(self, listener: socket.socket, ended: anyio.Event) -> None:
        with listener:
            await serve_http(self.app, listener, self._stop)
        ended.set()


@asynccontextmanager
async def serving(store: ObjectStore, **changed: Any) -> AsyncIterator[LiveServer]:
    """A running server."""
    config = msgspec.structs.replace(ServerConfig(store=StoreConfig(url=store.url), refresh=0.2), **changed)
    with first_error():
        async with anyio.create_task_group() as group:
            server = LiveServer(store, group, config)
            await server.start()
            yield server
            await server.stop()


class Network:
    """What lies between: a port that leads to another. While it is cut, nothing gets through and nothing is closed."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.connections = 0
        self._open = anyio.Event()
        self._open.set()
        self._streams: set[SocketStream] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        self._open = anyio.Event()

    def heal(self) -> None:
        self._open.set()

    async def reset(self) -> None:
        """Break all connections, whatever is under way on them."""
        for stream in list(self._streams):
            await anyio.aclose_forcefully(stream)

    async def serve(self, near: SocketStream) -> None:
        self.connections += 1
        with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with near, await anyio.connect_tcp("127.0.0.1", self.target) as far:
                self._streams |= {near, far}
                with first_error():
                    async with anyio.create_task_group() as group:
                        group.start_soon(self._forward, near, far, group.cancel_scope)
                        group.start_soon(self._forward, far, near, group.cancel_scope)
                self._streams -= {near, far}

    async def _forward(self, source: SocketStream, target: SocketStream, scope: anyio.CancelScope) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            while True:
                data = await source.receive()
                await self._open.wait()
                await target.send(data)
        scope.cancel()


@asynccontextmanager
async def cuttable(target: int) -> AsyncIterator[Network]:
    """A network to ``target``."""
    network = Network(target)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    network.port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, network.serve)
        yield network
        network.heal()
        group.cancel_scope.cancel()


class Witness:
    """What a session's reader says that it applied, held to be every source's bytes in order: each once, none left out."""

    def __init__(self) -> None:
        self.ends: dict[tuple[str, str], int] = defaultdict(int)
        self.records = 0
        self.slices = 0
        self.wrong: list[str] = []
        self.spoke = anyio.Event()

    def __call__(self, applied: Applied) -> None:
        at = applied.node, applied.source
        if applied.start != self.ends[at]:
            self.wrong.append(f"{applied.source}: [{applied.start}, {applied.end}) after {self.ends[at]}")
        self.ends[at] = applied.end
        self.records += applied.decoded.lines
        self.slices += 1
        self.spoke.set()
        self.spoke = anyio.Event()

    async def until(self, records: int, within: float = 20.0) -> None:
        """Until that many records were applied, which may not be more."""
        with anyio.move_on_after(within):
            while self.records < records:
                await self.spoke.wait()
        assert self.wrong == []
        assert self.records == records


@asynccontextmanager
async def witnessed(server: LiveServer, of: SessionKey | None = None) -> AsyncIterator[Witness]:
    """A session watched from its first record on, however much of it is in the store already."""
    witness, of = Witness(), of or key()
    sessions = server.sessions
    assert not sessions.loaded(of), "it would have missed what was applied"
    entry = sessions._entry(of)
    entry.reader.on_applied = witness
    async with sessions.watch(of) as reader:
        assert reader is entry.reader
        yield witness


def posted(numbers: range, session: str = SESSION) -> list[dict[str, Any]]:
    """Two records for each number: a task, and how it finished; as Ray posts them."""
    lines = [line for number in numbers for line in defined_task(number) + finishing(number)]
    return [json.loads(line) | {"sessionName": session, "eventId": f"{numbers}-{at}"} for at, line in enumerate(lines)]


async def post(url: str, events: list[dict[str, Any]]) -> None:
    """To a collector, until it takes them."""
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.post(f"{url}/v1/events", json=events)
        assert answer.status_code == 200


async def ask(server: LiveServer, path: str, session: str = SESSION) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as client:
        return await client.get(f"{server.url}/sessions/default/ray/{session}{path}")


async def total_tasks(server: LiveServer, session: str = SESSION) -> int:
    """How many tasks it answers with; all of them finished."""
    answer = await ask(server, "/api/v0/tasks?limit=10000&detail=1", session)
    assert answer.status_code == 200, answer.text
    rows = answer.json()["data"]["result"]["result"]
    assert {row["state"] for row in rows} <= {"FINISHED"}
    return len({row["task_id"] for row in rows})


async def has_tasks(server: LiveServer, count: int) -> None:
    """Until it answers with so many tasks: what was posted just now is in the next answer but one, perhaps."""

    async def there() -> bool:
        return await total_tasks(server) == count

    await settled(there)


async def wait_heard(server: LiveServer, of: SessionKey | None = None) -> None:
    """Until its collector was heard."""
    of = of or key()

    async def heard() -> bool:
        return bool(server.sessions.live.liveness.present(of, server.sessions.live.now_ms()))

    await settled(heard)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""What may go wrong between Ray and whoever follows a session: networks cut, programs killed. And who must not notice.

    writer ─▶ collector ═network═▶ server ─▶ followers         (or ═▶ nats-server ═network═▶ servers)

Programs are the real commands, each a process; networks are ports of ours that can be cut. A ``Writer`` posts as Ray
does: in order, again and again until it is answered 200. A ``Follower`` is an EventSource: it comes back with the
position it was told last. In the end ``Site.settle`` holds stream, answers and store to what was written.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
from anyio import to_thread
from anyio.abc import TaskGroup
from support.collecting import NODE, SESSION, RayFolder, key, settled
from support.livechannel import Network, cuttable, posted
from support.natsserver import NatsServer, nats_server
from support.processes import Program, free_ports, on_disk, session_url, start_collector, start_server
from support.sessions import task_id
from support.storecheck import stored_lines
from support.streaming import PLAIN

from api.groups import first_error
from api.streams.sse_reader import EventReader
from pipeline.stores.filestore import FileStore

STATES = ("SUBMITTED_TO_WORKER", "RUNNING", "FINISHED")
"""What is told of each task that is posted, in this order."""
RETRY = 0.1
AFTER_CUT = 15.0
"""Seconds that all may take to be whole again: longer than any pause between two attempts."""


class Follower:
    """One who follows a session, whatever happens to the connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.told: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self.resyncs: list[str] = []
        self.statuses: list[str] = []
        self.connections = 0
        self.ready = anyio.Event()
        self._reader = EventReader()
        self._last: dict[str, int] = {}
        self._scope: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with anyio.CancelScope() as self._scope:
                with suppress(httpx.HTTPError):
                    await self._connect()
            await anyio.sleep(RETRY)

    def break_off(self) -> None:
        """Lose the connection; come back after a moment."""
        if self._scope is not None:
            self._scope.cancel()

    async def _connect(self) -> None:
        self._reader.restart()
        headers = {"Last-Event-ID": self._reader.last_id} if self._reader.last_id else {}
        async with (
            httpx.AsyncClient(timeout=httpx.Timeout(10, read=None), verify=PLAIN) as http,
            http.stream("GET", self.url, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                return
            self.connections += 1
            async for chunk in answer.aiter_raw():
                for event in self._reader.feed(chunk):
                    self._take(event.kind, json.loads(event.data))

    def _take(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "task":
            task, state = data["task_id"], data["state"]
            self.told[task, state] += 1
            at = STATES.index(state)
            if at != self._last.get(task, -1) + 1:
                self.wrong.append(f"{task}: {state} after {self._last.get(task)}")
            self._last[task] = at
        elif kind == "resync":
            self.resyncs.append(data["reason"])
        elif kind == "session":
            self.statuses.append(data["status"])
            self.ready.set()


class Writer:
    """Posts tasks, each once, as Ray posts them. ``written`` is how many were answered 200."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.written = 0

    async def post(self, count: int) -> None:
        """So many tasks, until the collector has taken them."""
        events = posted(range(self.written, self.written + count))
        async with httpx.AsyncClient(timeout=3, verify=PLAIN) as http:
            with anyio.fail_after(30):
                while not await self._taken(http, events):  # noqa: ASYNC110 - Ray, too, only tries again
                    await anyio.sleep(RETRY)
        self.written += count

    async def _taken(self, http: httpx.AsyncClient, events: list[dict[str, Any]]) -> bool:
        try:
            return (await http.post(f"{self._url}/v1/events", json=events)).status_code == 200
        except httpx.HTTPError:
            return False

    async def keep_on(self, seconds: float, rate: float) -> None:
        """``rate`` tasks a second."""
        begun, before = anyio.current_time(), self.written
        while (passed := anyio.current_time() - begun) < seconds:
            if (due := int(passed * rate) - (self.written - before)) > 0:
                await self.post(due)
            await anyio.sleep(0.05)


class Site:
    """One collector, one server or two, what lies between, and who follows."""

    def __init__(self, root: Path, group: TaskGroup, collector: Program, servers: list[Program]) -> None:
        self.root, self._group = root, group
        self.collector, self.servers = collector, servers
        self.networks: list[Network] = []
        self.nats: NatsServer | None = None
        self.followers: list[Follower] = []
        self.writer = Writer(collector.url)
        self._options: list[str] = []
        self._server_options: list[list[str]] = []

    def url(self, server: int) -> str:
        """Where a server streams the session."""
        return f"{session_url(self.servers[server], SESSION)}/live"

    async def follow(self, server: int = 0) -> Follower:
        """Somebody who is there from now on."""
        follower = Follower(self.url(server))
        self.followers.append(follower)
        self._group.start_soon(follower.run)
        with anyio.fail_after(20):
            await follower.ready.wait()
        return follower

    async def kill_collector(self) -> None:
        """SIGKILL, and begun again on the same folders and port."""
        self.collector.kill()
        self.collector = await to_thread.run_sync(self._collector, self.collector.port)

    async def kill_server(self, number: int = 0) -> None:
        """SIGKILL, and begun again on the same port."""
        port = self.servers[number].port
        self.servers[number].kill()
        options = self._server_options[number]
        self.servers[number] = await to_thread.run_sync(_server, self.root, number, options, port)

    def _collector(self, port: int) -> Program:
        return start_collector(on_disk(self.root / "store"), self.root, self.root / "ray", *self._options, port=port)

    async def all_told(self, within: float = AFTER_CUT) -> float:
        """Until every follower has all that was written by now; how many seconds that took. Less is said by ``settle``."""
        begun, wanted = anyio.current_time(), self._wanted()

        async def told() -> bool:
            return all(each.told.keys() >= wanted for each in self.followers)

        with anyio.move_on_after(within):
            await settled(told, within + 5)
        return anyio.current_time() - begun

    def _wanted(self) -> set[tuple[str, str]]:
        return {(task_id(number).hex(), state) for number in range(self.writer.written) for state in STATES}

    async def settle(self, within: float = AFTER_CUT) -> None:
        """Hold all followers, answers and the store to what was written."""
        await self.all_told(within)
        wanted = self._wanted()
        for each in self.followers:
            lacking, more = wanted - each.told.keys(), each.told.keys() - wanted
            assert (len(lacking), more, each.resyncs, each.wrong[:5]) == (0, set(), [], []), each.url
            assert each.told.total() == len(wanted), "told twice"
        for server in self.servers:
            await self._answers(server)
        assert await to_thread.run_sync(self.collector.stop) == 0, self.collector.log()[-2000:]
        for server in self.servers:
            await self._answers(server)
        assert len(await stored_lines(FileStore(self.root / "store"), key())) == 2 * self.writer.written
        assert all(each.told.total() == len(wanted) for each in self.followers), "told again at the end"

    async def _answers(self, server: Program) -> None:
        async with httpx.AsyncClient(timeout=30, base_url=session_url(server, SESSION)) as http:
            summary = (await http.get("/api/v0/tasks/summarize")).json()["data"]["result"]["result"]
            counts = summary["node_id_to_summary"]["cluster"]["summary"]["work"]["state_counts"]
            assert counts == {"FINISHED": self.writer.written}, counts
            held = (await http.get("/completeness")).json()
            assert (held["records"], held["missing_bytes"]) == (2 * self.writer.written, 0)

    def end(self) -> None:
        for program in (self.collector, *self.servers):
            program.end()


def _server(root: Path, number: int, options: list[str], port: int) -> Program:
    folder = root / f"server-{number}"
    folder.mkdir(exist_ok=True)
    return start_server(on_disk(root / "store"), folder, *options, port=port)


@contextmanager
def _nats(root: Path, wanted: bool) -> Iterator[NatsServer | None]:
    with nats_server(root / "nats") if wanted else nullcontext() as it:
        yield it


@asynccontextmanager
async def site(root: Path, how: str, *, segment_age: float = 3600.0) -> AsyncIterator[Site]:
    """All of it running. ``how``: ``http`` with one server, or ``nats`` with two and a network on either side of it."""
    RayFolder(root / "ray").begin()
    async with AsyncExitStack() as stack:
        nats = stack.enter_context(_nats(root, how == "nats"))
        stack.enter_context(first_error())
        group = await stack.enter_async_context(anyio.create_task_group())
        ports = free_ports(3)
        target = ports[0] if nats is None else nats.port
        networks = [await stack.enter_async_context(cuttable(target)) for _ in range(1 if nats is None else 2)]
        serving = [[]] if nats is None else [[f"--live=nats://127.0.0.1:{network.port}"] for network in networks]
        to = f"--server={networks[0].url}" if nats is None else f"--push=nats://127.0.0.1:{networks[0].port}"
        programs: list[Program] = []
        try:
            for number, options in enumerate(serving):
                programs.append(await to_thread.run_sync(_server, root, number, options, ports[number]))
            collecting = [to, f"--node-id={NODE}", "--no-logs", "--no-poll", f"--segment-age={segment_age}s"]
            where = on_disk(root / "store"), root, root / "ray"
            programs.append(await to_thread.run_sync(lambda: start_collector(*where, *collecting, port=ports[2])))
        except BaseException:
            for program in programs:
                program.end()
            raise
        it = Site(root, group, programs[-1], programs[:-1])
        it.networks, it.nats, it._options, it._server_options = networks, nats, collecting, serving
        try:
            for server in it.servers:
                await settled(lambda server=server: _lives(server))  # type: ignore[misc]
            yield it
        finally:
            it.end()
            group.cancel_scope.cancel()


async def _lives(server: Program) -> bool:
    async with httpx.AsyncClient(verify=PLAIN) as http:
        rows = (await http.get(f"{server.url}/clusters")).json()
    return any((row["sessionName"], row["status"]) == (SESSION, "live") for row in rows)

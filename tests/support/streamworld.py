"""A small world for event streams: nodes that write, servers that come and go, clients that break off anywhere.

Everything random comes from one seed. What a client must have in the end is what was written since it first came,
source by source, each event once and in order.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus
from support.sessions import JOB, KEY, defined_task, task_states

from api.session.sessions import Sessions
from api.streams.hubs import Hubs
from api.streams.live_filter import EventFilter, parse_filter
from api.streams.replay import Pace
from api.streams.sse_reader import EventReader
from api.streams.stream import Stream
from pipeline.config import ServerConfig, StoreConfig
from pipeline.push.pushed import Push, Word, pack_push
from pipeline.segments.segment import Header, Span, pack
from pipeline.stores.catalog import new_metadata, write_metadata
from pipeline.stores.store import MemoryStore

STATES = ("PENDING_ARGS_AVAIL", "PENDING_NODE_ASSIGNMENT", "SUBMITTED_TO_WORKER", "RUNNING", "FINISHED")
Told = tuple[str, str]


class Chunk:
    """Some lines of a source."""

    def __init__(self, source: str, start: int, lines: list[bytes]) -> None:
        self.data = b"".join(lines)
        self.span = Span(source, "ray_event", start, start + len(self.data), len(lines))


class Node:
    """One collector: what it wrote and has not sealed, and what it sent to whom."""

    def __init__(self, number: int) -> None:
        self.name = f"{number:02x}" * 28
        self.seq = 0
        self.ends: dict[str, int] = defaultdict(int)
        self.unsealed: list[Chunk] = []
        self.unsent: dict[int, list[Chunk]] = {}  # by server; absent: not greeted

    def write(self, source: str, lines: list[bytes]) -> None:
        chunk = Chunk(source, self.ends[source], lines)
        self.ends[source] = chunk.span.end
        self.unsealed.append(chunk)
        for waiting in self.unsent.values():
            waiting.append(chunk)

    def message(self, word: Word, spans: list[Span], data: list[bytes]) -> tuple[Push, bytes]:
        push = Push(
            KEY.namespace, KEY.cluster, KEY.session, self.name, self.seq, spans, reason="push", writer="w", word=word
        )
        return push, pack_push(push, data)


class Server:
    """One server over the world's store. ``restart`` forgets all it had in memory."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number

    async def start(self) -> None:
        self._stop, self._stopped = anyio.Event(), anyio.Event()
        await self.world.group.start(self._run)

    async def _run(self, *, task_status: TaskStatus[None]) -> None:
        config = ServerConfig(store=StoreConfig(url="memory://"), refresh=0.05)
        async with Sessions(self.world.store, config) as self.sessions, Hubs(self.sessions) as self.hubs:
            if self.world.ring_bytes is not None:
                self.hubs._limit = lambda: self.world.ring_bytes or 0  # type: ignore[method-assign]
            task_status.started()
            await self._stop.wait()
        self._stopped.set()

    async def stop(self) -> None:
        for client in self.world.clients:
            if client.server is self:
                await client.break_off()
        self._stop.set()
        await self._stopped.wait()

    async def restart(self) -> None:
        await self.stop()
        for node in self.world.nodes:
            node.unsent.pop(self.number, None)
        await self.start()

    def push(self, node: Node, word: Word = "batch", chunks: list[Chunk] | None = None) -> None:
        """What a node has for this server, a hello before it where it has not been greeted."""
        if self.number not in node.unsent:
            cursor = self.sessions.live.take(KEY, *node.message("hello", [], [])).cursor
            node.unsent[self.number] = [
                each for each in node.unsealed if each.span.end > cursor.get(each.span.source, -1)
            ]
        if word == "sealed":
            assert chunks is not None
            self.sessions.live.take(KEY, *node.message("sealed", [chunk.span for chunk in chunks], []))
        elif node.unsent[self.number]:
            sent, node.unsent[self.number] = node.unsent[self.number], []
            self.sessions.live.take(
                KEY, *node.message("batch", [chunk.span for chunk in sent], [chunk.data for chunk in sent])
            )


class Client:
    """One reader of a stream, over all its connections."""

    def __init__(self, world: World, chosen: EventFilter) -> None:
        self.world, self.chosen = world, chosen
        self.reader = EventReader()
        self.got: dict[str, list[Told]] = defaultdict(list)
        self.resyncs: list[str] = []
        self.sessions = 0
        self.server: Server | None = None
        self.most: int | None = None  # bytes that still arrive
        self._scope: anyio.CancelScope | None = None
        self._gone = anyio.Event()
        self.from_start = anyio.Event()

    async def connect(self, server: Server, most: int | None = None) -> None:
        """Until it is cut or breaks off; ``most``: after that many bytes."""
        assert self.server is None
        self.server, self.most = server, most
        self._scope, self._gone = anyio.CancelScope(), anyio.Event()
        self.reader.restart()
        self.world.group.start_soon(self._follow, server, self._scope)

    async def _follow(self, server: Server, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                hub = await server.hubs.join(KEY)
                stream = Stream(server.hubs, hub, self.chosen, self.reader.last_id or None, None, Pace(0))
                try:
                    async with aclosing(stream.chunks()) as chunks:
                        async for chunk in chunks:
                            self._take(chunk)
                            if self.most is not None and self.most <= 0:
                                break
                finally:
                    server.hubs.leave(hub, stream.subscriber)
        finally:
            self.server = None
            self._gone.set()

    def _take(self, chunk: bytes) -> None:
        if self.most is not None:
            chunk = chunk[: self.most]
            self.most -= len(chunk)
        for event in self.reader.feed(chunk):
            data = json.loads(event.data)
            if event.kind == "task":
                self.got[self.world.sources[data["task_id"]]].append((data["task_id"], data["state"]))
            elif event.kind == "resync":
                self.resyncs.append(data["reason"])
            else:
                self.sessions += 1
                self.from_start.set()

    async def break_off(self) -> None:
        if self._scope is not None and self.server is not None:
            self._scope.cancel()
            await self._gone.wait()


class World:
    """See the module."""

    def __init__(self, seed: int, group: TaskGroup, ring_bytes: int | None = None) -> None:
        self.random = random.Random(seed)
        self.group = group
        self.ring_bytes = ring_bytes
        self.store = MemoryStore()
        self.nodes = [Node(number) for number in range(1, 3)]
        self.servers = [Server(self, number) for number in range(2)]
        self.sources: dict[str, str] = {}
        self.told: dict[str, list[Told]] = defaultdict(list)
        self.clients: list[Client] = []
        self._task = 0

    async def begin(self) -> None:
        await write_metadata(self.store, new_metadata(KEY, created_ms=self.servers_now()))
        for server in self.servers:
            await server.start()

    def servers_now(self) -> int:
        return 1 << 42  # the future: nothing falls silent here

    def write(self, node: Node) -> None:
        """Some lines to one of its sources; tasks with no, one or several states."""
        source = f"spool/{self.random.randrange(3)}.jsonl"
        lines: list[bytes] = []
        for _ in range(self.random.randrange(1, 6)):
            self._task += 1
            task = f"{self._task:016x}{'ff' * 12}{JOB.hex()}"
            where = f"{node.name}/{source}"
            self.sources[task] = where
            first = self.random.randrange(len(STATES))
            states = STATES[first : first + self.random.randrange(5)]
            lines += defined_task(self._task) + task_states(self._task, *states)
            self.told[where] += [(task, state) for state in states]
        node.write(source, lines)

    async def seal(self, node: Node, say: bool) -> None:
        """Put what isn't sealed into the store, source by source as a collector does; ``say`` so to the servers."""
        count = len(node.unsealed)
        if not count:
            return
        kept = node.unsealed[: self.random.randrange(1, count + 1)]
        by_source: dict[str, list[Chunk]] = defaultdict(list)
        for chunk in kept:
            by_source[chunk.span.source].append(chunk)
        spans, data = [], []
        for source, chunks in by_source.items():
            body = b"".join(chunk.data for chunk in chunks)
            start, records = chunks[0].span.start, sum(chunk.span.records for chunk in chunks)
            spans.append(Span(source, "ray_event", start, start + len(body), records))
            data.append(body)
        node.seq += 1
        header = Header(KEY.namespace, KEY.cluster, KEY.session, node.name, node.seq, spans)
        await self.store.put(KEY.segment(node.name, node.seq), pack(header, data))
        node.unsealed = node.unsealed[len(kept) :]
        if say:
            for server in self.servers:
                server.push(node)
                server.sessions.live.take(KEY, *node.message("sealed", spans, []))

    def client(self, **asked: Any) -> Client:
        client = Client(self, parse_filter(asked.items()))
        self.clients.append(client)
        return client

    async def close(self) -> None:
        for server in self.servers:
            await server.stop()


@asynccontextmanager
async def world(seed: int, ring_bytes: int | None = None) -> AsyncIterator[World]:
    """A world with two nodes and two servers."""
    async with anyio.create_task_group() as group:
        made = World(seed, group, ring_bytes)
        await made.begin()
        yield made
        await made.close()

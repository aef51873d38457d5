"""Who doesn't read is cut and comes back to everything; nobody else notices, and those who come and go leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio
import httpx
import pytest
from anyio.abc import SocketAttribute, SocketStream
from starlette.applications import Starlette
from structlog.testing import capture_logs
from support.pushing import Collector
from support.sessions import KEY, SegmentWriter, task_id, tasks
from support.streaming import PLAIN, Client, LiveServer, following, live_server

from api.metrics import STREAMS, STREAMS_CUT
from api.session.reader import SessionReader
from api.streams import hubs
from api.streams.hub import Hub, Subscriber
from api.streams.sse_reader import EventReader, ServerEvent
from api.streams.stream import Stream
from pipeline.layout import SessionKey
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio

PATH = f"/sessions/{KEY}/live"
RING = 200_000
BUFFER = 8 << 10
SLOW = 20


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await SegmentWriter(store).begin()
    return store


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring that some hundred tasks fill."""
    monkeypatch.setattr(hubs, "RING_BYTES", RING)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "TICK", 0.02)


def greeted(server: LiveServer, store: MemoryStore) -> Collector:
    collector = Collector(server.app.state.sessions, store)
    collector.say("hello")
    return collector


def hub_of(server: LiveServer) -> Hub:
    opened = server.app.state.hubs._open[KEY]
    assert opened.hub is not None
    return opened.hub  # type: ignore[no-any-return]


class Hanging:
    """A client that has read its first event and reads no more, until it is told to."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self.reader = EventReader()
        self.events: list[ServerEvent] = []

    async def begin(self) -> None:
        await self._stream.send(f"GET {PATH} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await self._stream.receive(1)
        while not self.events:
            self.events += self.reader.feed(await self._stream.receive(64))

    async def read_on(self) -> None:
        """All that is still on its way."""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                self.events += self.reader.feed(await self._stream.receive())


@asynccontextmanager
async def hanging(server: LiveServer) -> AsyncIterator[Hanging]:
    async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        client = Hanging(stream)
        with anyio.fail_after(10):
            await client.begin()
        yield client


def told(events: list[ServerEvent]) -> list[tuple[str, str]]:
    client = Client("")
    client.events = events
    return client.states()


def all_of(count: int) -> list[tuple[str, str]]:
    return [(task_id(n).hex(), s) for n in range(1, count + 1) for s in ("SUBMITTED_TO_WORKER", "RUNNING", "FINISHED")]


async def push(collector: Collector, reads: Client, first: int, count: int) -> list[float]:
    """Push some tasks, ten at a time; how long each ten were on their way."""
    took = []
    for at in range(first, first + count, 10):
        begun, goal = anyio.current_time(), 3 * (at + 9)
        collector.push(tasks(10, at))
        await reads.until(lambda goal=goal: len(reads.events) > goal, f"task {at + 9}")  # type: ignore[misc]
        took.append(anyio.current_time() - begun)
    return sorted(took)


async def test_those_who_hang_are_cut_and_nobody_else_notices(store: MemoryStore, small: None) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(live_server(store, send_buffer=BUFFER))
        collector = greeted(server, store)
        reads = await stack.enter_async_context(following(server.url + PATH))
        alone = await push(collector, reads, 1, 100)
        hung = [await stack.enter_async_context(hanging(server)) for _ in range(SLOW)]
        before, at, beside = STREAMS_CUT._value.get(), 101, []
        while len(hub_of(server).subscribers) > 1:
            assert at < 5000, "nobody is cut"
            beside += await push(collector, reads, at, 100)
            at += 100
        assert STREAMS_CUT._value.get() - before == SLOW
        assert hub_of(server).nbytes <= RING + 50_000
        assert reads.states() == all_of(at - 1)
        assert not reads.ended
        middle, calm = beside[len(beside) // 2], alone[len(alone) // 2]
        assert middle < max(10 * calm, 0.2), "those who read wait for those who don't"
        for client in hung[:: SLOW // 4]:
            await client.read_on()
            again = Client(server.url + PATH)
            again.reader.last_id = client.reader.last_id
            async with following(again.url, resume=again) as it:
                rest = all_of(at - 1)[300 + len(told(client.events)) :]
                assert rest
                await it.has(len(rest), "task")
                assert told([*client.events, *it.events]) == all_of(at - 1)[300:]
                assert it.told("resync") == []


async def test_one_who_hangs_is_cut_before_his_turn_where_nothing_more_comes(
    store: MemoryStore, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He has gone without a word; what he was to read is far from the end of the ring."""
    async with live_server(store, send_buffer=BUFFER) as server:
        collector = greeted(server, store)
        async with following(server.url + PATH) as reads, hanging(server):
            await push(collector, reads, 1, 300)
            assert len(hub_of(server).subscribers) == 2
            monkeypatch.setattr(hubs, "STUCK", 0.05)
            await until(lambda: len(hub_of(server).subscribers) == 1)
            await push(collector, reads, 301, 10)


async def test_who_is_slow_but_reads_is_not_cut(store: MemoryStore) -> None:
    async with live_server(store, send_buffer=BUFFER) as server:
        collector = greeted(server, store)
        async with following(server.url + PATH) as reads, hanging(server) as slow:
            await push(collector, reads, 1, 120)
            async with anyio.create_task_group() as group:
                group.start_soon(slow.read_on)
                with anyio.fail_after(10):
                    while len(slow.events) < 361:  # noqa: ASYNC110
                        await anyio.sleep(0.01)
                group.cancel_scope.cancel()
            assert told(slow.events) == all_of(120)


@pytest.mark.parametrize("limit", ["MAX_STREAMS", "MAX_STREAMS_OF_ONE"])
async def test_only_so_many_follow_and_the_next_is_told_to_come_later(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(hubs, limit, 3)
    async with live_server(store) as server, httpx.AsyncClient(verify=PLAIN) as http:
        url = server.url + PATH
        async with following(url), following(url):
            async with following(url):
                answer = await http.get(url)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
                assert answer.json()["msg"].startswith("3 streams")
                assert "try again" in answer.json()["msg"]
                assert (await http.get(url.replace("/live", "/api/v0/tasks"))).status_code == 200
            await until(lambda: server.app.state.hubs._streams == 2)
            async with following(url) as it:
                assert it.status == 200


async def test_those_who_come_and_go_all_the_time_leave_nothing_behind(store: MemoryStore, quick: None) -> None:
    draw = random.Random(3)
    others = [SessionKey("default", "demo", f"session_2026-01-16_02-00-00_123456_{n}") for n in range(2, 5)]
    for key in others:
        writer = SegmentWriter(store, key)
        await writer.begin(ended_ms=1)
        await writer.write(tasks(50))
    async with live_server(store, prepare=let_go_soon) as server:
        collector = greeted(server, store)
        state = server.app.state
        await come_and_go(server, PATH, 1)
        await until(lambda: state.hubs._open == {})
        baseline = len(asyncio.all_tasks())
        for turn in range(6):
            async with anyio.create_task_group() as group:
                for _ in range(40):
                    key = draw.choice([KEY, KEY, *others])
                    query = draw.choice(
                        ["", "?since=0", "?since=0&speed=1", "?last_event_id=AQ", "?kind=task&since=-1d"]
                    )
                    group.start_soon(come_and_go, server, f"/sessions/{key}/live{query}", draw.randrange(4000))
                collector.push(tasks(5, turn * 5 + 1))
            await collector.seal()
        await until(lambda: state.hubs._open == {})
        await until(lambda: len(asyncio.all_tasks()) <= baseline)
        assert (state.hubs._streams, STREAMS._value.get()) == (0, 0)
        assert state.hubs.past.value == hubs.MAX_PAST
        assert state.hubs.recall._reading == {}
        await until(lambda: not state.sessions.live._watchers and not state.sessions._watched)
        assert [entry.watchers for entry in state.sessions._entries.values() if entry.watchers] == []
        gc.collect()
        assert [type(each) for each in gc.get_objects() if isinstance(each, Stream | Subscriber | Hub)] == []


def let_go_soon(app: Starlette) -> None:
    app.state.hubs._linger = 0.05


async def come_and_go(server: LiveServer, path: str, most: int) -> None:
    """Ask, read so many bytes at most, and hang up in the middle of whatever it is."""
    async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        await stream.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with anyio.move_on_after(0.2), suppress(anyio.EndOfStream):
            while most > 0:
                most -= len(await stream.receive(most))


async def until(condition: object) -> None:
    assert callable(condition)
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await anyio.sleep(0.01)


async def test_a_session_that_fails_as_nobody_thought_of_takes_no_other_with_it(
    store: MemoryStore, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = SessionKey("default", "demo", "session_2026-01-16_02-00-00_123456_2")
    await SegmentWriter(store, broken).begin()
    refresh = SessionReader.refresh

    async def failing(reader: SessionReader, room: Callable[[], Awaitable[None]]) -> None:
        if reader.key == broken:
            raise RuntimeError("nobody thought of this")
        await refresh(reader, room)

    monkeypatch.setattr(SessionReader, "refresh", failing)
    with capture_logs() as logs:
        await others_go_on(store, broken, monkeypatch)
    assert [each["session"] for each in logs if each["event"] == "a session can't be followed"] == [
        str(broken),
        str(KEY),
    ]


async def others_go_on(store: MemoryStore, broken: SessionKey, monkeypatch: pytest.MonkeyPatch) -> None:
    async with live_server(store) as server, httpx.AsyncClient(verify=PLAIN) as http:
        collector = greeted(server, store)
        async with following(server.url + PATH) as reads:
            answer = await http.get(f"{server.url}/sessions/{broken}/live")
            assert (answer.status_code, answer.json()["msg"][:14]) == (500, "internal error")
            await push(collector, reads, 1, 10)
            with monkeypatch.context() as later:
                later.setattr(hubs._Follower, "tick", failing_tick)
                await until(lambda: reads.ended)
        async with following(server.url + PATH, resume=reads):
            collector.push(tasks(1, 11))
            await reads.has(33, "task")
    assert reads.states() == all_of(11)


async def failing_tick(self: object) -> None:
    raise RuntimeError("nor of this")

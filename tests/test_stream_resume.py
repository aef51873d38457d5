"""Who comes back with the position of an event is told all that followed on it and nothing again, on whichever server."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from structlog.testing import capture_logs
from support.captures import DATA
from support.pushing import Collector
from support.recorded_store import put_recording
from support.sessions import KEY, SegmentWriter, WrappedStore, finished_task
from support.streaming import PLAIN, Client, LiveServer, following, live_server

from api.streams import catch_up
from api.streams.positions import MAX_TEXT, Position, head_text, node_code, source_code
from api.streams.sse_reader import EventReader, ServerEvent
from pipeline.layout import SessionKey
from pipeline.stores.store import MemoryStore, ObjectStore

pytestmark = pytest.mark.anyio

PATH = f"/sessions/{KEY}/live"
LAST = 999
TASKS = 8


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "PAUSE", 0.01)


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await SegmentWriter(store).begin()
    return store


class World:
    """A collector that pushes to several servers over one store."""

    def __init__(self, store: ObjectStore, *servers: LiveServer) -> None:
        self.all = [Collector(server.app.state.sessions, store) for server in servers]
        for each in self.all:
            each.say("hello")
        self._store = store

    def greet(self, server: LiveServer) -> None:
        """A server that came later is told all that isn't sealed."""
        late, first = Collector(server.app.state.sessions, self._store), self.all[0]
        late.lines, late.sealed_lines, late.segments.seq = list(first.lines), first.sealed_lines, first.segments.seq
        late.say("hello")
        if late.sealed_lines < len(late.lines):
            late.push(range(late.sealed_lines, len(late.lines)))
        self.all.append(late)

    def push(self, number: int) -> None:
        for each in self.all:
            each.push(finished_task(number))

    async def seal(self) -> None:
        first, *others = self.all
        await first.seal()
        for each in others:
            each.sealed_lines, each.segments.seq = first.sealed_lines, first.segments.seq


def told(events: Iterable[ServerEvent]) -> list[tuple[str, str]]:
    return [(event.kind, event.data) for event in events if event.kind != "session"]


async def there(client: Client, number: int = LAST) -> None:
    """Until the client was told of the end of a task."""
    await client.until(lambda: ended(client, number), f"task {number}")


def ended(client: Client, number: int) -> bool:
    return any(
        data["task_id"].startswith(f"{number:016x}") and data["state"] == "FINISHED" for data in client.told("task")
    )


@asynccontextmanager
async def back(url: str, position: str, **query: Any) -> AsyncIterator[Client]:
    """A client that comes back with a position."""
    client = Client(url, **query)
    client.reader.last_id = position
    async with following(url, resume=client) as it:
        yield it


async def whole(url: str, position: str | None, by: str = "header") -> list[ServerEvent]:
    """All of a stream that ends."""
    headers, query = ({"Last-Event-ID": position}, {}) if position and by == "header" else ({}, {})
    query = {"since": "0"} if position is None else {"last_event_id": position} if by == "query" else query
    async with httpx.AsyncClient(verify=PLAIN) as http:
        answer = await http.get(url, params=query, headers=headers)
    assert answer.status_code == (200 if answer.content else 204)
    return EventReader(position or "").feed(answer.content)


@pytest.mark.parametrize("by", ["header", "query"])
async def test_a_session_played_again_goes_on_from_any_event(by: str) -> None:
    store = MemoryStore()
    key = await put_recording(store, DATA / "tasks", "default", "demo", ended_ms=1)
    async with live_server(store) as server, live_server(store) as other:
        urls = [f"{each.url}/sessions/{key}/live" for each in (server, other)]
        events = await whole(urls[0], None)
        assert len(events) > 100
        numbers = range(1, len(events) - 1) if by == "header" else range(1, len(events) - 1, 20)
        for number in numbers:
            rest = await whole(urls[number % 2], events[number].id, by)
            assert told(rest) == told(events[number + 1 :]), number
        for url in urls:
            assert await whole(url, events[-1].id, by) == []


@pytest.mark.parametrize("sealed", ["nothing", "a part", "all"])
async def test_a_live_stream_goes_on_from_any_event_on_any_server(store: MemoryStore, sealed: str) -> None:
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(live_server(store)) for _ in range(2)]
        world = World(store, one, other)
        witness = await stack.enter_async_context(following(one.url + PATH))
        for number in range(TASKS):
            world.push(number)
            if sealed == "a part" and number == TASKS // 2:
                await world.seal()
        await there(witness, TASKS - 1)
        if sealed == "all":
            await world.seal()
        later = await stack.enter_async_context(live_server(store))
        world.greet(later)
        before = list(witness.events)
        clients = [
            await stack.enter_async_context(back((one, other, later)[number % 3].url + PATH, event.id))
            for number, event in enumerate(before)
        ]
        world.push(LAST)
        await there(witness)
        for number, client in enumerate(clients):
            await there(client)
            assert told(client.events) == told(witness.events[number + 1 :]), number
        assert len(clients) == TASKS * 3 + 1


async def test_half_a_frame_is_none_wherever_the_connection_breaks(store: MemoryStore) -> None:
    """An EventSource whose connection breaks after a random number of bytes, again and again."""
    draw = random.Random(4)
    async with live_server(store) as server:
        world = World(store, server)
        reader, events = EventReader(), []
        async with following(server.url + PATH) as witness:
            first = witness.events[0].id
            reader.last_id = reader._id = first
            for number in range(40):
                world.push(number)
                if number % 7 == 6:
                    await world.seal()
                reader.restart()
                for chunk in [part async for part in so_many_bytes(server, reader.last_id, draw.randrange(400, 3000))]:
                    events += reader.feed(chunk)
            world.push(LAST)
            await there(witness)
        async with back(server.url + PATH, reader.last_id) as client:
            await there(client)
    assert told([*events, *client.events]) == told(witness.events)
    assert len(told(events)) > 20


async def so_many_bytes(server: LiveServer, position: str, most: int) -> AsyncIterator[bytes]:
    async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        await stream.send(f"GET {PATH} HTTP/1.0\r\nHost: x\r\nLast-Event-ID: {position}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive(1)
        with anyio.move_on_after(0.05):  # what a client that stays would go on to wait for
            while most > 0:
                chunk = await stream.receive(most)
                most -= len(chunk)
                yield chunk


async def test_at_the_end_of_a_session_there_is_nothing_to_come_back_for(store: MemoryStore) -> None:
    async with live_server(store) as server, live_server(store) as other:
        now = 1 << 42
        for each in (server, other):
            each.app.state.sessions.live.now_ms = lambda: now
        world = World(store, server, other)
        world.push(1)
        async with following(server.url + PATH) as client:
            world.push(2)
            await there(client, 2)
            await world.seal()
            for each in world.all:
                each.say("bye", ended_ms=now)
            now += 3_600_000
            await client.until(lambda: client.ended, "end", timeout=20)
        last = [json.loads(event.data) for event in client.events if event.kind == "session"][-1]
        assert (last["status"], last["ended_ms"]) == ("ended", 1 << 42)
        async with httpx.AsyncClient(verify=PLAIN) as http:
            for each in (server, other):
                answer = await http.get(each.url + PATH, headers={"Last-Event-ID": client.reader.last_id})
                assert (answer.status_code, answer.content) == (204, b"")
        earlier = client.events[-2].id
        assert {event.kind for event in await whole(server.url + PATH, earlier)} == {"session"}


# what can't be gone on with


def _text(position: Position) -> str:
    return head_text(position.head())


HERE = node_code("ab" * 28)
HOSTILE: dict[str, bytes] = {
    "a number": b"5",
    "negative": b"-1",
    "zero": b"0",
    "words": b"SELECT * FROM segments; --",
    "a path": b"../../../etc/passwd",
    "binary": bytes(range(128, 256)),
    "unicode": "💥é".encode(),
    "dots": b"." * 100,
    "one dot": b".",
    "our sign for too long": b"!",
    "a wrong version": base64.urlsafe_b64encode(b"\x02\x00"),
    "a head alone": base64.urlsafe_b64encode(b"\x01" + b"\x00" * 3),
    "an unknown record": base64.urlsafe_b64encode(b"\x01\x09\x00\x00"),
    "a number without end": base64.urlsafe_b64encode(b"\x01\x03" + b"\xff" * 1000),
    "a number over 63 bits": base64.urlsafe_b64encode(b"\x01\x03" + b"\xff" * 9 + b"\x01"),
    "as long as may be": b"A" * MAX_TEXT,
    "longer": b"A" * (MAX_TEXT + 1),
    "much longer": b"A" * 50_000,
    "a segment that never was": _text(Position(seqs={HERE: 1 << 62})).encode(),
    "a segment that is not yet": _text(Position(seqs={HERE: 77})).encode(),
    "another store's node": _text(Position(seqs={b"12345": 3})).encode(),
    "all of that": _text(Position(seqs={bytes([n] * 5): n + 1 for n in range(200)})).encode(),
}


async def test_what_is_no_position_of_this_session_is_said_and_the_stream_goes_on(store: MemoryStore) -> None:
    async with live_server(store) as server:
        world = World(store, server)
        world.push(1)
        for number, (name, text) in enumerate(HOSTILE.items(), 100):
            async with await anyio.connect_tcp("127.0.0.1", server.port) as raw:
                head = b"GET " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nLast-Event-ID: " + text
                await raw.send(head + b"\r\n\r\n")
                events = await read(raw, 2)
                assert [event.kind for event in events] == ["session", "resync"], name
                assert json.loads(events[1].data)["reason"] in (
                    "nothing can be made of the position",
                    "is of another session, or of another store",
                ), name
                world.push(number)
                assert [json.loads(event.data)["state"] for event in await read(raw, 3)][-1] == "FINISHED", name
            async with back(server.url + PATH, events[1].id) as client:
                await there(client, number)
                assert len(client.told("task")) == 3, name


async def read(raw: anyio.abc.SocketStream, count: int) -> list[ServerEvent]:
    """So many events, out of whatever the bytes come in."""
    reader, found = EventReader(), []
    with anyio.fail_after(10):
        while len(found) < count:
            found += reader.feed(await raw.receive())
    assert len(found) == count
    return found


async def test_places_that_never_were_hide_nothing_from_others(store: MemoryStore) -> None:
    """A position may say that it was told what nobody has said yet: that is between the client and itself."""
    far = Position(places={source_code("ab" * 28, "spool/1.jsonl"): (1 << 62, 1 << 62), b"sixsix": (5, 5)})
    async with live_server(store) as server:
        world = World(store, server)
        world.push(1)
        async with following(server.url + PATH) as other, back(server.url + PATH, _text(far)) as client:
            world.push(LAST)
            await there(other)
            assert client.told("task") == []
            assert len(other.told("task")) == 3


async def test_positions_that_were_tampered_with_break_nothing(store: MemoryStore) -> None:
    draw = random.Random(11)
    async with live_server(store) as server:
        world = World(store, server)
        world.push(1)
        await world.seal()
        world.push(2)
        async with following(server.url + PATH) as client:
            world.push(3)
            await there(client, 3)
        known = [event.id for event in client.events]
        with capture_logs() as logs:
            for _ in range(60):
                raw = bytearray(draw.choice(known).encode())
                for _ in range(draw.randrange(1, 4)):
                    raw[draw.randrange(len(raw))] = draw.choice(b"ABCxyz019-_.=")
                async with back(server.url + PATH, raw.decode()) as it:
                    assert it.status == 200
        assert [each for each in logs if each["log_level"] in ("error", "critical")] == []
        async with back(server.url + PATH, client.events[0].id) as it:
            await there(it, 3)


@pytest.mark.parametrize("limit", ["MAX_SEGMENTS", "MAX_BYTES"])
async def test_a_position_too_far_back_is_said_and_the_stream_goes_on(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(catch_up, limit, 3)
    async with live_server(store) as server:
        world = World(store, server)
        async with following(server.url + PATH) as early:
            position = early.events[0].id
        for number in range(5):
            world.push(number)
            await world.seal()
        async with live_server(store) as other:  # which has no ring to look into
            async with back(other.url + PATH, position) as client:
                await client.until(lambda: len(client.events) >= 2, "resync")
                assert [event.kind for event in client.events] == ["session", "resync"]
                assert "lie between" in json.loads(client.events[1].data)["reason"]
                after = client.events[1].id
            async with back(other.url + PATH, after) as client:
                await anyio.wait_all_tasks_blocked()
                assert [event.kind for event in client.events] == ["session"]


async def test_what_neither_memory_nor_the_store_has_any_more_is_said(store: MemoryStore) -> None:
    """A collector died with what it had not sealed, and the server that had heard it was begun again."""
    async with live_server(store) as server:
        world = World(store, server)
        async with following(server.url + PATH) as client:
            world.push(1)
            await there(client, 1)
    async with live_server(store) as server:
        again = Collector(server.app.state.sessions, store)
        again.say("hello")
        async with back(server.url + PATH, client.reader.last_id) as it:
            again.lines = list(world.all[0].lines)
            again.push(finished_task(LAST))
            await again.seal()
            await there(it)
        assert len(it.told("task")) == 3
        assert it.told("resync") == []


async def test_positions_of_another_session_are_not_taken_for_this_one_s(store: MemoryStore) -> None:
    theirs = SessionKey("default", "demo", "session_2026-01-17_02-00-00_123456_1")
    await SegmentWriter(store, theirs).begin()
    async with live_server(store) as server:
        sessions = server.app.state.sessions
        ours, other = Collector(sessions, store), Collector(sessions, store, theirs, "cd" * 28)
        for each in (ours, other):
            each.say("hello")
        other.push(finished_task(1))
        await other.seal()
        async with following(f"{server.url}/sessions/{theirs}/live") as client:
            other.push(finished_task(2))
            await there(client, 2)
        async with back(server.url + PATH, client.reader.last_id) as it:
            await it.until(lambda: it.told("resync"), "resync")
            ours.push(finished_task(LAST))
            await there(it)
            assert len(it.told("task")) == 3


async def test_while_the_store_is_away_who_needs_only_memory_goes_on_and_the_others_may_try_again() -> None:
    store = WrappedStore()
    await SegmentWriter(store).begin()
    async with live_server(store) as server:
        world = World(store, server)
        async with following(server.url + PATH) as stayed:
            early = stayed.events[0].id
            world.push(1)
            await there(stayed, 1)
            await world.seal()
            world.push(2)
            await there(stayed, 2)
            recent = stayed.reader.last_id
            store.fail()
            async with back(server.url + PATH, recent) as client:
                world.push(3)
                await there(client, 3)
                assert len(client.told("task")) == 3
            played = Client(server.url + PATH, since="0")
            await played.connect()
            assert [event.kind for event in played.events] == ["session"]
            store.down = None
            played.reader.last_id = ""
            async with following(server.url + PATH, resume=played), back(server.url + PATH, early) as client:
                world.push(LAST)
                for each in (stayed, played, client):
                    await there(each)
                    assert len(each.told("task")) == 12

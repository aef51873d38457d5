"""A session is played again from when one says, in the order of time and at its pace, and goes over into what happens now."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import AsyncIterator
from functools import partial

import anyio
import anyio.lowlevel
import httpx
import pytest
from starlette.applications import Starlette
from support.captures import DATA, posts
from support.pushing import Collector
from support.recorded_store import put_recording
from support.sessions import KEY, NODE, SegmentWriter, defined_task, finished_task, task_id, task_states
from support.streaming import PLAIN, Client, LiveServer, following, live_server

from api.routes import live
from api.streams import replay, stream
from api.streams.replay import Pace
from api.streams.sse_reader import EventReader
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio

PATH = f"/sessions/{KEY}/live"
FIRST_MS = 1768528800000
"""When the tasks of ``support.sessions`` begin; each of their states is a second after the last."""
STATES = ("PENDING_ARGS_AVAIL", "SUBMITTED_TO_WORKER", "RUNNING", "FINISHED")
OTHER = "cd" * 28


class Clock:
    """Time that stands still until the test says otherwise. ``asleep`` are those who wait for it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asleep: list[tuple[float, int, anyio.Event]] = []
        self._count = 0
        self._slept = anyio.Event()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self._count += 1
        bell = anyio.Event()
        heapq.heappush(self.asleep, (self.now + seconds, self._count, bell))
        self._slept.set()
        await bell.wait()

    async def next(self) -> float:
        """Once somebody sleeps: the time at which he wakes."""
        with anyio.fail_after(10):
            while not self.asleep:
                self._slept = anyio.Event()
                await self._slept.wait()
        return self.asleep[0][0]

    def go_to(self, now: float) -> None:
        self.now = now
        while self.asleep and self.asleep[0][0] <= now:
            heapq.heappop(self.asleep)[2].set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(live, "Pace", partial(Pace, clock=clock, sleep=clock.sleep))
    return clock


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await SegmentWriter(store).begin()
    return store


@pytest.fixture
async def over() -> AsyncIterator[LiveServer]:
    """A session that is over: two nodes, whose tasks ran one second after the other's."""
    store = MemoryStore()
    one, other = SegmentWriter(store), SegmentWriter(store, node=OTHER)
    await one.begin(ended_ms=FIRST_MS + 10_000)
    for writer, numbers in ((one, (1, 2)), (other, (11, 12))):
        await writer.write([line for n in numbers for line in defined_task(n) + task_states(n, *STATES)])
    async with live_server(store) as server:
        yield server


async def whole(server: LiveServer, **query: str) -> Client:
    """A stream that ends, to its end."""
    client = Client(server.url + PATH, **query)
    await client.connect()
    assert client.ended
    return client


# at its pace


@pytest.mark.parametrize("speed", [1.0, 4.0, 0.5])
async def test_each_event_comes_when_it_is_due_and_not_before(over: LiveServer, clock: Clock, speed: float) -> None:
    async with following(over.url + PATH, since="0", speed=str(speed)) as client:
        for second in range(4):
            await client.has(4 * (second + 1), "task")
            assert [data["state"] for data in client.told("task")] == [
                s for s in STATES[: second + 1] for _ in range(4)
            ]
            if second == 3:
                break
            due = await clock.next()
            assert due == pytest.approx(100 + (second + 1) / speed, abs=0.001)
            clock.go_to(due - 0.01)
            assert await clock.next() == pytest.approx(due)
            clock.go_to(due)
        await client.until(lambda: client.ended, "end")


async def test_as_fast_as_it_is_read_nobody_sleeps(over: LiveServer, clock: Clock) -> None:
    client = await whole(over, since="0")
    assert len(client.told("task")) == 16
    assert (clock.asleep, clock.now) == ([], 100.0)


@pytest.mark.parametrize("recording", ["posted", "nodes", "tasks", "demo"])
async def test_what_is_played_is_in_the_order_of_time(recording: str) -> None:
    store = MemoryStore()
    key = await put_recording(store, DATA / recording, "default", "demo", ended_ms=1)
    async with live_server(store) as server:
        client = Client(f"{server.url}/sessions/{key}/live", since="0", kind="task,actor,node,job,worker")
        await client.connect()
    times = [data["created_ms"] for data in client.told()]
    assert len(times) > 100
    assert times == sorted(times)


async def test_two_nodes_are_played_beside_each_other(over: LiveServer) -> None:
    client = await whole(over, since="0")
    times = [data["created_ms"] for data in client.told("task")]
    assert times == sorted(times)
    first = {data["task_id"] for data in client.told("task")[:4]}
    assert first == {task_id(number).hex() for number in (1, 2, 11, 12)}


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("recording", ["posted", "nodes", "tasks"])
async def test_what_ray_posted_late_comes_in_its_time_and_resume_knows_where(recording: str, nodes: int) -> None:
    """Ray's posts overlap by a second, so do segments: those of one node, and those of several."""
    store = MemoryStore()
    writers = [SegmentWriter(store, node=f"{number:02x}" * 28) for number in range(nodes)]
    await writers[0].begin(ended_ms=1)
    posted = [line(event) for body in posts(DATA / recording) for event in json.loads(body)]
    for at, start in enumerate(range(0, len(posted), 40)):
        await writers[at % nodes].write(posted[start : start + 40])
    async with live_server(store) as server:
        client = await whole(server, since="0")
        events = [event for event in client.events if event.kind != "session"]
        times = [data["created_ms"] for data in client.told()]
        assert len(times) > 100
        assert times == sorted(times)
        async with httpx.AsyncClient(verify=PLAIN) as http:
            for number in range(0, len(events) - 1, 7):
                rest = await http.get(server.url + PATH, headers={"Last-Event-ID": events[number].id})
                again = [event.data for event in EventReader().feed(rest.content) if event.kind != "session"]
                assert again == [event.data for event in events[number + 1 :]], number


def line(event: dict[str, object]) -> bytes:
    return json.dumps(event).encode() + b"\n"


async def test_a_long_pause_is_filled_with_heartbeats(over: LiveServer, clock: Clock) -> None:
    """At a hundredth of its speed there are 100 seconds between two events: no proxy may take that for silence."""
    async with (
        httpx.AsyncClient(timeout=10, verify=PLAIN) as http,
        http.stream("GET", f"{over.url}{PATH}?since=0&speed=0.01") as answer,
    ):
        got, chunks = b"", answer.aiter_raw()
        while got.count(b"event: task") < 4:
            got += await anext(chunks)
        for _ in range(4):
            due = await clock.next()
            assert due <= clock.now + replay.HEARTBEAT
            clock.go_to(due)
            assert await anext(chunks) == b":\n\n"


# from when on


BEGINS = {
    "0": STATES,
    str(FIRST_MS): STATES,
    str(FIRST_MS + 1): STATES[1:],
    str(FIRST_MS + 2000): STATES[2:],
    str(FIRST_MS + 3001): (),
    str(1 << 52): (),
    "-10s": STATES,
    "-8": STATES[2:],
    "-7500ms": STATES[3:],
    "-0.001h": (),
    "-5m": STATES,
    "-999999999999d": STATES,
}


async def test_it_begins_when_one_says(over: LiveServer) -> None:
    """So long ago is before a session's last word, of one that is over."""
    for since, states in BEGINS.items():
        client = await whole(over, since=since)
        assert [data["state"] for data in client.told("task")] == [state for state in states for _ in range(4)], since
        assert client.told("resync") == []


async def test_so_long_ago_is_before_now_while_the_session_lives(store: MemoryStore) -> None:
    async with live_server(store) as server:
        server.app.state.sessions.live.now_ms = lambda: FIRST_MS + 4000
        collector = Collector(server.app.state.sessions, store)
        collector.say("hello")
        collector.push(defined_task(1) + task_states(1, *STATES))
        for since, count in (("-4s", 4), ("-2s", 2), ("-1ms", 0)):
            async with following(server.url + PATH, since=since, kind="task") as client:
                collector.push(finished_task(99))  # ends the wait, whatever was played
                await client.until(lambda: told_of(client, 99), "task 99")
                played = [data for data in client.told("task") if data["task_id"] == task_id(1).hex()]
                assert len(played) == count, since


def told_of(client: Client, number: int) -> bool:
    return any(data["task_id"] == task_id(number).hex() for data in client.told("task"))


async def test_segments_from_long_before_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """To play the last seconds of a long session is to read the last segments of it."""
    store = CountingStore()
    writer = SegmentWriter(store)
    await writer.begin(ended_ms=FIRST_MS)
    for number in range(64):
        await writer.write(finished_task(number), created_ns=(FIRST_MS - 64_000 + number * 1000) * 1_000_000)
    async with live_server(store) as server:
        async with httpx.AsyncClient(verify=PLAIN) as http:  # its index, which is another matter
            await http.get(f"{server.url}{PATH.replace('/live', '/api/v0/tasks')}")
        store.whole.clear()
        client = await whole(server, since=str(FIRST_MS - 3500))
        assert client.told("resync") == []
        assert 2 <= len(store.whole) <= 5


class CountingStore(MemoryStore):
    """``whole``: the segments that were read to their end."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: list[str] = []

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        if end is None or end > 8 << 20:
            self.whole.append(key)
        return await super().get(key, start=start, end=end)


# over into now


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_written_sealed_and_pushed_meanwhile_comes_once(
    store: MemoryStore, clock: Clock, seed: int
) -> None:
    """A paced replay of a session that goes on, and that is broken off and come back to while it is played."""
    draw = random.Random(seed)
    async with live_server(store) as server:
        collector = Collector(server.app.state.sessions, store)
        collector.say("hello")
        number = 0
        for _ in range(6):
            collector.push(finished_task(number := number + 1))
            if draw.random() < 0.5:
                await collector.seal()
        client = Client(server.url + PATH, since="0", speed=str(draw.choice([0, 1, 10])), kind="task")
        for _ in range(4):
            async with following(client.url, resume=client):
                for _ in range(draw.randrange(1, 4)):
                    collector.push(finished_task(number := number + 1))
                    if draw.random() < 0.4:
                        await collector.seal(tell=draw.random() < 0.8)
                    if clock.asleep:
                        clock.go_to(clock.asleep[0][0])
                    await anyio.lowlevel.checkpoint()
            clock.asleep.clear()
        async with following(client.url, resume=client):
            collector.push(finished_task(number := number + 1))
            with anyio.fail_after(15):
                while not told_of(client, number):
                    if clock.asleep:
                        clock.go_to(clock.asleep[0][0])
                    await anyio.sleep(0.005)
            await client.has(3 * number, "task")
    assert client.told("resync") == []
    assert sorted(client.states()) == sorted(
        (task_id(each).hex(), state) for each in range(1, number + 1) for state in STATES[1:]
    )


async def test_an_ended_session_s_replay_ends_and_is_over_for_who_comes_back(over: LiveServer) -> None:
    client = await whole(over, since="0", kind="job")
    assert [event.kind for event in client.events] == ["session", "session"]
    assert json.loads(client.events[-1].data)["status"] == "ended"
    async with httpx.AsyncClient(verify=PLAIN) as http:
        for headers, query in (
            ({"Last-Event-ID": client.reader.last_id}, {"since": "0"}),
            ({}, {"last_event_id": client.reader.last_id}),
        ):
            assert (await http.get(over.url + PATH, headers=headers, params=query)).status_code == 204


# only so many at a time


async def test_who_has_to_wait_for_his_turn_is_kept_awake_and_gets_it(
    store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.01)
    writer = SegmentWriter(store)
    await writer.write(defined_task(1) + task_states(1, *STATES))
    async with (
        live_server(store, prepare=one_at_a_time) as server,
        following(server.url + PATH, since="0", speed="1") as first,
        httpx.AsyncClient(timeout=10, verify=PLAIN) as http,
    ):
        await first.has(1, "task")
        async with http.stream("GET", f"{server.url}{PATH}?since=0&kind=task") as answer:
            got, chunks = b"", answer.aiter_raw()
            while got.count(b":\n\n") < 3:
                got += await anext(chunks)
            assert b"event: task" not in got
            for _ in range(3):
                clock.go_to(await clock.next())
            await first.has(4, "task")
            while got.count(b"event: task") < 4:
                got += await anext(chunks)


def one_at_a_time(app: Starlette) -> None:
    app.state.hubs.past = anyio.Semaphore(1)


async def test_a_session_without_anything_to_play_begins_with_now(store: MemoryStore) -> None:
    async with live_server(store) as server, following(server.url + PATH, since="0") as client:
        collector = Collector(server.app.state.sessions, store, node=NODE)
        collector.say("hello")
        collector.push(finished_task(1))
        await client.has(3, "task")

"""A stream is what EventSource and proxies take for one: its headers, its first words, its signs of life."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from support.pushing import Collector
from support.sessions import KEY, SegmentWriter, finished_task, tasks
from support.streaming import PLAIN, Client, LiveServer, following, live_server

from api.streams import stream
from api.streams.sse import RETRY_MS
from api.streams.sse_reader import EventReader
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio

PATH = f"/sessions/{KEY}/live"


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await SegmentWriter(store).begin()
    return store


@pytest.fixture
async def server(store: MemoryStore) -> AsyncIterator[LiveServer]:
    async with live_server(store) as server:
        yield server


async def test_a_stream_may_neither_be_kept_nor_packed_nor_held_back(server: LiveServer) -> None:
    asks = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, br, zstd"}
    async with httpx.AsyncClient(verify=PLAIN) as http, http.stream("GET", server.url + PATH, headers=asks) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in answer.headers
        assert "content-length" not in answer.headers
        first = await anext(answer.aiter_raw())
    assert first.startswith(f"retry: {RETRY_MS}\n\nid: ".encode())
    (told,) = EventReader().feed(first)
    assert (told.kind, json.loads(told.data)["session"]) == ("session", KEY.session)


async def test_head_is_answered_as_get_is_and_holds_no_place(server: LiveServer) -> None:
    async with httpx.AsyncClient(verify=PLAIN) as http:
        head = await http.head(server.url + PATH)
        async with http.stream("GET", server.url + PATH) as get:
            wanted = {name: value for name, value in get.headers.items() if name not in ("date", "transfer-encoding")}
    given = {name: value for name, value in head.headers.items() if name not in ("date", "transfer-encoding")}
    assert (head.status_code, head.content, given) == (200, b"", wanted)
    with anyio.fail_after(5):
        while server.app.state.hubs._streams:  # noqa: ASYNC110
            await anyio.sleep(0.01)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_stream_is_only_read(server: LiveServer, method: str) -> None:
    async with httpx.AsyncClient(verify=PLAIN) as http:
        assert (await http.request(method, server.url + PATH)).status_code == 405


async def test_silence_is_filled_and_who_comes_back_from_it_is_where_he_was(
    server: LiveServer, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat says the position, too: who was told of nothing that he asked for needn't go through it again."""
    monkeypatch.setattr(stream, "HEARTBEAT", 0.01)
    collector = Collector(server.app.state.sessions, store)
    collector.say("hello")
    async with (
        httpx.AsyncClient(timeout=10, verify=PLAIN) as http,
        http.stream("GET", server.url + PATH, params={"kind": "actor"}) as answer,
    ):
        got, chunks, reader = b"", answer.aiter_raw(), EventReader()
        while got.count(b"\n:\n") < 3:
            got += await anext(chunks)
        collector.push(tasks(20))
        before = got.split(b"\nid: ")[-1].split(b"\n")[0]
        while got.split(b"\nid: ")[-1].split(b"\n")[0] == before:
            got += await anext(chunks)
        assert [event.kind for event in reader.feed(got)] == ["session"]
    assert b"event: task" not in got
    client = Client(server.url + PATH)
    client.reader.last_id = reader.last_id
    async with following(client.url, resume=client):
        collector.push(finished_task(21))
        await client.has(3, "task")
        await anyio.wait_all_tasks_blocked()
    assert len(client.told("task")) == 3


async def test_silence_is_filled_too_where_much_happens_that_nobody_asked_for(
    server: LiveServer, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that cuts what is silent doesn't know why it is."""
    monkeypatch.setattr(stream, "HEARTBEAT", 0.3)
    collector = Collector(server.app.state.sessions, store)
    collector.say("hello")

    async def work() -> None:
        for number in range(1, 1000):
            collector.push(finished_task(number))
            await anyio.sleep(0.02)

    async with (
        httpx.AsyncClient(timeout=10, verify=PLAIN) as http,
        http.stream("GET", server.url + PATH, params={"kind": "actor"}) as answer,
        anyio.create_task_group() as group,
    ):
        group.start_soon(work)
        got, chunks = b"", answer.aiter_raw()
        with anyio.fail_after(5):
            while got.count(b"\n:\n") < 3:
                got += await anext(chunks)
        group.cancel_scope.cancel()
    assert b"event: task" not in got

"""Who may push, and what it may cost: refused with the reason, bounded in every way, answered when the next is welcome."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import msgspec
import pytest
import structlog
from httpx import ASGITransport
from structlog.testing import capture_logs
from support.sessions import KEY, NODE, SegmentWriter, tasks

from api.app import create_app
from api.groups import first_error
from api.live import live, push
from api.live.live import LEAST_WITHIN
from api.session.sessions import Sessions
from pipeline.config import ServerConfig, StoreConfig
from pipeline.push.pushed import MAX_PACKED, MEDIA_TYPE, Answer, Push, Word, decode_answer, pack_push
from pipeline.segments.segment import Span
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio

SOURCE = "spool/1.jsonl"
TOKEN = "a-token-that-is-long-enough"


class Server:
    """The application, and a collector that says one message at a time."""

    def __init__(self, app: Any, client: httpx.AsyncClient) -> None:
        self.app, self.client = app, client
        self.sessions: Sessions = app.state.sessions

    async def say(self, message: Push, body: bytes = b"") -> httpx.Response:
        return await self.send(message, pack_push(message, [body]))

    async def send(self, to: Push, data: bytes, **headers: str) -> httpx.Response:
        path = f"/v1/push/{to.namespace}/{to.cluster}/{to.session}/{to.node}"
        return await self.client.post(path, content=data, headers={"Content-Type": MEDIA_TYPE} | headers)

    async def told(self, message: Push, body: bytes = b"") -> Answer:
        answer = await self.say(message, body)
        assert answer.status_code == 200, answer.text
        return decode_answer(answer.content)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def server(store: MemoryStore) -> AsyncIterator[Server]:
    async with running(store) as it:
        yield it


@asynccontextmanager
async def running(store: MemoryStore, *, peer: str = "127.0.0.1", **changed: Any) -> AsyncIterator[Server]:
    app = create_app(ServerConfig(store=StoreConfig(url="memory://"), **changed), store)
    transport = ASGITransport(app, client=(peer, 1))
    with first_error():
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://server") as client,
        ):
            yield Server(app, client)


def message(word: Word, start: int = 0, body: bytes = b"", **changed: Any) -> Push:
    span = [Span(SOURCE, "ray_event", start, start + len(body), body.count(b"\n"))] if body else []
    plain = Push(
        namespace=KEY.namespace,
        cluster=KEY.cluster,
        session=KEY.session,
        node=NODE,
        seq=0,
        sources=span,
        reason="push",
        writer="w1",
        word=word,
        role="head",
    )
    return msgspec.structs.replace(plain, **changed)


# who may


async def test_without_a_token_only_this_machine_may_push(store: MemoryStore) -> None:
    for peer, status in (("127.0.0.1", 200), ("::1", 200), ("10.0.0.7", 403), ("", 403)):
        async with running(store, peer=peer) as server:
            assert (await server.say(message("hello"))).status_code == status


async def test_with_a_token_whoever_says_it_may_push_and_nobody_else(store: MemoryStore) -> None:
    said: dict[str, int] = {
        f"Bearer {TOKEN}": 200,
        f"Bearer {TOKEN}x": 403,
        "Bearer ": 403,
        "Bearer \xe4": 403,
        f"Basic {TOKEN}": 401,
        TOKEN: 401,
    }
    async with running(store, peer="10.0.0.7", push_token=TOKEN) as server:
        for header, status in said.items():
            data = pack_push(message("hello"), [])
            answer = await server.send(message("hello"), data, Authorization=header.encode("latin-1"))
            assert answer.status_code == status, header
        without = await server.say(message("hello"))
        assert (without.status_code, without.headers["www-authenticate"]) == (401, "Bearer")


async def test_no_log_line_and_no_answer_has_a_token_in_it(store: MemoryStore) -> None:
    structlog.reset_defaults()
    with capture_logs() as lines:
        async with running(store, push_token=TOKEN) as server:
            answers = [
                await server.send(message("hello"), b"nonsense", Authorization=f"Bearer {TOKEN}{more}")
                for more in ("", "-wrong")
            ]
    assert [answer.status_code for answer in answers] == [400, 403]
    assert TOKEN not in repr(lines) + "".join(answer.text for answer in answers)


async def test_a_page_in_a_browser_may_not_push(server: Server) -> None:
    data = pack_push(message("hello"), [])
    assert (await server.send(message("hello"), data, Origin="http://evil")).status_code == 415
    for kind in ("text/plain", "application/json", ""):
        assert (await server.send(message("hello"), data, **{"Content-Type": kind})).status_code == 415
    assert (await server.client.options("/v1/push/a/b/c/d")).status_code == 405


# what is taken


async def test_what_is_no_push_is_refused_with_the_reason(server: Server) -> None:
    other = message("hello", session="session_2026-01-16_02-00-00_123456_2")
    refusals = [
        (await server.send(message("hello"), b""), 400, "zstd"),
        (await server.send(message("hello"), b"\x28\xb5\x2f\xfd rubbish"), 400, ""),
        (await server.send(message("hello"), pack_push(other, [])), 400, "the header is of"),
        (
            await server.client.post("/v1/push/a/b/c/..%2Fd", content=b"x", headers={"Content-Type": MEDIA_TYPE}),
            404,
            "",
        ),
        (
            await server.client.post("/v1/push/a/b/_c/d", content=b"x", headers={"Content-Type": MEDIA_TYPE}),
            400,
            "name",
        ),
        (await server.client.get("/v1/push/a/b/c/d"), 405, ""),
    ]
    for answer, status, reason in refusals:
        assert answer.status_code == status
        assert reason in answer.text


async def test_a_push_says_its_length_and_is_not_too_long(server: Server) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield pack_push(message("hello"), [])

    path = f"/v1/push/{KEY}/{NODE}"
    kind = {"Content-Type": MEDIA_TYPE}
    assert (await server.client.post(path, content=parts(), headers=kind)).status_code == 411
    too_long = {"Content-Length": str(MAX_PACKED + 1)} | kind
    assert (await server.client.post(path, content=parts(), headers=too_long)).status_code == 413


async def test_all_that_arrives_at_once_is_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    arriving, go = anyio.Event(), anyio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        arriving.set()
        await go.wait()
        yield data

    data = pack_push(message("hello"), [])
    monkeypatch.setattr(push, "ARRIVING", len(data) + 10)
    headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(data))}
    async with anyio.create_task_group() as group:

        async def first() -> None:
            answer = await server.client.post(f"/v1/push/{KEY}/{NODE}", content=slowly(), headers=headers)
            assert answer.status_code == 200

        group.start_soon(first)
        await arriving.wait()
        full = await server.say(message("hello"))
        assert (full.status_code, full.headers["retry-after"]) == (503, "1")
        go.set()
    assert (await server.say(message("hello"))).status_code == 200


async def test_a_node_has_only_so_many_messages_under_way(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LEAST_HOLD", 3600.0)
    monkeypatch.setattr(live, "LONGEST_HOLD", 3600.0)
    assert (await server.say(message("hello"))).status_code == 200
    async with anyio.create_task_group() as group:
        for _ in range(push.UNDER_WAY):
            group.start_soon(server.say, message("alive"))
        with anyio.fail_after(5):
            while server.sessions.live._held[KEY, NODE] < push.UNDER_WAY:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        assert (await server.say(message("alive"))).status_code == 429
        assert (await server.say(message("alive", node="b2" * 28))).status_code == 200
        server.sessions.live.close()


# what is said


async def test_who_is_not_known_is_told_to_say_hello(server: Server) -> None:
    body = b"".join(tasks(1))
    assert (await server.told(message("batch", 0, body), body)).again
    assert (await server.told(message("alive"))).again
    assert not (await server.told(message("hello"))).again
    assert (await server.told(message("batch", 0, body), body)).cursor == {SOURCE: len(body)}
    assert (await server.told(message("hello"))).cursor == {SOURCE: len(body)}
    assert (await server.told(message("alive", writer="w2"))).again
    assert (await server.told(message("hello", writer="w2"))).cursor == {SOURCE: len(body)}


async def test_what_is_sealed_is_no_more_in_the_cursor(server: Server) -> None:
    body = b"".join(tasks(1))
    await server.told(message("hello"))
    await server.told(message("batch", 0, body), body)
    await server.told(message("sealed", 0, body, seq=1))
    assert (await server.told(message("hello"))).cursor == {}
    assert server.sessions.live.ring.batches(KEY) == []


async def test_who_pushes_what_nobody_watches_waits_for_its_answer_until_somebody_does(
    store: MemoryStore, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LEAST_HOLD", 3600.0)
    monkeypatch.setattr(live, "LONGEST_HOLD", 3600.0)
    await SegmentWriter(store).begin()
    await server.told(message("hello"))
    answers: list[Answer] = []

    async def wait() -> None:
        answers.append(await server.told(message("alive")))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        async with server.sessions.watch(KEY):
            pass
    assert answers == [Answer(watched=True, within=LEAST_WITHIN)]


async def test_senders_that_nobody_waits_for_slow_down_as_they_become_many(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def note(delay: float | None, shield: bool = False) -> anyio.CancelScope:
        waited.append(delay or 0)
        return anyio.CancelScope()

    monkeypatch.setattr(live.anyio, "move_on_after", note)
    async with anyio.create_task_group() as group:
        for number in range(1000):
            group.start_soon(server.sessions.live.hold, KEY, f"{number:056x}")
        with anyio.fail_after(10):
            while len(waited) < 1000:  # noqa: ASYNC110
                await anyio.sleep(0.001)
        server.sessions.live.close()
    assert waited[0] == live.LEAST_HOLD
    assert waited[-1] == live.LONGEST_HOLD
    assert waited == sorted(waited)


async def test_sessions_that_nobody_watches_cost_a_bounded_ring_and_no_index(store: MemoryStore) -> None:
    body = b"".join(tasks(20))
    limit = 400_000
    async with running(store, live_bytes=limit) as server:
        live_ = server.sessions.live
        live_.close()  # no waiting for answers
        for number in range(100):
            named = {"session": f"session_2026-01-16_02-00-00_123456_{number}"}
            await server.told(message("hello", **named))
            for at in range(5):
                await server.told(message("batch", at * len(body), body, **named), body)
            assert live_.ring.nbytes <= limit
        assert server.sessions.nbytes == 0
        assert live_.ring.dropped > 0


async def test_a_hostile_push_to_a_watched_session_harms_nobody(store: MemoryStore, server: Server) -> None:
    writer = SegmentWriter(store)
    await writer.begin()
    await writer.write(tasks(2))
    end = writer.ends["spool/1.jsonl"]
    async with server.sessions.watch(KEY) as reader:
        await server.told(message("hello"))
        rubbish = b"\xff\x00{" * 50 + b"\n" + b"[" * 5000 + b"\n"
        await server.told(message("batch", end, rubbish), rubbish)
        await server.told(message("sealed", 0, b"x" * 99, seq=1 << 50))
        body = b"".join(tasks(3, first=3))
        await server.told(message("batch", end + len(rubbish), body), body)
        with anyio.fail_after(5):
            while reader.completeness.records < 4 + 2 + 6:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        assert reader.completeness.rejected_count == 2
        await writer.write(tasks(1, first=9), start=end + len(rubbish) + len(body))
    answer = await server.client.get(f"/sessions/{KEY}/api/v0/tasks")
    assert answer.json()["data"]["result"]["total"] == 5

"""Ray's posts are answered 200 once they are durable; what can't be taken is refused with a reason, within bounds."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import structlog
import uvicorn
from anyio import to_thread
from blockbuster import blockbuster_ctx
from support.posted import SESSION, body, event, line, quarantined, spooled

from pipeline.receive import ingest
from pipeline.receive.ingest import Metrics, Outcome, ingest_app
from pipeline.receive.spool import Spool

pytestmark = pytest.mark.anyio


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, limit_bytes=1 << 30)


@asynccontextmanager
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app itself; nothing may block the event loop meanwhile."""
    transport = httpx.ASGITransport(app)
    with blockbuster_ctx():
        async with httpx.AsyncClient(transport=transport, base_url="http://collector") as http:
            yield http


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_a_post_is_answered_with_what_became_of_it(tmp_path: Path, spool: Spool) -> None:
    async with client(ingest_app(spool)) as http:
        answer = await http.post("/v1/events", content=body([1, 2]))
        assert (answer.status_code, answer.json()) == (200, {"accepted": 2, "duplicates": 0, "quarantined": 0})
        answer = await http.post("/v1/events", content=b"[" + line(2) + b"," + line(3) + b",{}]")
        assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "duplicates": 1, "quarantined": 1})
        answer = await http.post("/v1/events", content=b"nonsense")
        assert (answer.status_code, answer.json()) == (200, {"accepted": 0, "duplicates": 0, "quarantined": 1})
        assert (await http.get("/v1/events")).status_code == 405
    assert spooled(tmp_path) == [1, 2, 3]
    assert [one["raw"] for one in quarantined(tmp_path)] == ["{}", "nonsense"]


async def test_a_bad_record_is_named_with_why_whose_and_where(tmp_path: Path, spool: Spool) -> None:
    async with client(ingest_app(spool)) as http:
        with structlog.testing.capture_logs() as said:
            await http.post("/v1/events", json=[event(1, timestamp="yesterday")])
    [entry] = said
    assert entry["log_level"] == "error"
    assert (entry["why"], entry["session"]) == ("malformed", SESSION)
    assert "yesterday" in entry["detail"]
    assert "yesterday" in (tmp_path / entry["file"]).read_text()


async def test_many_bad_records_do_not_flood_the_log(tmp_path: Path, spool: Spool) -> None:
    async with client(ingest_app(spool)) as http:
        with structlog.testing.capture_logs() as said:
            await http.post("/v1/events", json=list(range(500)))
    assert len(said) == ingest.NAMED + 1
    assert said[-1]["count"] == 500 - ingest.NAMED
    assert len(quarantined(tmp_path)) == 500


async def test_a_body_over_the_limit_is_refused_before_it_is_read(tmp_path: Path, spool: Spool) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1 << 30:
            sent += 1000
            yield b" " * 1000

    async with client(ingest_app(spool, body_limit=10_000)) as http:
        declared = await http.post("/v1/events", content=b" " * 10_001)
        assert declared.status_code == 413
        streamed = await http.post("/v1/events", content=endless())
        assert streamed.status_code == 413
        assert "10000 bytes" in streamed.json()["error"]
        assert sent <= 12_000
        padded = body([1]) + b" " * (10_000 - len(body([1])))
        assert (await http.post("/v1/events", content=pieces(padded))).status_code == 200
    assert spooled(tmp_path) == [1]


async def test_a_packed_body_is_unpacked_within_the_limit(tmp_path: Path, spool: Spool) -> None:
    packed = {"Content-Encoding": "gzip"}
    async with client(ingest_app(spool, body_limit=50_000)) as http:

        async def post(data: bytes, headers: dict[str, str] = packed) -> httpx.Response:
            return await http.post("/v1/events", content=data, headers=headers)

        assert (await post(gzip.compress(body([1])))).json()["accepted"] == 1
        two = gzip.compress(body([2])[:100]) + gzip.compress(body([2])[100:])
        assert (await post(two)).json()["accepted"] == 1
        bomb = await post(gzip.compress(b" " * 10_000_000))
        assert (bomb.status_code, "50000 bytes" in bomb.text) == (413, True)
        assert (await post(body([3]))).json()["accepted"] == 1, "not packed at all"
        for broken in (gzip.compress(body([4]))[:-9], gzip.compress(b"") * 1000):
            assert (await post(broken)).json()["quarantined"] == 1
        assert (await post(body([3]), {"Content-Encoding": "br"})).status_code == 415
    assert spooled(tmp_path) == [1, 2, 3]
    assert [one["why"] for one in quarantined(tmp_path)] == ["malformed"] * 2


async def test_a_full_spool_is_said_and_tried_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_bytes=len(line(1)) * 2, file_bytes=1)
    async with client(ingest_app(spool)) as http:
        assert (await http.get("/readyz")).status_code == 200
        assert (await http.post("/v1/events", content=body([1]))).status_code == 200
        with structlog.testing.capture_logs() as said:
            answer = await http.post("/v1/events", content=body([2]))
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "spool is full" in answer.json()["error"]
        assert said[0]["reason"] == answer.json()["error"]
        ready = await http.get("/readyz")
        assert (ready.status_code, "spool is full" in ready.text) == (503, True)
        assert (await http.get("/livez")).status_code == 200


async def test_bytes_under_way_are_bounded_over_all_posts_and_given_back(tmp_path: Path, spool: Spool) -> None:
    waits, arrived = anyio.Event(), anyio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield body([1])[:150]
        arrived.set()
        await waits.wait()
        yield body([1])[150:]

    outcomes = []
    async with client(ingest_app(spool, body_limit=1000, in_flight_limit=len(body([1])) + 100)) as http:

        async def one() -> None:
            outcomes.append((await http.post("/v1/events", content=slow())).status_code)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            await arrived.wait()
            refused = await http.post("/v1/events", content=body([2]))
            assert refused.status_code == 503
            assert "Retry-After" in refused.headers
            waits.set()
        assert outcomes == [200]
        for _ in range(3):
            assert (await http.post("/v1/events", content=body([2]))).status_code == 200
    assert spooled(tmp_path) == [1, 2]


async def test_a_body_that_does_not_arrive_is_given_up(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "BODY_SECONDS", 0.05)

    async def never() -> AsyncIterator[bytes]:
        yield b"["
        await anyio.sleep_forever()

    async with client(ingest_app(spool)) as http:
        assert (await http.post("/v1/events", content=never())).status_code == 408


async def test_a_sender_that_goes_away_is_no_error_and_gives_its_bytes_back(tmp_path: Path, spool: Spool) -> None:
    app = ingest_app(spool, body_limit=1000, in_flight_limit=1000)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/events",
        "raw_path": b"/v1/events",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("collector", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
    for _ in range(3):
        messages = iter([{"type": "http.request", "body": b"[" * 900, "more_body": True}, {"type": "http.disconnect"}])

        async def receive(messages: Any = messages) -> Any:
            return next(messages)

        async def send(_: Any) -> None:
            pass

        await app(scope, receive, send)
    async with client(app) as http:
        assert (await http.post("/v1/events", content=body([1]))).status_code == 200


async def test_health_and_metrics_are_there_for_whoever_looks(spool: Spool) -> None:
    counted: list[Outcome] = []
    why: list[str | None] = [None]
    app = ingest_app(
        spool,
        ready=lambda: why[0],
        metrics=Metrics(lambda: (b"posts 1\n", "text/plain; version=0.0.4"), counted.append),
    )
    async with client(app) as http:
        await http.post("/v1/events", content=body([1]))
        await http.post("/v1/events", content=b"", headers={"Content-Encoding": "br"})
        assert [(one.status, one.size) for one in counted] == [(200, len(body([1]))), (415, 0)]
        assert counted[0].result is not None
        assert counted[0].result.accepted == 1
        metrics = await http.get("/metrics")
        assert (metrics.text, metrics.headers["content-type"]) == ("posts 1\n", "text/plain; version=0.0.4")
        why[0] = "Ray isn't up"
        assert ((await http.get("/readyz")).status_code, (await http.get("/readyz")).text) == (503, "Ray isn't up")
    async with client(ingest_app(spool)) as http:
        assert (await http.get("/metrics")).status_code == 404


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """The app on a real port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True


async def test_rays_own_publisher_is_content(tmp_path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    from concurrent.futures import ThreadPoolExecutor

    from ray.dashboard.modules.aggregator.publisher import async_publisher_client as publisher
    from support.protos import EVENT_TYPES, ray_event

    monkeypatch.setattr(publisher, "HTTP_EXPOSABLE_EVENT_TYPES", "ALL")
    batch = publisher.PublishBatch([ray_event(name, seed) for name in EVENT_TYPES for seed in range(20)])
    async with listening(ingest_app(spool)) as url:
        for snake in (False, True):
            with ThreadPoolExecutor(1) as executor:
                sender = publisher.AsyncHttpPublisherClient(
                    f"{url}/v1/events", executor, preserve_proto_field_name=snake
                )
                sent = await sender.publish(batch)
                await sender.close()
            assert sent.is_publish_successful
            assert sent.num_events_published == len(batch.events)
    assert quarantined(tmp_path) == []
    [file] = (tmp_path / "spool").glob("*/*.jsonl")
    stored = [json.loads(one) for one in file.read_bytes().splitlines()]
    assert len(stored) == len(batch.events), "the second post, spelt otherwise, was known"
    assert {one["eventType"] for one in stored} == set(EVENT_TYPES)


async def test_many_senders_at_once_are_all_answered_and_each_record_is_there_once(
    tmp_path: Path, spool: Spool
) -> None:
    answers: list[dict[str, int]] = []

    async def sender(http: httpx.AsyncClient, number: int) -> None:
        for first in range(0, 100, 20):
            start = number * 100 + first
            for _ in range(2):  # the answer was lost
                answer = await http.post("/v1/events", content=body(range(start, start + 20)))
                answers.append(answer.json())

    async with (
        listening(ingest_app(spool)) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as http,
        anyio.create_task_group() as tasks,
    ):
        for number in range(8):
            tasks.start_soon(sender, http, number)
    assert sum(one["accepted"] for one in answers) == 800
    assert sum(one["duplicates"] for one in answers) == 800
    found = await to_thread.run_sync(_spooled(tmp_path))
    assert sorted(found) == list(range(800))


def _spooled(data_dir: Path) -> Callable[[], list[int]]:
    return lambda: spooled(data_dir)

"""Those who run a server can tell how it is: probes, metrics, and one clear line when the store goes or comes."""

from __future__ import annotations

import anyio
import pytest
import structlog
from starlette.types import Message
from support.client import client, running
from support.sessions import KEY, NODE, SegmentWriter, WrappedStore, tasks

from api.health import LAST_RETRY, StoreWatch
from pipeline.errors import Denied, Unavailable

pytestmark = pytest.mark.anyio


async def test_a_server_lives_without_its_store_but_is_not_ready() -> None:
    store = WrappedStore()
    store.fail("no route to host")
    async with client(store) as http:
        assert (await http.get("/livez")).text == "ok\n"
        for path in ("/readyz", "/readz", "/healthz"):
            answer = await http.get(path)
            assert answer.status_code == 503
            assert "no route to host" in answer.text


async def test_a_server_with_its_store_is_ready() -> None:
    async with client(WrappedStore()) as http:
        for path in ("/livez", "/readyz", "/readz", "/healthz"):
            answer = await http.get(path)
            assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_metrics_are_there_for_prometheus() -> None:
    async with client(WrappedStore()) as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert "python_info" in answer.text


class Trial:
    """A watch whose sleeps are counted and take no time."""

    def __init__(self, store: WrappedStore) -> None:
        self.sleeps: list[float] = []
        self.found = 0
        self.now = 0.0
        self.watch = StoreWatch(store, self._find, clock=lambda: self.now, sleep=self._sleep)
        self._store = store
        self.back_after = 8

    async def _find(self) -> None:
        self.found += 1

    async def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        if len(self.sleeps) == self.back_after:
            self._store.down = None
        await anyio.lowlevel.checkpoint()


async def test_an_absent_store_is_said_once_retried_with_backoff_and_said_once_when_it_is_back() -> None:
    store = WrappedStore()
    store.fail("no route to host")
    trial = Trial(store)
    with structlog.testing.capture_logs() as lines:
        async with anyio.create_task_group() as group:
            trial.watch.start(group)
    assert trial.sleeps == [1, 2, 4, 8, 16, LAST_RETRY, LAST_RETRY, LAST_RETRY]
    assert trial.found == 1
    assert trial.watch.problem is None
    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("store can't be reached, trying again", "no route to host"),
        ("store is back", None),
    ]


async def test_a_request_that_finds_the_store_gone_starts_the_watch() -> None:
    trial = Trial(WrappedStore())
    with structlog.testing.capture_logs() as lines:
        async with anyio.create_task_group() as group:
            trial.watch.start(group)
            await anyio.wait_all_tasks_blocked()
            trial.watch.failed(Denied("not allowed"))
            assert trial.watch.problem is None
            trial.watch.failed(Unavailable("gone"))
            trial.watch.failed(Unavailable("gone"))
            assert trial.watch.problem == "gone"
    assert [line["event"] for line in lines] == [
        "store reached",
        "store can't be reached, trying again",
        "store is back",
    ]


async def test_a_store_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.health.CHECK_TIMEOUT", 0.01)
    store = WrappedStore()
    monkeypatch.setattr(store, "check", anyio.sleep_forever)
    async with client(store) as http:
        answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert "no answer within" in answer.text


async def test_the_start_says_which_sessions_there_are() -> None:
    store = WrappedStore()
    await SegmentWriter(store).begin()
    with structlog.testing.capture_logs() as lines:
        async with client(store) as http:
            await http.get("/readyz")
    found = next(line for line in lines if line["event"] == "sessions found")
    assert (found["sessions"], found["newest"], found["store"]) == (1, [str(KEY)], "memory://")
    assert next(line for line in lines if line["event"] == "store reached")["store"] == "memory://"


async def test_a_client_that_goes_away_ends_a_load_that_only_it_waited_for() -> None:
    store = WrappedStore()
    await SegmentWriter(store).write(tasks(1))
    segment = KEY.segment(NODE, 1)
    store.hold(segment)
    sent: list[Message] = []

    async def receive() -> Message:
        await store.asked[segment].wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    path = f"/sessions/{KEY}/api/v0/tasks"
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "root_path": ""}
    async with running(store) as app:
        await app(scope, receive, send)
        await anyio.wait_all_tasks_blocked()
        assert store.cancelled == 1
        assert sent[0]["status"] == 499

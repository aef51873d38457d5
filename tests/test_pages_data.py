"""What the pages are made of, over HTTP: the list of sessions, summaries kept in the store, overviews, comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from support.captures import DATA, head_node
from support.client import client, running
from support.pushing import Collector
from support.recorded_store import put_recording
from support.sessions import (
    NODE,
    SegmentWriter,
    WrappedStore,
    defined_task,
    finished_task,
    running_task,
    task_states,
    tasks,
)

from api.routes.log_ends import LINES, MAX_BYTES
from api.session.overviews import MAX_SEGMENTS, PUT_AGE_MS, SILENT_MS, parse_summary
from api.status import LOST_AFTER_MS
from pipeline.config import LogConfig
from pipeline.errors import Denied
from pipeline.layout import SessionKey
from pipeline.logs.logs import LogFollower
from pipeline.stores.patience import Patience

pytestmark = pytest.mark.anyio

RECORDS = 1_768_528_800_000  # the time of the first record of any made by hand
NOW = RECORDS + 20 * 3_600_000
HOUR = 3_600_000


def key(number: int, namespace: str = "default", cluster: str = "demo") -> SessionKey:
    return SessionKey(namespace, cluster, f"session_2026-01-{number:02d}_02-00-00_000000_1")


async def put(
    store: WrappedStore, known: SessionKey, lines: list[bytes], sealed_ms: int = NOW, **metadata: Any
) -> None:
    writer = SegmentWriter(store, known)
    await writer.begin(**metadata)
    if lines:
        await writer.write(lines, created_ns=sealed_ms * 1_000_000)


async def ask(http: httpx.AsyncClient, path: str, **params: str) -> Any:
    answer = await http.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def at(app: Starlette, now_ms: int) -> None:
    """The server's clock says ``now_ms`` from here on."""
    app.state.overviews.now_ms = lambda: now_ms


def talking_to(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://server")


def names(page: Any) -> list[str]:
    return [row["session"] for row in page["sessions"]]


# -- the list ---------------------------------------------------------------------------------


async def some_sessions() -> WrappedStore:
    store = WrappedStore()
    for day in range(1, 13):
        owner = {"owner_kind": "RayJob", "owner_name": "Nightly"} if day % 4 == 0 else {}
        namespace, cluster = ("team" if day % 3 == 0 else "default"), f"c{day % 2}"
        await put(store, key(day, namespace, cluster), tasks(day), ended_ms=NOW, **owner)
    return store


async def test_the_list_comes_in_pages_newest_first() -> None:
    async with client(await some_sessions()) as http:
        first = await ask(http, "/v1/sessions", limit="5")
        assert (first["total"], first["matched"], first["offset"], first["limit"]) == (12, 12, 0, 5)
        assert names(first) == [key(day).session for day in (12, 11, 10, 9, 8)]
        last = await ask(http, "/v1/sessions", limit="5", offset="10")
        assert names(last) == [key(2).session, key(1).session]
        assert names(await ask(http, "/v1/sessions", offset="500")) == []


@pytest.mark.parametrize(
    ("params", "days"),
    [
        ({"search": "2026-01-07"}, [7]),
        ({"search": "NIGHTLY rayjob"}, [12, 8, 4]),
        ({"search": "team/c1"}, [9, 3]),
        ({"search": "nothing has this"}, []),
        ({"namespace": "team"}, [12, 9, 6, 3]),
        ({"namespace": "tea"}, []),
        ({"namespace": "team", "search": "nightly"}, [12]),
        ({"status": "ended", "namespace": "team"}, [12, 9, 6, 3]),
        ({"status": "lost"}, []),
        ({"sort": "start", "limit": "2"}, [1, 2]),
        ({"sort": "name", "limit": "3"}, [2, 4, 8]),
        ({"sort": "-name", "limit": "2"}, [9, 3]),
    ],
)
async def test_the_list_is_searched_filtered_and_sorted(params: dict[str, str], days: list[int]) -> None:
    async with client(await some_sessions()) as http:
        assert [int(name[16:18]) for name in names(await ask(http, "/v1/sessions", **params))] == days


async def test_the_filters_are_offered_with_their_numbers() -> None:
    async with client(await some_sessions()) as http:
        page = await ask(http, "/v1/sessions", namespace="team", status="live")
    assert page["namespaces"] == {"default": 8, "team": 4}
    assert page["statuses"] == {"ended": 4}
    assert page["matched"] == 0


async def test_what_was_counted_sorts_by_failures_and_the_rest_comes_last() -> None:
    store = WrappedStore()
    await put(store, key(1), tasks(3), ended_ms=NOW)
    await put(store, key(2), defined_task(1) + task_states(1, "RUNNING", "FAILED"), ended_ms=NOW)
    await put(store, key(3), tasks(5), ended_ms=NOW)
    async with client(store) as http:
        for number in (1, 2):
            await ask(http, f"/sessions/{key(number)}/v1/summary")
        for sort, days in (("-failed", [2, 1, 3]), ("failed", [1, 2, 3]), ("-tasks", [1, 2, 3])):
            assert names(await ask(http, "/v1/sessions", sort=sort)) == [key(day).session for day in days]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=-1", "limit=1e3", "limit=٣", "limit=99999999999999999999", "offset=-1", "offset=x",
        "offset=1000001", "sort=size", "sort=--start", "status=open", f"search={'x' * 201}",
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_for_is_refused_with_the_reason(query: str) -> None:
    async with client(await some_sessions()) as http:
        answer = await http.get(f"/v1/sessions?{query}")
    assert answer.status_code == 400
    assert answer.json()["result"] is False
    assert query.split("=")[0] in answer.json()["msg"]


async def test_a_store_that_is_away_is_said_and_never_an_empty_list() -> None:
    store = await some_sessions()
    async with client(store, refresh=0.0) as http:
        store.fail()
        answer = await http.get("/v1/sessions")
    assert answer.status_code == 503
    assert "no route to host" in answer.json()["msg"]


# -- status -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "silent_ms", "status"),
    [
        ({"ended_ms": NOW}, 0, "ended"),
        ({}, LOST_AFTER_MS - 1, "live"),
        ({}, LOST_AFTER_MS, "lost"),
        ({}, 10 * HOUR, "lost"),
    ],
)
async def test_a_session_lives_until_it_says_so_or_falls_silent(
    metadata: dict[str, Any], silent_ms: int, status: str
) -> None:
    store = WrappedStore()
    await put(store, key(1), tasks(1), sealed_ms=NOW - silent_ms, **metadata)
    async with running(store) as app, talking_to(app) as http:
        at(app, NOW)
        assert (await ask(http, f"/sessions/{key(1)}/v1/summary"))["session"]["status"] == status
        assert (await ask(http, "/v1/sessions"))["sessions"][0]["status"] == status


async def test_a_session_nobody_has_looked_at_is_neither_called_live_nor_lost() -> None:
    store = WrappedStore()
    await put(store, key(1), tasks(1), created_ms=NOW - HOUR)
    await put(store, key(2), tasks(1), created_ms=NOW - 1000)
    async with running(store) as app, talking_to(app) as http:
        at(app, NOW)
        rows = {row["session"]: row["status"] for row in (await ask(http, "/v1/sessions"))["sessions"]}
        assert rows == {key(1).session: None, key(2).session: "live"}
        assert len((await ask(http, "/v1/sessions", status="live"))["sessions"]) == 2
        assert (await ask(http, "/v1/sessions", status="lost"))["sessions"] == []


async def test_the_length_is_from_the_first_record_to_the_end_or_now_or_the_last_record() -> None:
    store = WrappedStore()
    near, far = RECORDS - 5000, RECORDS - 30 * HOUR
    await put(store, key(1), [], created_ms=near, ended_ms=near + HOUR)
    await put(store, key(2), tasks(1), created_ms=near, sealed_ms=NOW)
    await put(store, key(3), tasks(1), created_ms=near, sealed_ms=NOW - HOUR)
    await put(store, key(4), tasks(1), created_ms=far, sealed_ms=NOW - HOUR)  # so far apart, one of the clocks is wrong
    async with running(store) as app, talking_to(app) as http:
        at(app, NOW)
        for number in range(1, 5):
            await ask(http, f"/sessions/{key(number)}/v1/summary")
        rows = (await ask(http, "/v1/sessions", sort="name"))["sessions"]
    assert [row["length_ms"] for row in rows] == [HOUR, NOW - RECORDS, 2000, RECORDS + 2000 - far]


# -- summaries --------------------------------------------------------------------------------


async def test_a_session_is_counted_when_someone_looks_and_the_list_shows_it_from_then_on() -> None:
    store = WrappedStore()
    lines = tasks(3) + defined_task(9) + task_states(9, "RUNNING", "FAILED")
    await put(store, key(1), lines, ended_ms=NOW)
    async with client(store) as http:
        assert (await ask(http, "/v1/sessions"))["sessions"][0]["summary"] is None
        found = await ask(http, f"/sessions/{key(1)}/v1/summary")
        listed = (await ask(http, "/v1/sessions"))["sessions"][0]
    assert found["session"]["summary"]["counts"]["tasks"] == {"FINISHED": 3, "FAILED": 1}
    assert (found["session"]["summary"]["records"], found["session"]["summary"]["complete"]) == (8, True)
    assert listed == found["session"]


async def test_the_next_server_finds_the_summary_of_an_ended_session_and_reads_no_segment() -> None:
    store = WrappedStore()
    await put(store, key(1), tasks(3), sealed_ms=NOW, ended_ms=NOW)
    async with running(store) as app, talking_to(app) as http:
        at(app, NOW + HOUR)
        first = await ask(http, f"/sessions/{key(1)}/v1/summary")
    store.gets.clear()
    async with client(store) as http:
        assert await ask(http, f"/sessions/{key(1)}/v1/summary") == first
    assert [name for name in store.gets if "/events/" in name] == []


async def test_a_summary_that_may_grow_is_counted_again() -> None:
    store = WrappedStore()
    writer = SegmentWriter(store, key(1))
    await writer.begin()
    await writer.write(tasks(2), created_ns=NOW * 1_000_000)
    async with running(store, refresh=0.0) as app, talking_to(app) as http:
        at(app, NOW)
        await ask(http, f"/sessions/{key(1)}/v1/summary")
        await writer.write(tasks(2, first=10), created_ns=NOW * 1_000_000)
        again = await ask(http, f"/sessions/{key(1)}/v1/summary")
        assert again["session"]["summary"]["counts"]["tasks"] == {"FINISHED": 4}
        stored = parse_summary(await store.get(key(1).summary))
        assert stored is not None
        assert stored.counts.tasks == {"FINISHED": 2}  # so soon it isn't worth another put
        at(app, NOW + PUT_AGE_MS)
        await ask(http, f"/sessions/{key(1)}/v1/summary")
        stored = parse_summary(await store.get(key(1).summary))
        assert stored is not None
        assert stored.counts.tasks == {"FINISHED": 4}


async def test_the_last_counts_are_kept_however_soon_they_follow_on_others() -> None:
    store = WrappedStore()
    await put(store, key(1), tasks(1), ended_ms=NOW)
    async with running(store) as app, talking_to(app) as http:
        for now_ms, final in ((NOW + 59_000, False), (NOW + 61_000, True)):
            at(app, now_ms)
            await ask(http, f"/sessions/{key(1)}/v1/summary")
            stored = parse_summary(await store.get(key(1).summary))
            assert stored is not None
            assert stored.final is final


async def test_a_lost_session_is_not_looked_at_for_ever() -> None:
    store = WrappedStore()
    await put(store, key(1), tasks(1), sealed_ms=NOW)
    async with running(store, refresh=0.0) as app, talking_to(app) as http:
        at(app, NOW + SILENT_MS + 1)
        assert (await ask(http, f"/sessions/{key(1)}/v1/summary"))["session"]["summary"]["final"] is True
        store.lists.clear()
        await ask(http, f"/sessions/{key(1)}/v1/summary")
    assert [prefix for prefix in store.lists if "events" in prefix] == []


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"not json", b"[" * 100_000, b"\xff\xfe", b"x" * 70_000,
        b'{"counts":{"tasks":{"FAILED":-1}},"records":0,"complete":true,"heard_ms":0,"as_of_ms":0,"final":true}',
        b'{"counts":{},"records":0,"complete":true,"heard_ms":1e300,"as_of_ms":0,"final":true}',
        b'{"counts":{},"records":0,"complete":true,"heard_ms":0,"as_of_ms":0,"final":true,"format":2}',
        json.dumps({"counts": {"tasks": {f"s{n}": 1 for n in range(65)}}, "records": 0, "complete": True, "heard_ms": 0, "as_of_ms": 0, "final": True}).encode(),
    ],
)  # fmt: skip
async def test_a_summary_that_is_none_is_counted_anew(data: bytes) -> None:
    store = WrappedStore()
    await put(store, key(1), tasks(2), ended_ms=NOW)
    await store.put(key(1).summary, data)
    async with client(store) as http:
        found = await ask(http, f"/sessions/{key(1)}/v1/summary")
    assert found["session"]["summary"]["counts"]["tasks"] == {"FINISHED": 2}


class ReadOnlyStore(WrappedStore):
    """A store that may be read only, once ``closed``."""

    closed = False
    refused = 0

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        if self.closed:
            self.refused += 1
            raise Denied("read only")
        return await super().put(key, data, if_absent=if_absent)


async def test_a_store_that_may_only_be_read_is_asked_once_and_answers_all_the_same() -> None:
    store = ReadOnlyStore()
    for number in (1, 2):
        await put(store, key(number), tasks(1), ended_ms=NOW)
    store.closed = True
    async with client(store) as http:
        for number in (1, 2):
            assert (await ask(http, f"/sessions/{key(number)}/v1/summary"))["session"]["summary"]["records"] == 2
    assert store.refused == 1


async def test_a_large_session_is_loaded_for_a_line_only_when_someone_asks_for_it() -> None:
    store = WrappedStore()
    writer = SegmentWriter(store, key(1))
    await writer.begin(ended_ms=NOW)
    for number in range(MAX_SEGMENTS + 1):
        await writer.write(finished_task(number + 1))
    async with client(store) as http:
        found = await ask(http, f"/sessions/{key(1)}/v1/summary")
        assert found["session"]["summary"] is None
        assert found["too_large"] > 0
        assert [name for name in store.gets if "/events/" in name] == []
        found = await ask(http, f"/sessions/{key(1)}/v1/summary", load="1")
        assert found["session"]["summary"]["counts"]["tasks"] == {"FINISHED": MAX_SEGMENTS + 1}
        assert found["too_large"] is None


@pytest.mark.parametrize("rest", ["v1/summary", "v1/overview"])
async def test_a_session_that_is_not_there_is_404_with_the_reason(rest: str) -> None:
    async with client(WrappedStore()) as http:
        for path in (
            f"/sessions/{key(1)}/{rest}",
            f"/sessions/default/demo/latest/{rest}",
            f"/sessions/a/%2e%2e/b/{rest}",
        ):
            answer = await http.get(path)
            assert answer.status_code == 404
            assert answer.json()["result"] is False


# -- overview ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["posted", "export"])
async def test_an_overview_of_a_recorded_session_counts_what_the_live_dashboard_did(dialect: str) -> None:
    expected = json.loads((DATA / dialect / "expected.json").read_bytes())
    store = WrappedStore()
    known = await put_recording(store, DATA / dialect, "default", "demo", ended_ms=NOW)
    async with client(store) as http:
        answer = await ask(http, f"/sessions/{known}/v1/overview", bins="40")
    made = answer["overview"]
    assert made["counts"]["tasks"] == expected["tasks_by_state"]
    assert made["counts"]["actors"] == expected["actors_by_state"]
    assert answer["session"]["summary"]["counts"] == made["counts"]
    assert made["failures"]["total"] == expected["tasks_by_state"]["FAILED"]
    assert sum(row["attempts"] for row in made["names"]) == expected["tasks"]
    assert sum(row["failed"] for row in made["names"]) == expected["tasks_by_state"]["FAILED"]
    assert {len(made["activity"][part]) for part in ("running", "waiting", "finished", "failed")} == {40}
    assert sum(made["activity"]["finished"]) == expected["tasks_by_state"]["FINISHED"]
    assert sum(made["activity"]["failed"]) == expected["tasks_by_state"]["FAILED"]
    assert [node["is_head"] for node in made["nodes"]] == [True]
    assert answer["completeness"] == {"complete": True, "warning": ""}
    told = {(group["error_type"], group["message"]): group["count"] for group in made["failures"]["groups"]}
    assert told["TASK_EXECUTION_EXCEPTION", "ValueError: always fails"] == 2


async def test_an_overview_says_what_the_session_lacks() -> None:
    store = WrappedStore()
    writer = SegmentWriter(store, key(1))
    await writer.begin(ended_ms=NOW)
    await writer.write(tasks(1))
    await writer.write(tasks(1, first=5), start=100_000)
    async with client(store) as http:
        answer = await ask(http, f"/sessions/{key(1)}/v1/overview")
    assert answer["completeness"]["complete"] is False
    assert "missing" in answer["completeness"]["warning"]
    assert answer["session"]["summary"]["complete"] is False


async def test_an_overview_follows_the_session_it_is_of() -> None:
    store = WrappedStore()
    writer = SegmentWriter(store, key(1))
    await writer.begin()
    await writer.write(tasks(2))
    async with client(store, refresh=0.0) as http:
        for wanted in (2, 2, 4):
            if wanted == 4:
                await writer.write(tasks(2, first=10))
            answer = await ask(http, f"/sessions/{key(1)}/v1/overview")
            assert answer["overview"]["counts"]["tasks"] == {"FINISHED": wanted}


async def test_a_session_that_is_heard_again_after_its_end_is_counted_again() -> None:
    store = WrappedStore()
    await put(store, key(1), tasks(2), ended_ms=NOW)
    async with running(store, refresh=0.0) as app, talking_to(app) as http:
        at(app, NOW + 10 * HOUR)
        app.state.sessions.live.now_ms = lambda: NOW + 10 * HOUR
        assert (await ask(http, f"/sessions/{key(1)}/v1/summary"))["session"]["summary"]["final"] is True

        collector = Collector(app.state.sessions, store, key(1), source="spool/2.jsonl")
        collector.say("hello")
        collector.push(finished_task(100))
        [line] = (await ask(http, "/v1/sessions"))["sessions"]
        assert (line["status"], line["summary"]["final"]) == ("live", False), "whoever has the list asks again"
        counted = (await ask(http, f"/sessions/{key(1)}/v1/summary"))["session"]["summary"]
        assert (counted["final"], counted["counts"]["tasks"]) == (False, {"FINISHED": 3})


async def test_the_picture_of_a_session_that_is_heard_goes_on_though_nothing_new_happens() -> None:
    store = WrappedStore()
    await put(store, key(1), running_task(1))
    async with running(store, refresh=0.0) as app, talking_to(app) as http:
        collector = Collector(app.state.sessions, store, key(1), source="spool/2.jsonl")
        for minutes in (1, 2, 60):
            now_ms = RECORDS + minutes * 60_000
            at(app, now_ms)
            app.state.sessions.live.now_ms = lambda now_ms=now_ms: now_ms
            collector.say("hello" if minutes == 1 else "alive")
            picture = (await ask(http, f"/sessions/{key(1)}/v1/overview"))["overview"]["activity"]
            end_ms = picture["start_ms"] + picture["bin_ms"] * len(picture["running"])
            assert end_ms == pytest.approx(now_ms, abs=2 * picture["bin_ms"] + 2000)


@pytest.mark.parametrize("bins", ["0", "501", "-1", "x"])
async def test_a_picture_has_a_sane_number_of_bins(bins: str) -> None:
    async with client(await some_sessions()) as http:
        answer = await http.get(f"/sessions/{key(2, 'default', 'c0')}/v1/overview", params={"bins": bins})
    assert answer.status_code == 400
    assert "bins" in answer.json()["msg"]


async def test_a_session_without_a_task_has_an_overview_too() -> None:
    store = WrappedStore()
    await put(store, key(1), [], ended_ms=NOW)
    async with client(store) as http:
        made = (await ask(http, f"/sessions/{key(1)}/v1/overview"))["overview"]
    assert (made["counts"]["tasks"], made["names"], made["failures"]["groups"]) == ({}, [], [])
    assert made["activity"]["running"] == []


# -- comparison -------------------------------------------------------------------------------


async def test_two_sessions_are_compared_by_name() -> None:
    store = WrappedStore()
    failed = defined_task(9, "load") + task_states(9, "RUNNING", "FAILED")
    await put(store, key(1), finished_task(1, "load") + finished_task(2, "same"), ended_ms=NOW)
    await put(store, key(2), failed + finished_task(1, "load") + finished_task(2, "same") + finished_task(3, "new"))
    async with client(store) as http:
        answer = await ask(http, "/v1/compare", a=str(key(1)), b="default/demo/latest")
    assert (answer["a"]["session"], answer["b"]["session"]) == (key(1).session, key(2).session)
    assert answer["b"]["summary"]["counts"]["tasks"] == {"FINISHED": 3, "FAILED": 1}
    rows = {row["name"]: row["differs"] for row in answer["comparison"]["rows"]}
    assert rows == {"load": ["count", "failed"], "new": ["only_b"], "same": []}
    assert list(rows) == ["load", "new", "same"]
    assert (answer["comparison"]["different"], answer["comparison"]["row_count"]) == (2, 3)
    assert answer["comparison"]["failures"] == [{"error_type": "", "message": "", "a": 0, "b": 1}]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({}, 400),
        ({"a": "default/demo/x"}, 400),
        ({"a": "x", "b": "default/demo/x"}, 400),
        ({"a": "a/b/c/d", "b": "default/demo/x"}, 400),
        ({"a": str(key(1)), "b": "default/demo/none"}, 404),
        ({"a": str(key(1)), "b": "default/../none"}, 404),
    ],
)
async def test_a_comparison_with_nothing_is_refused(params: dict[str, str], status: int) -> None:
    store = WrappedStore()
    await put(store, key(1), tasks(1))
    async with client(store) as http:
        answer = await http.get("/v1/compare", params=params)
    assert answer.status_code == status
    assert answer.json()["msg"]


async def test_nothing_of_these_is_kept_by_caches() -> None:
    store = await some_sessions()
    known = key(12, "team", "c0")
    async with client(store) as http:
        for path in ("/v1/sessions", f"/sessions/{known}/v1/summary", f"/sessions/{known}/v1/overview"):
            assert (await http.get(path)).headers["cache-control"] == "no-store"
    assert NODE in next(name for name in store.gets if "/events/" in name)


# -- the ends of logs -------------------------------------------------------------------------

WORKER = "fac6e0a86610a5774f5caf44cf44b998caf573ddc4ce8a7a4d59415a"
FAILS, FLAKY = "e5cbd90b7f1fb776ffffffffffffffffffffffff02000000", "e082c90ab8422b00ffffffffffffffffffffffff02000000"


async def put_logs(store: WrappedStore, known: SessionKey, folder: Path, logs: dict[str, bytes]) -> None:
    """Log files of the recorded session's node, stored as a collector does."""
    place = folder / known.session / "logs"
    place.mkdir(parents=True)
    for name, content in logs.items():
        (place / name).write_bytes(content)
    node, patience = head_node(DATA / "export"), Patience(store)
    await LogFollower(LogConfig(), store, patience, known, node, folder, until="read").run()


async def test_the_end_of_an_attempts_log_is_bounded_and_says_where_the_rest_is(tmp_path: Path) -> None:
    store = WrappedStore()
    known = await put_recording(store, DATA / "export", "default", "demo", ended_ms=RECORDS)
    lines = b"".join(b"\x1b[31mline %d\x1b[0m\n" % number for number in range(5 * LINES))
    logs = {f"worker-{WORKER}-02000000-25784.err": lines, f"worker-{WORKER}-02000000-25784.out": b"x" * (MAX_BYTES + 9)}
    await put_logs(store, known, tmp_path, logs)
    async with client(store) as http:
        told = await ask(http, f"/sessions/{known}/v1/log_ends", task_id=FAILS, attempt_number="1")
        err, out = told["ends"]
        assert (err["of"], out["of"]) == ("stderr of its worker", "stdout of its worker")
        assert err["text"].split("\n") == [f"line {number}" for number in range(4 * LINES, 5 * LINES)]
        assert out["text"] == "x" * MAX_BYTES
        assert (err["whole"], out["whole"], told["why"]) == (False, False, "")


async def test_a_drivers_log_is_found_by_its_submission_and_can_be_asked_for_whole(tmp_path: Path) -> None:
    store = WrappedStore()
    known = await put_recording(store, DATA / "export", "default", "demo", ended_ms=RECORDS)
    submission = "raysubmit_aa8CPRXuvUK6CrWc"
    await put_logs(store, known, tmp_path, {f"job-driver-{submission}.log": b"said\n"})
    async with client(store) as http:
        (end,) = (await ask(http, f"/sessions/{known}/v1/log_ends", submission_id=submission))["ends"]
        assert (end["of"], end["text"], end["whole"]) == ("driver", "said", True)
        assert (await http.get(f"/sessions/{known}/api/v0/logs/file?{end['query']}")).text == "said\n"


async def test_a_log_that_is_shorter_than_the_attempts_part_is_not_there_yet(tmp_path: Path) -> None:
    store = WrappedStore()
    known = await put_recording(store, DATA / "export", "default", "demo", ended_ms=RECORDS)
    await put_logs(store, known, tmp_path, {f"worker-{WORKER}-02000000-25784.err": b""})
    async with client(store) as http:
        told = await ask(http, f"/sessions/{known}/v1/log_ends", task_id=FLAKY, attempt_number="0")
        assert told == {"ends": [], "why": "it is not in the store yet", "later": True}


@pytest.mark.parametrize("asked", [{"task_id": "ab" * 24}, {"task_id": "zz"}, {"submission_id": "nobody"}])
async def test_a_log_that_nobody_has_is_no_error_but_a_reason(asked: dict[str, str]) -> None:
    store = WrappedStore()
    known = await put_recording(store, DATA / "export", "default", "demo", ended_ms=RECORDS)
    async with client(store) as http:
        told = await ask(http, f"/sessions/{known}/v1/log_ends", **asked)
        assert (told["ends"], told["later"]) == ([], False)
        assert told["why"]


@pytest.mark.parametrize(
    "asked", [{}, {"task_id": "ab", "attempt_number": "-1"}, {"task_id": "ab", "attempt_number": "²"}]
)
async def test_a_question_for_no_log_is_refused(asked: dict[str, str]) -> None:
    store = WrappedStore()
    await put(store, key(1), tasks(1))
    async with client(store) as http:
        answer = await http.get(f"/sessions/{key(1)}/v1/log_ends", params=asked)
        assert answer.status_code == 400
        assert answer.json()["result"] is False

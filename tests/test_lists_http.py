"""Lists beyond Ray's over HTTP: pages of a session that grows, streams of any length, and whatever anyone may ask."""

from __future__ import annotations

import csv
import gzip
import io
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from support.captures import DATA
from support.client import client, running
from support.recorded_store import put_recording
from support.sessions import KEY, SegmentWriter, WrappedStore, defined_task, finishing, running_task, tasks

from api.routes import lists

pytestmark = pytest.mark.anyio

AT = f"/sessions/{KEY}/api/v0"
RESOURCES = (
    "tasks",
    "actors",
    "nodes",
    "workers",
    "jobs",
    "placement_groups",
    "cluster_events",
    "runtime_envs",
    "objects",
)
RAYS = ["total", "num_after_truncation", "num_filtered", "result", "partial_failure_warning", "warnings"]
MANY = 10_500


async def stored(count: int = 5) -> tuple[WrappedStore, SegmentWriter]:
    store = WrappedStore()
    writer = SegmentWriter(store)
    await writer.begin()
    await writer.write(tasks(count))
    return store, writer


async def result(http: httpx.AsyncClient, query: str, resource: str = "tasks") -> dict[str, Any]:
    answer = await http.get(f"{AT}/{resource}?{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]["result"]
    return found


@pytest.mark.parametrize("resource", RESOURCES)
async def test_a_plain_request_is_answered_with_rays_fields_and_no_others(resource: str) -> None:
    store = WrappedStore()
    key = await put_recording(store, DATA / "posted", "default", "demo")
    async with client(store) as http:
        at = f"/sessions/{key}/api/v0/{resource}"
        plain = (await http.get(f"{at}?detail=1")).json()
        assert list(plain) == ["result", "msg", "data"]
        assert list(plain["data"]["result"]) == RAYS
        paged = (await http.get(f"{at}?detail=1&offset=0")).json()
        assert list(paged["data"]["result"]) == [*RAYS, "next_page_token"]
        rows = plain["data"]["result"]["result"]
        lines = (await http.get(f"{at}?detail=1", headers={"Accept": "application/x-ndjson"})).text
        by_name = sorted(rows, key=json.dumps)
        assert sorted(map(json.loads, lines.split("\n")[:-1]), key=json.dumps) == by_name
        table = list(csv.DictReader(io.StringIO((await http.get(f"{at}?detail=1&format=csv")).text)))
        assert len(table) == len(rows)


async def test_pages_of_a_growing_session_have_each_of_the_first_rows_once() -> None:
    store, writer = await stored(0)
    first = range(10, 200, 7)
    for number in first:
        await writer.write(running_task(number))
    async with client(store, refresh=0.0) as http:
        for order in ("", "&sort_by=name", "&sort_by=-creation_time_ms", "&sort_by=-task_id"):
            there = [row["task_id"] for row in (await result(http, "limit=10000"))["result"]]
            seen: list[str] = []
            token: str | None = ""
            grown = 1000 + 100 * len(order)
            while token is not None:
                page = await result(http, f"limit=4&page_token={token}{order}")
                seen += [row["task_id"] for row in page["result"]]
                token = page["next_page_token"]
                await writer.write(running_task(grown))
                await writer.write([*running_task(grown - 5000 if grown > 5000 else 300 + grown), *finishing(10)])
                grown += 1
                assert len(seen) < 1000
            assert set(there) <= set(seen)
            assert len(seen) == len(set(seen))


async def test_a_token_is_good_for_its_own_question_only() -> None:
    store, _ = await stored()
    other = SegmentWriter(store, KEY.__class__(KEY.namespace, KEY.cluster, KEY.session[:-1] + "9"))
    await other.begin()
    async with client(store) as http:
        token = (await result(http, "limit=2&offset=0&sort_by=name"))["next_page_token"]
        again = f"page_token={token}&sort_by=name"
        assert len((await result(http, f"limit=1&detail=1&fields=name&{again}"))["result"]) == 1
        for query in (
            f"page_token={token}",
            f"page_token={token}&sort_by=-name",
            f"{again}&filter_keys=state&filter_predicates=%3D&filter_values=FINISHED",
            f"{again}&start_time_ms=1",
            f"{again}&exclude_driver=0",
        ):
            assert (await http.get(f"{AT}/tasks?{query}")).status_code == 400, query
        assert (await http.get(f"{AT}/nodes?{again}")).status_code == 400
        assert (await http.get(f"/sessions/{other.key}/api/v0/tasks?{again}")).status_code == 400


def forged(told: Any) -> str:
    return urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")


BAD = {
    "page_token=x": "page_token",
    "page_token=%00%ff": "page_token",
    "page_token=ü": "page_token",
    "page_token=" + "A" * 9000: "page_token",
    "page_token=" + urlsafe_b64encode(b"[" * 5000).decode(): "page_token",
    "page_token=" + forged([1, "", None, "x"]): "page_token",
    "page_token=" + forged({"a": 1}): "page_token",
    "page_token=x&offset=1": "exclude",
    "offset=-1": "offset",
    "offset=1e3": "offset",
    "offset=": "offset",
    "offset=" + "9" * 5000: "offset",
    "sort_by=": "Valid columns",
    "sort_by=--name": "Valid columns",
    "sort_by=__class__": "Valid columns",
    "sort_by=nope": "task_id, attempt_number",
    "fields=": "Valid columns",
    "fields=name,,state": "Valid columns",
    "fields=%3Cscript%3E": "Valid columns",
    "start_time_ms=now": "start_time_ms",
    "start_time_ms=-5": "start_time_ms",
    "start_time_ms=9223372036854775808": "start_time_ms",
    "end_time_ms=1.5": "end_time_ms",
    "start_time_ms=5&end_time_ms=4": "after",
    "format=xml": "json, ndjson, csv",
    "format=": "json, ndjson, csv",
    "format=csv&limit=-1": "limit",
    "format=csv&limit=x": "limit",
    "format=csv&sort_by=nope": "Valid columns",
    "format=ndjson&page_token=x": "page_token",
    "format=csv&filter_keys=nope&filter_predicates=%3D&filter_values=1": "nope",
    "limit=10001&sort_by=name": "10000",
}


@pytest.mark.parametrize("query", BAD)
async def test_what_cannot_be_meant_is_a_400_in_rays_shape_that_says_why(query: str) -> None:
    store, _ = await stored()
    async with client(store) as http:
        answer = await http.get(f"{AT}/tasks?{query}")
        assert answer.status_code == 400, answer.text
        assert (answer.json()["result"], answer.json()["data"]) == (False, {"result": None})
        assert BAD[query] in answer.json()["msg"]
        assert len(answer.content) < 2000


@pytest.mark.parametrize(
    "key", [None, [0, 1], [1, "x"], [0, 1e308], [0, True], [2, 2], [1, "x" * 300], [0, "1"], "x", [1]]
)
@pytest.mark.parametrize("name", ["", "zz", "00" * 24, "00" * 24 + ":0", "00" * 24 + ":" + "9" * 500, 7, "x" * 2000])
async def test_a_forged_token_is_refused_or_means_some_place(key: Any, name: Any) -> None:
    store, _ = await stored()
    async with client(store) as http:
        for column in ("task_id", "end_time_ms", "name", "parent_task_id", "error_message", "events"):
            token = (await result(http, f"limit=1&offset=0&sort_by={column}"))["next_page_token"]
            question = json.loads(_decoded(token))[1]
            answer = await http.get(f"{AT}/tasks?sort_by={column}&page_token={forged([1, question, key, name])}")
            assert answer.status_code in (200, 400), answer.text
        rows = await http.get(f"{AT}/nodes?page_token={forged([1, 'q', key, name])}")
        assert rows.status_code == 400


def _decoded(token: str) -> bytes:
    return urlsafe_b64decode(token + "=" * (-len(token) % 4))


ACCEPTS = {
    "*/*": "application/json",
    "text/html,application/xhtml+xml,*/*;q=0.8": "application/json",
    "application/json, text/plain, */*": "application/json",
    "text/csv": "text/csv; charset=utf-8",
    "Application/X-NDJSON": "application/x-ndjson",
    "text/csv;q=0.5, application/x-ndjson": "application/x-ndjson",
    "application/json, text/csv;q=0.9": "application/json",
    "text/csv;q=0": "application/json",
    "text/csv;q=nan;q=x, ;;,,": "application/json",
    "": "application/json",
}


@pytest.mark.parametrize("accept", ACCEPTS)
async def test_the_accept_header_says_the_format_and_the_parameter_overrules_it(accept: str) -> None:
    store, _ = await stored()
    async with client(store) as http:
        answer = await http.get(f"{AT}/tasks", headers={"Accept": accept})
        assert answer.headers["content-type"] == ACCEPTS[accept]
        assert "Accept" in answer.headers["vary"]
        forced = await http.get(f"{AT}/tasks?format=json", headers={"Accept": accept})
        assert forced.headers["content-type"] == "application/json"


async def test_streams_have_all_rows_in_order_however_many_and_say_how_many() -> None:
    store, _ = await stored(MANY)
    async with client(store) as http:
        answer = await http.get(f"{AT}/tasks?format=csv&sort_by=-end_time_ms&fields=task_id,end_time_ms")
        rows = list(csv.reader(io.StringIO(answer.text)))
        assert rows[0] == ["task_id", "end_time_ms"]
        assert int(answer.headers["x-ray-history-rows"]) == len(rows) - 1 == MANY
        times = [float(row[1]) for row in rows[1:]]
        assert times == sorted(times, reverse=True)
        assert len({row[0] for row in rows[1:]}) == MANY
        some = (await http.get(f"{AT}/tasks?format=ndjson&limit=10400&offset=200")).text.split("\n")
        assert len(some) - 1 == 10_300
        assert answer.headers["content-disposition"] == f'attachment; filename="tasks-{KEY.session}.csv"'


async def test_a_stream_is_compressed_for_who_takes_it() -> None:
    store, _ = await stored(3000)
    async with (
        client(store) as http,
        http.stream("GET", f"{AT}/tasks?format=csv", headers={"Accept-Encoding": "gzip"}) as answer,
    ):
        assert answer.headers["content-encoding"] == "gzip"
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    assert len(gzip.decompress(raw).splitlines()) == 3001
    assert len(raw) < 100_000


async def test_texts_that_a_spreadsheet_would_run_are_defused_and_everything_else_comes_back() -> None:
    names = ["=1+1", "+x", "-x", "@x", "\tx", "\rx", "\nx", 'a"b', "a,b", "a\nb", "a\r\nb", "ünï", "x=1", "'", " =1"]
    store, writer = await stored(0)
    for number, name in enumerate(names):
        await writer.write(defined_task(number, name))
    async with client(store) as http:
        text = (await http.get(f"{AT}/tasks?format=csv&fields=name,attempt_number,required_resources,node_id")).text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["name"] for row in rows] == [f"'{name}" if name[0] in "=+-@\t\r\n" else name for name in names]
    assert [json.loads(row["required_resources"]) for row in rows] == [{"CPU": 1.0}] * len(names)
    assert {(row["attempt_number"], row["node_id"]) for row in rows} == {("0", "")}


# -- streams while other things happen ------------------------------------------------------------


Meanwhile = Callable[[int], Awaitable[None]]


async def streamed(app: Starlette, query: str, meanwhile: Meanwhile, *, gone_after: int | None = None) -> bytes:
    """A stream whose client does something after each piece, and may go away after some."""
    pieces: list[bytes] = []
    gone = anyio.Event()
    started = False

    async def receive() -> dict[str, Any]:
        nonlocal started
        if not started:
            started = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
            return
        pieces.append(message.get("body", b""))
        await meanwhile(len(pieces))
        if gone_after == len(pieces):
            gone.set()
            await anyio.sleep_forever()

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
             "scheme": "http", "path": f"{AT}/tasks", "raw_path": b"", "root_path": "", "query_string": query.encode(),
             "headers": [], "server": ("s", 80), "client": ("c", 1)}  # fmt: skip
    await app(scope, receive, send)  # type: ignore[arg-type]
    return b"".join(pieces)


async def nothing(pieces: int) -> None:
    return None


async def test_a_stream_has_the_rows_there_were_at_its_beginning_while_others_come_and_answers_are_given() -> None:
    store, writer = await stored(3000)
    async with running(store, refresh=0.0) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            totals: list[int] = []

            async def grow(pieces: int) -> None:
                await writer.write(tasks(1, first=10_000 + pieces))
                totals.append((await result(http, "limit=1"))["total"])

            text = await streamed(app, "format=csv&fields=task_id", grow)
            whole = await result(http, "limit=10000")
    rows = text.decode().split()[1:]
    assert len(totals) > 3
    assert totals == sorted(set(totals))
    assert totals[0] > 3000
    assert rows == [row["task_id"] for row in whole["result"]][:3000]


async def test_a_client_that_goes_away_ends_its_stream() -> None:
    store, _ = await stored(3000)
    async with running(store) as app:
        with anyio.fail_after(20):
            text = await streamed(app, "format=ndjson", nothing, gone_after=2)
        assert 0 < len(text.splitlines()) < 3000
        assert app.state.streams == 0


async def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "PATIENCE", 0.05)
    store, _ = await stored(3000)

    async def stuck(pieces: int) -> None:
        await anyio.sleep_forever()

    async with running(store) as app:
        with anyio.fail_after(20):
            await streamed(app, "format=ndjson", stuck)
        assert app.state.streams == 0


async def test_more_streams_than_there_is_room_for_are_told_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MAX_STREAMS", 1)
    store, _ = await stored(600)
    async with running(store) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            statuses: list[int] = []

            async def another(pieces: int) -> None:
                answer = await http.get(f"{AT}/tasks?format=csv")
                statuses.append(answer.status_code)
                assert int(answer.headers["retry-after"]) > 0

            await streamed(app, "format=csv", another)
            assert set(statuses) == {503}
            assert (await http.get(f"{AT}/tasks?format=csv")).status_code == 200
            assert (await http.head(f"{AT}/tasks?format=csv")).headers["x-ray-history-rows"] == "600"


async def test_a_browser_gets_secrets_masked_in_streams_and_cannot_sort_by_them() -> None:
    store, writer = await stored(0)
    (line,) = defined_task(1)
    said = json.loads(line)
    said["taskDefinitionEvent"]["serializedRuntimeEnv"] = json.dumps({"env_vars": {"KEY": "hush"}})
    await writer.write([json.dumps(said).encode() + b"\n"])
    browser = {"User-Agent": "Mozilla/5.0"}
    async with client(store) as http:
        for form in ("json", "ndjson", "csv"):
            asked = f"{AT}/tasks?format={form}&fields=runtime_env_info"
            assert "hush" in (await http.get(asked)).text
            shown = (await http.get(asked, headers=browser)).text
            assert "KEY" in shown
            assert "hush" not in shown
            by_secret = f"{asked}&sort_by=-runtime_env_info"
            assert (await http.get(by_secret)).status_code == 200
            assert (await http.get(by_secret, headers=browser)).status_code == 403

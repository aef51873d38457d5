"""What the server answers, at which address, in which shape."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from support.client import client, running
from support.sessions import KEY, SegmentWriter, WrappedStore, finished_task, finishing, running_task, tasks

from pipeline.layout import SessionKey

pytestmark = pytest.mark.anyio

AT = f"/sessions/{KEY}"
LISTS = ("tasks", "actors", "nodes", "workers", "jobs", "placement_groups")
PAGES = (
    *(f"/api/v0/{name}" for name in LISTS),
    "/api/v0/tasks/summarize",
    "/api/v0/tasks/summarize?summary_by=lineage",
    "/api/v0/actors/summarize",
    "/api/v0/tasks/timeline",
    "/api/v0/cluster_metadata",
    "/logical/actors",
    "/logical/actors/00",
    "/nodes?view=summary",
    "/nodes?view=hostNameList",
    "/api/jobs",
    "/api/jobs/",
    "/events",
    "/events?job_id=01000000",
    "/api/version",
    "/timezone",
    "/completeness",
    "/progress",
)


async def a_session(**known: Any) -> WrappedStore:
    store = WrappedStore()
    writer = SegmentWriter(store)
    await writer.begin(**known)
    await writer.write(finished_task(1, "leaf") + running_task(2, "root"))
    return store


def rows(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]["result"]["result"]
    return found


def refusal(answer: httpx.Response, status: int) -> str:
    """The reason, in Ray's shape and nothing else."""
    assert answer.status_code == status, answer.text
    said = answer.json()
    assert said.keys() == {"result", "msg", "data"}
    assert said["result"] is False
    return str(said["msg"])


@pytest.mark.parametrize("path", PAGES)
async def test_every_address_answers_under_the_prefix_and_after_entering(path: str) -> None:
    async with client(await a_session()) as http:
        assert (await http.get(AT + path)).status_code == 200
        assert (await http.get(f"/enter_cluster/{KEY}")).status_code == 200
        by_cookie = await http.get(path)
        assert by_cookie.status_code == 200
        assert by_cookie.json() == (await http.get(AT + path)).json()


@pytest.mark.parametrize("name", LISTS)
async def test_lists_have_rays_envelope(name: str) -> None:
    async with client(await a_session()) as http:
        answer = (await http.get(f"{AT}/api/v0/{name}")).json()
    assert answer.keys() == {"result", "msg", "data"}
    assert answer["result"] is True
    assert answer["data"]["result"].keys() == {
        "total",
        "num_after_truncation",
        "num_filtered",
        "result",
        "partial_failure_warning",
        "warnings",
    }


async def test_filters_detail_and_limit_are_heeded() -> None:
    async with client(await a_session()) as http:
        url = f"{AT}/api/v0/tasks"
        finished = {"filter_keys": "state", "filter_predicates": "=", "filter_values": "finished"}
        assert [row["name"] for row in rows(await http.get(url, params=finished))] == ["leaf"]
        assert len(rows(await http.get(url, params={"limit": 1}))) == 1
        assert "creation_time_ms" not in rows(await http.get(url))[0]
        assert "creation_time_ms" in rows(await http.get(url, params={"detail": "true"}))[0]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=abc", "invalid literal"),
        ("limit=20000", "exceeds the supported limit 10000"),
        ("filter_keys=bogus&filter_predicates=%3D&filter_values=1", "bogus is not supported"),
        ("&".join(["filter_keys=state&filter_predicates=%3D&filter_values=x"] * 201), "more than 200 filters"),
        (f"x={'y' * 40_000}", "query string is over the limit"),
        ("detail=maybe", "maybe"),
    ],
)
async def test_bad_queries_get_rays_refusal(query: str, said: str) -> None:
    async with client(await a_session()) as http:
        answer = await http.get(f"{AT}/api/v0/tasks?{query}")
    assert said in refusal(answer, 400)
    assert answer.json()["data"] == {"result": None}


@pytest.mark.parametrize(
    "path",
    [
        "/api/v0/nonsense",
        "/api/v0/tasks/",
        "/nothing",
        "/api",
        f"{AT}/api/v0/platform_events",
        f"{AT}/index.html",
        f"{AT}/sessions",
        "/static/js/x.js",
        "/sessions",
        "/sessions/a/b",
        "/%2e%2e/%2e%2e/etc/passwd",
        f"{AT}/..%2f..%2fmetadata.json",
    ],
)
async def test_unknown_addresses_are_404_in_rays_shape_never_a_page(path: str) -> None:
    async with client(await a_session()) as http:
        assert refusal(await http.get(path), 404)
        assert (await http.head(path)).status_code == 404


async def test_other_methods_are_refused_in_rays_shape() -> None:
    async with client(await a_session()) as http:
        for method in ("POST", "PUT", "DELETE"):
            assert refusal(await http.request(method, f"{AT}/api/v0/tasks"), 405)


async def test_head_has_the_headers_of_get() -> None:
    async with client(await a_session()) as http:
        head, get = await http.head(f"{AT}/api/v0/tasks"), await http.get(f"{AT}/api/v0/tasks")
    assert head.status_code == 200
    assert head.headers["content-type"] == get.headers["content-type"] == "application/json"
    assert head.headers["content-length"] == str(len(get.content))


async def test_an_unknown_session_is_404_with_the_reason() -> None:
    async with client(await a_session()) as http:
        for path in ("/sessions/default/demo/session_none/api/v0/tasks", "/enter_cluster/default/demo/session_none"):
            assert "default/demo/session_none is not in memory://" in refusal(await http.get(path), 404)
        assert "no live session of default/nope" in refusal(await http.get("/sessions/default/nope/live/nodes"), 404)
        assert "not a valid name" in refusal(await http.get("/sessions/default/demo/%2e%2e/nodes"), 404)


async def test_without_a_session_the_refusal_says_where_to_find_one() -> None:
    async with client(await a_session()) as http:
        said = refusal(await http.get("/api/v0/tasks"), 400)
        assert "/clusters" in said
        assert "/enter_cluster/" in said
        http.cookies.set("cluster_name", "demo")
        assert refusal(await http.get("/api/v0/tasks"), 400) == said


async def test_a_store_that_is_down_is_503_with_the_reason_and_never_an_empty_list() -> None:
    store = await a_session()
    async with client(store, refresh=0.0) as http:
        store.fail("no route to host")
        for path in (
            f"{AT}/api/v0/tasks",
            "/clusters",
            "/v1/sessions",
            f"{AT}/",
            f"{AT}/completeness",
            f"/enter_cluster/{KEY}",
        ):
            answer = await http.get(path)
            assert "no route to host" in refusal(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
        store.down = None
        assert len(rows(await http.get(f"{AT}/api/v0/tasks"))) == 2


async def test_a_session_that_loaded_is_503_too_while_its_news_cannot_be_had() -> None:
    store = await a_session()
    async with client(store, refresh=0.0) as http:
        assert len(rows(await http.get(f"{AT}/api/v0/tasks"))) == 2
        store.fail()
        refusal(await http.get(f"{AT}/api/v0/tasks"), 503)


async def test_a_session_too_large_for_the_cache_is_503_with_the_option_to_change() -> None:
    async with client(await a_session(), cache_bytes=1000) as http:
        assert "--cache-bytes" in refusal(await http.get(f"{AT}/api/v0/tasks"), 503)


async def test_a_growing_session_shows_new_records() -> None:
    store = await a_session()
    async with client(store, refresh=0.0) as http:
        assert len(rows(await http.get(f"{AT}/api/v0/tasks"))) == 2
        await SegmentWriter(store).write(tasks(3, first=10), seq=2, source="spool/2.jsonl")
        assert len(rows(await http.get(f"{AT}/api/v0/tasks"))) == 5
    assert max(count for key, count in store.gets.items() if "/events/" in key) == 1


async def test_an_incomplete_session_says_so_in_every_list() -> None:
    store = await a_session()
    await SegmentWriter(store).write(finished_task(9), seq=3, start=1 << 20)
    async with client(store) as http:
        for name in LISTS:
            answer = (await http.get(f"{AT}/api/v0/{name}")).json()
            assert "incomplete" in answer["data"]["result"]["partial_failure_warning"]
        known = (await http.get(f"{AT}/completeness")).json()
    assert known["complete"] is False
    assert known["missing_segments"] == 1
    assert known["sources"][0]["holes"]


async def test_completeness_tells_what_there_is() -> None:
    store = await a_session()
    await store.put(KEY.quarantine("ab" * 28, "post-1"), b"{")
    async with client(store) as http:
        known = (await http.get(f"{AT}/completeness")).json()
    assert known["complete"] is True
    assert known["clean_end"] is False
    assert known["records"] == 4
    assert known["quarantine"] == {"objects": 1, "more": False}
    assert [(source["source"], source["holes"]) for source in known["sources"]] == [("spool/1.jsonl", [])]
    assert known["nodes"] == {"ab" * 28: {"segments": 1, "last_seq": 1, "missing_segments": 0}}


async def test_attempts_that_nobody_defined_are_a_lack_once_they_are_a_minute_old() -> None:
    """A driver that wasn't told to tell: its tasks' workers tell how they went, nobody what they are."""
    store = await a_session()
    await SegmentWriter(store).write(finishing(50) + finishing(51), source="spool/2.jsonl", seq=2)
    ran_ms = 1_768_528_802_000  # about: the last state of them
    known = {}
    for now_ms in (ran_ms + 30_000, ran_ms + 90_000):
        async with (
            running(store) as app,
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://s") as http,
        ):
            app.state.overviews.now_ms = lambda now_ms=now_ms: now_ms
            told = (await http.get(f"{AT}/completeness")).json()
            shown = (await http.get(f"{AT}/v1/overview")).json()["completeness"]
            listed = (await http.get(f"{AT}/api/v0/tasks")).json()["data"]["result"]
            line = (await http.get(f"{AT}/v1/summary")).json()["session"]["summary"]
        assert line["complete"] == told["complete"]
        assert (shown["complete"], shown["warning"]) == (told["complete"], told["warning"])
        assert (listed["total"], listed["partial_failure_warning"]) == (2, "")
        known[now_ms - ran_ms] = told
    assert (known[30_000]["complete"], known[30_000]["undefined_attempts"]) == (True, 0)
    assert (known[90_000]["complete"], known[90_000]["undefined_attempts"]) == (False, 2)
    assert "2 task attempts ran that nobody defined" in known[90_000]["warning"]


async def test_progress_answers_without_loading() -> None:
    store = await a_session()
    async with client(store) as http:
        assert (await http.get(f"{AT}/progress")).json() == {"loaded": False, "look": None}
        assert not any("/events/" in key for key in store.gets)
        await http.get(f"{AT}/api/v0/tasks")
        assert (await http.get(f"{AT}/progress")).json()["loaded"] is True


async def test_large_answers_are_compressed_for_those_who_take_it() -> None:
    store = WrappedStore()
    await SegmentWriter(store).write(tasks(200))
    async with client(store) as http:
        url = f"{AT}/api/v0/tasks?detail=1&limit=200"
        packed = await http.get(url, headers={"Accept-Encoding": "gzip"})
        plain = await http.get(url, headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 4
    assert packed.json() == plain.json()


async def test_a_download_of_the_timeline_is_named_safely() -> None:
    async with client(await a_session()) as http:
        url = f"{AT}/api/v0/tasks/timeline"
        answer = await http.get(url, params={"download": "1", "job_id": "01000000"})
        assert answer.headers["content-disposition"].startswith('attachment; filename="timeline-01000000-')
        assert "content-disposition" not in (await http.get(url)).headers
        answer = await http.get(url, params={"download": "1", "job_id": '01"\r\nX: y'})
        assert "x" not in answer.headers


async def test_unknown_jobs_nodes_and_views_are_answered_as_ray_does() -> None:
    async with client(await a_session()) as http:
        job = await http.get(f"{AT}/api/jobs/nope")
        assert (job.status_code, job.text) == (404, "Job nope does not exist")
        assert refusal(await http.get(f"{AT}/nodes/{'00' * 28}"), 404)
        assert refusal(await http.get(f"{AT}/nodes?view=x"), 500) == "Unknown view x"
        assert (await http.get(f"{AT}/logical/actors/ffff")).json()["data"] == {"detail": None}


async def test_a_browser_is_not_shown_the_values_of_env_vars() -> None:
    store = WrappedStore()
    definition = json.loads(finished_task(1)[0])
    definition["taskDefinitionEvent"]["serializedRuntimeEnv"] = json.dumps({"env_vars": {"TOKEN": "secret"}})
    await SegmentWriter(store).write([json.dumps(definition).encode() + b"\n"])
    async with client(store) as http:
        url = f"{AT}/api/v0/tasks?detail=1"
        shown = await http.get(url, headers={"User-Agent": "Mozilla/5.0"})
        assert "secret" not in shown.text
        assert "TOKEN" in shown.text
        assert "secret" in (await http.get(url, headers={"User-Agent": "python-requests"})).text


async def test_the_version_is_the_sessions_own() -> None:
    async with client(await a_session(ray_version="2.54.1")) as http:
        version = (await http.get(f"{AT}/api/version")).json()
    assert version["ray_version"] == "2.54.1"
    assert version["session_name"] == KEY.session


async def test_two_sessions_keep_apart() -> None:
    store = await a_session()
    other = SessionKey("default", "demo", "session_2026-02-01_00-00-00_000000_1")
    await SegmentWriter(store, other).write(tasks(5))
    async with client(store) as http:
        assert len(rows(await http.get(f"{AT}/api/v0/tasks"))) == 2
        assert len(rows(await http.get(f"/sessions/{other}/api/v0/tasks"))) == 5

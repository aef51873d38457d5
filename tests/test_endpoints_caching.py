"""What is over needs no asking twice: ended sessions' answers may be kept and are asked about by tag; living ones never are."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.answers import job, told
from support.client import client
from support.sessions import KEY, SegmentWriter, WrappedStore, finished_task, running_task

from pipeline.layout import SessionKey

pytestmark = pytest.mark.anyio

AT = f"/sessions/{KEY}"
CREATED_MS = 1_768_528_800_123
ENDED_MS = CREATED_MS + 90_000
ANSWERS = (
    "/api/v0/tasks?detail=1",
    "/api/v0/actors",
    "/api/jobs/",
    "/nodes?view=summary",
    "/logical/actors",
    "/events",
    "/api/v0/tasks/timeline",
    "/api/cluster_status?format=1",
    "/api/grafana_health",
    "/timezone",
)


async def a_session(**known: Any) -> tuple[WrappedStore, SegmentWriter]:
    store = WrappedStore()
    writer = SegmentWriter(store)
    await writer.begin(**{"ended_ms": ENDED_MS} | known)
    await writer.write(finished_task(1) + running_task(2), created_ns=ENDED_MS * 1_000_000)
    return store, writer


def at_time(http: httpx.AsyncClient, now_ms: int) -> None:
    http._transport.app.state.overviews.now_ms = lambda: now_ms  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ANSWERS)
async def test_an_ended_sessions_answer_may_be_kept_and_its_tag_answers_304_without_a_body(path: str) -> None:
    store, _ = await a_session()
    async with client(store) as http:
        first = await http.get(AT + path)
        assert first.headers["cache-control"] == "private, max-age=60"
        again = await http.get(AT + path, headers={"if-none-match": f'"other", {first.headers["etag"]}'})
        other = await http.get(AT + path, headers={"if-none-match": '"other"'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (other.status_code, other.content) == (200, first.content)


async def test_every_answer_has_a_tag_of_its_own_and_a_browser_another_than_the_command_line() -> None:
    store, _ = await a_session()
    async with client(store) as http:
        tags = [(await http.get(AT + path)).headers["etag"] for path in ANSWERS]
        shown = await http.get(AT + ANSWERS[0], headers={"user-agent": "Mozilla/5.0"})
    assert len({*tags, shown.headers["etag"]}) == len(ANSWERS) + 1


async def test_two_servers_give_the_same_tag_for_the_same_store() -> None:
    store, _ = await a_session()
    tags = []
    for _ in range(2):
        async with client(store) as http:
            tags.append((await http.get(AT + ANSWERS[0])).headers["etag"])
    assert tags[0] == tags[1]


async def test_what_is_added_changes_the_tag() -> None:
    store, writer = await a_session()
    tags = []
    for change in (0, 1, 2):
        if change == 1:
            await writer.write(finished_task(3))
        if change == 2:
            await told(store, KEY, "/api/jobs/", [job()])
        async with client(store) as http:
            tags.append((await http.get(AT + "/api/jobs/")).headers["etag"])
    assert len(set(tags)) == 3


@pytest.mark.parametrize("path", ANSWERS)
async def test_a_living_sessions_answer_is_never_kept(path: str) -> None:
    store, _ = await a_session(ended_ms=None)
    async with client(store) as http:
        at_time(http, ENDED_MS + 1000)
        answer = await http.get(AT + path, headers={"if-none-match": "*"})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert "etag" not in answer.headers


async def test_a_session_that_has_fallen_silent_may_be_kept_too() -> None:
    store, _ = await a_session(ended_ms=None)
    async with client(store) as http:
        at_time(http, ENDED_MS + 3_600_000)
        answer = await http.get(AT + "/api/jobs/")
    assert answer.headers["cache-control"] == "private, max-age=60"


async def test_an_address_that_may_mean_another_session_tomorrow_is_asked_about_each_time() -> None:
    store, _ = await a_session()
    async with client(store) as http:
        latest = await http.get("/sessions/default/demo/latest/api/jobs/")
        await http.get(f"/enter_cluster/{KEY}")
        entered = await http.get("/api/jobs/")
        named = await http.get(f"{AT}/api/jobs/")
    assert latest.headers["cache-control"] == entered.headers["cache-control"] == "private, no-cache"
    assert latest.headers["etag"] == entered.headers["etag"] == named.headers["etag"]


async def test_entering_another_session_changes_the_tag_at_the_root() -> None:
    store, _ = await a_session()
    other = SessionKey("default", "demo", "session_2026-01-17_02-00-00_123456_1")
    second = SegmentWriter(store, other)
    await second.begin(ended_ms=ENDED_MS)
    await second.write(finished_task(1), created_ns=ENDED_MS * 1_000_000)
    tags = []
    async with client(store) as http:
        for key in (KEY, other):
            await http.get(f"/enter_cluster/{key}")
            tags.append((await http.get("/api/v0/tasks")).headers["etag"])
    assert tags[0] != tags[1]


@pytest.mark.parametrize("path", ["/api/v0/tasks?limit=abc", "/api/jobs/nobody", "/nodes/00", "/nothing"])
async def test_a_refusal_is_never_kept(path: str) -> None:
    store, _ = await a_session()
    async with client(store) as http:
        answer = await http.get(AT + path)
    assert answer.status_code >= 400
    assert "etag" not in answer.headers
    assert "max-age" not in answer.headers.get("cache-control", "")

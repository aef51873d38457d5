"""What a session left behind unfinished doesn't go on for ever on the pages, and programs get what Ray's programs got."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from support.answers import job, told
from support.client import client
from support.sessions import KEY, SegmentWriter, WrappedStore, event, finished_task, running_task

pytestmark = pytest.mark.anyio

AT = f"/sessions/{KEY}"
PAGE = {"user-agent": "Mozilla/5.0", "sec-fetch-mode": "cors"}
CREATED_MS = 1_768_528_800_123
ENDED_MS = CREATED_MS + 3_600_000
ACTOR_ID = "01" * 12 + "01000000"
ACTOR = base64.b64encode(bytes.fromhex(ACTOR_ID)).decode()


def actor() -> list[bytes]:
    alive = {"state": "ALIVE", "timestamp": "2026-01-16T02:00:01Z", "nodeId": "", "workerId": "", "pid": 5}
    payload = {"actorId": ACTOR, "stateTransitions": [alive]}
    what = {"actorId": ACTOR, "jobId": "AQAAAA==", "className": "A"}
    return [
        event("ACTOR_DEFINITION_EVENT", "actorDefinitionEvent", what, 1),
        event("ACTOR_LIFECYCLE_EVENT", "actorLifecycleEvent", payload, 2),
    ]


async def a_session(**known: Any) -> WrappedStore:
    store = WrappedStore()
    writer = SegmentWriter(store)
    await writer.begin(**{"ended_ms": ENDED_MS} | known)
    await writer.write(finished_task(1) + running_task(2) + actor(), created_ns=ENDED_MS * 1_000_000)
    await told(
        store,
        KEY,
        "/api/jobs/",
        [job(status="RUNNING", end_time=None), job(submission_id="raysubmit_b")],
        time_ms=CREATED_MS + 60_000,
    )
    return store


async def tasks(http: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, Any]:
    rows = (await http.get(f"{AT}/api/v0/tasks?detail=1", headers=headers)).json()["data"]["result"]["result"]
    return {row["state"]: (row["start_time_ms"], row["end_time_ms"]) for row in rows}


async def jobs(http: httpx.AsyncClient, headers: dict[str, str]) -> list[tuple[str, int | None]]:
    rows = (await http.get(f"{AT}/api/jobs/", headers=headers)).json()
    return [(row["status"], row["end_time"]) for row in rows]


async def actors(http: httpx.AsyncClient, headers: dict[str, str]) -> list[tuple[str, int]]:
    found = (await http.get(f"{AT}/logical/actors", headers=headers)).json()["data"]["actors"].values()
    return [(each["state"], each["endTime"]) for each in found]


async def test_pages_see_everything_end_with_the_last_that_was_heard_of_the_session_and_states_stay() -> None:
    heard = CREATED_MS + 60_000
    async with client(await a_session()) as http:
        shown = await tasks(http, PAGE)
        assert (shown["RUNNING"][1], await actors(http, PAGE)) == (heard, [("ALIVE", heard)])
        assert await jobs(http, PAGE) == [("RUNNING", heard), ("SUCCEEDED", job()["end_time"])]
        one = (await http.get(f"{AT}/api/jobs/raysubmit_a", headers=PAGE)).json()
        assert (one["status"], one["end_time"]) == ("RUNNING", heard)
        detail = (await http.get(f"{AT}/logical/actors/{ACTOR_ID}", headers=PAGE)).json()
        assert detail["data"]["detail"]["endTime"] == heard
        assert shown["FINISHED"][1] < heard


async def test_programs_get_no_end_where_there_was_none() -> None:
    async with client(await a_session()) as http:
        assert (await tasks(http, {}))["RUNNING"][1] is None
        assert await jobs(http, {}) == [("RUNNING", None), ("SUCCEEDED", job()["end_time"])]
        assert await actors(http, {}) == [("ALIVE", 0)]


async def test_while_a_session_lives_nothing_is_closed() -> None:
    async with client(await a_session(ended_ms=None)) as http:
        http._transport.app.state.overviews.now_ms = lambda: ENDED_MS + 1000  # type: ignore[attr-defined]
        assert (await tasks(http, PAGE))["RUNNING"][1] is None
        assert (await jobs(http, PAGE))[0] == ("RUNNING", None)
        assert await actors(http, PAGE) == [("ALIVE", 0)]


async def test_without_a_dashboard_the_last_record_is_the_last_that_was_heard() -> None:
    store = await a_session()
    for info in await store.list(f"{KEY.root}endpoints/"):
        await store.delete(info.key)
    async with client(store) as http:
        start, end = (await tasks(http, PAGE))["RUNNING"]
    assert start <= end <= CREATED_MS + 3_000


async def test_a_clock_far_ahead_closes_nothing_after_the_sessions_end() -> None:
    store = await a_session()
    await told(store, KEY, "/timezone", {}, time_ms=ENDED_MS * 3)
    async with client(store) as http:
        assert (await tasks(http, PAGE))["RUNNING"][1] == ENDED_MS


async def test_what_was_stored_long_after_the_end_moves_it_not() -> None:
    store = await a_session()
    late_ms = ENDED_MS + 5 * 86_400_000  # an old session's logs folder, found by its pod's next collector
    await SegmentWriter(store, node="b2" * 28).write([], created_ns=late_ms * 1_000_000)
    await told(store, KEY, "/timezone", {}, time_ms=late_ms)
    async with client(store) as http:
        assert (await tasks(http, PAGE))["RUNNING"][1] == ENDED_MS


async def test_a_machines_memory_isnt_shown_beside_a_process_of_which_nothing_was_measured() -> None:
    store, node = WrappedStore(), b"\x07" * 28
    writer = SegmentWriter(store)
    await writer.begin()
    alive = {"state": "ALIVE", "timestamp": "2026-01-16T02:00:01Z", "pid": 5}
    where = {"nodeId": base64.b64encode(node).decode(), "workerId": base64.b64encode(b"\x08" * 28).decode()}
    payload = {"actorId": ACTOR, "stateTransitions": [alive | where]}
    await writer.write([*actor(), event("ACTOR_LIFECYCLE_EVENT", "actorLifecycleEvent", payload, 3)])
    measured = [{"raylet": {"nodeId": node.hex()}, "mem": [4, 3, 25.0, 1]}]
    await told(store, KEY, "/nodes?view=summary", {"data": {"summary": measured}})
    async with client(store) as http:
        for path in ("/logical/actors", f"/logical/actors/{ACTOR_ID}"):
            shown = [(await http.get(AT + path, headers=headers)).json()["data"] for headers in ({}, PAGE)]
            rows = [found["actors"][ACTOR_ID] if "actors" in found else found["detail"] for found in shown]
            assert [row["mem"] for row in rows] == [[4, 3, 25.0, 1], None]

"""Which sessions there are is told as KubeRay tells it, and entering one works as it does there."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.client import client
from support.sessions import SegmentWriter, WrappedStore, tasks

from pipeline.layout import SessionKey

pytestmark = pytest.mark.anyio

OLD = SessionKey("default", "demo", "session_2026-01-16_02-00-00_123456_1")
NEW = SessionKey("default", "demo", "session_2026-01-17_02-00-00_123456_1")
OWNED = SessionKey("team", "job-x7k2p", "session_2026-01-10_00-00-00_000000_1")


async def three_sessions() -> WrappedStore:
    store = WrappedStore()
    known: list[tuple[SessionKey, dict[str, Any]]] = [
        (OLD, {"ended_ms": 1_768_532_400_000}),
        (NEW, {}),
        (OWNED, {"owner_kind": "RayJob", "owner_name": "job"}),
    ]
    for count, (key, metadata) in enumerate(known, start=1):
        writer = SegmentWriter(store, key)
        await writer.begin(**metadata)
        await writer.write(tasks(count))
    return store


def cookies(answer: httpx.Response) -> tuple[str, ...]:
    return tuple(answer.cookies.get(name, "") for name in ("cluster_namespace", "cluster_name", "session_name"))


async def test_clusters_lists_sessions_newest_first_with_kuberays_fields() -> None:
    async with client(await three_sessions()) as http:
        listed = (await http.get("/clusters")).json()
    assert [row["sessionName"] for row in listed] == [NEW.session, OLD.session, OWNED.session]
    assert listed[1] == {
        "name": "demo",
        "namespace": "default",
        "sessionName": OLD.session,
        "createTime": "2026-01-16T02:00:00Z",
        "createTimeStamp": 1_768_528_800,
        "endTime": "2026-01-16T03:00:00Z",
        "status": "ended",
    }
    assert listed[0]["status"] == "live"
    assert (listed[2]["ownerKind"], listed[2]["ownerName"]) == ("rayjob", "job")


async def test_clusters_can_be_narrowed_down() -> None:
    async with client(await three_sessions()) as http:
        assert len((await http.get("/clusters", params={"namespace": "team"})).json()) == 1
        assert len((await http.get("/clusters", params={"name": "demo"})).json()) == 2
        assert (await http.get("/clusters", params={"name": "nope"})).json() == []


async def test_an_empty_store_has_an_empty_list() -> None:
    async with client(WrappedStore()) as http:
        assert (await http.get("/clusters")).json() == []


@pytest.mark.parametrize(
    ("path", "entered"),
    [
        (f"{OLD}", OLD),
        ("default/demo/latest", NEW),
        ("default/demo/live", NEW),
        ("default/raycluster/demo", NEW),
        ("default/RayCluster/demo", NEW),
        (f"default/raycluster/demo/{OLD.session}", OLD),
        ("default/raycluster/demo/latest", NEW),
        ("team/rayjob/job", OWNED),
        (f"team/rayjob/job/{OWNED.session}", OWNED),
        ("team/rayjob/job/live", OWNED),
        ("team/job-x7k2p/latest", OWNED),
    ],
)
async def test_entering_sets_the_cookies_of_one_session(path: str, entered: SessionKey) -> None:
    async with client(await three_sessions()) as http:
        answer = await http.get(f"/enter_cluster/{path}")
        assert answer.status_code == 200
        assert cookies(answer) == (entered.namespace, entered.cluster, entered.session)
        assert answer.json() == {
            "result": "success",
            "name": entered.cluster,
            "namespace": entered.namespace,
            "session": entered.session,
        }
        for header in answer.headers.get_list("set-cookie"):
            assert "HttpOnly" in header
            assert "SameSite=lax" in header
            assert "Path=/" in header
        count = [OLD, NEW, OWNED].index(entered) + 1
        assert (await http.get("/api/v0/tasks")).json()["data"]["result"]["total"] == count


@pytest.mark.parametrize(
    "path",
    [
        "default/demo/session_none",
        "default/nope/latest",
        "default/rayservice/job",
        "default/raytrain/demo/latest",
        "team/rayjob/job/session_none",
        "default/raycluster/nope",
        "..%2f..%2fetc/demo/latest",
    ],
)
async def test_what_is_not_there_sets_no_cookie(path: str) -> None:
    async with client(await three_sessions()) as http:
        answer = await http.get(f"/enter_cluster/{path}")
        assert answer.status_code == 404
        assert answer.json()["msg"]
        assert "set-cookie" not in answer.headers


async def test_cookies_of_a_session_that_is_gone_get_the_reason() -> None:
    async with client(await three_sessions()) as http:
        for name, value in (("cluster_namespace", "default"), ("cluster_name", "demo"), ("session_name", "../../x")):
            http.cookies.set(name, value)
        answer = await http.get("/api/v0/tasks")
    assert answer.status_code == 404
    assert "not a valid name" in answer.json()["msg"]


async def test_live_and_latest_work_under_the_prefix() -> None:
    async with client(await three_sessions()) as http:
        for name in ("live", "latest"):
            answer = await http.get(f"/sessions/default/demo/{name}/api/v0/tasks")
            assert answer.json()["data"]["result"]["total"] == 2


async def test_a_session_without_its_slash_is_sent_to_it() -> None:
    async with client(await three_sessions()) as http:
        answer = await http.get(f"/sessions/{OLD}?a=b")
        assert answer.status_code == 308
        assert answer.headers["location"] == f"{OLD.session}/?a=b"
        followed = await http.get(f"/sessions/{OLD}", follow_redirects=True)
        assert followed.url.path == f"/sessions/{OLD}/"
        assert followed.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("name", ["javascript:x", "%2f%2fevil.example", "%0d%0aX:y"])
async def test_the_redirect_leads_nowhere_else(name: str) -> None:
    async with client(await three_sessions()) as http:
        answer = await http.get(f"/sessions/default/demo/{name}")
    assert answer.status_code == 404
    assert "location" not in answer.headers


async def test_the_catalog_comes_back_when_it_was_deleted() -> None:
    store = await three_sessions()
    for key in (OLD, NEW, OWNED):
        await store.delete(key.catalog)
    async with client(store, refresh=0.0) as http:
        await http.get("/readyz")
        assert len((await http.get("/clusters")).json()) == 3

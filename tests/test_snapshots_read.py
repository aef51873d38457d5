"""Dashboard answers are read from the store once, again when they change, within bounds, and nothing in a bucket hurts."""

from __future__ import annotations

import httpx
import pytest
from support.answers import TIME_MS, answer, job, told
from support.client import client
from support.sessions import KEY, SegmentWriter, WrappedStore, tasks

from api.session import snapshot_reader
from api.session.snapshot_reader import SnapshotReader
from pipeline.dashboard.endpoints import pack, place
from pipeline.errors import Unavailable

pytestmark = pytest.mark.anyio

AT = f"/sessions/{KEY}"


def read(store: WrappedStore) -> list[str]:
    """The answers that were fetched since the last look, by the last part of their key."""
    names = sorted(key.rpartition("/")[2] for key in store.gets.elements() if "/endpoints/" in key)
    store.gets.clear()
    return names


async def test_an_answer_is_read_once_and_again_only_when_it_has_changed() -> None:
    store = WrappedStore()
    await told(store, KEY, "/timezone", {"offset": "+00:00"})
    await told(store, KEY, "/api/version", {"ray_version": "2.60.0"})
    reader = SnapshotReader(store, KEY)
    first = await reader.refresh()
    assert read(store) == ["api%2Fversion.json", "timezone.json"]
    assert await reader.refresh() is first
    await told(store, KEY, "/timezone", {"offset": "+01:00"})
    second = await reader.refresh()
    assert read(store) == ["timezone.json"]
    assert (second.table("/timezone"), second.etag != first.etag) == ({"offset": "+01:00"}, True)
    assert second.time_ms == TIME_MS


async def test_an_answer_that_is_gone_is_forgotten() -> None:
    store = WrappedStore()
    await told(store, KEY, "/timezone", {"offset": "+00:00"})
    reader = SnapshotReader(store, KEY)
    assert len(await reader.refresh()) == 1
    await store.delete(place(KEY, "/timezone"))
    assert len(await reader.refresh()) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff" * 100,
        b"[" * 100_000,
        pack(answer("/other", {})),
        pack(answer("//host/timezone", {})),
        pack(answer("/timezone", {}, time_ms=-1)),
        pack(answer("/timezone", {}, time_ms=1 << 60)),
    ],
)
async def test_what_is_no_answer_or_stands_in_anothers_place_is_left_out_and_named_once(
    data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    store = WrappedStore()
    await store.put(place(KEY, "/timezone"), data)
    await told(store, KEY, "/api/version", {"ray_version": "2.60.0"})
    reader = SnapshotReader(store, KEY)
    for _ in range(3):
        found = await reader.refresh()
    assert found.answer("/timezone") is None
    assert found.table("/api/version") == {"ray_version": "2.60.0"}
    assert capsys.readouterr().out.count("dashboard answer left out") == 1


async def test_more_than_fits_is_left_out_and_what_fits_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_reader, "MAX_BYTES", 5_000)
    monkeypatch.setattr(snapshot_reader, "AT_ONCE", 1)
    store = WrappedStore()
    for name in "abcdef":
        await told(store, KEY, f"/{name}", "x" * 1_500)
    reader = SnapshotReader(store, KEY)
    assert len(await reader.refresh()) == 3
    await store.delete(place(KEY, "/a"))
    await told(store, KEY, "/f", "y" * 1_500)
    found = await reader.refresh()
    assert found.answer("/f") is not None


async def test_a_store_that_is_away_is_an_error_and_not_an_empty_answer() -> None:
    store = WrappedStore()
    await told(store, KEY, "/timezone", {"offset": "+00:00"})
    reader = SnapshotReader(store, KEY)
    await reader.refresh()
    store.fail()
    with pytest.raises(Unavailable):
        await reader.refresh()
    store.down = None
    assert len(await reader.refresh()) == 1


async def a_session(**known: object) -> WrappedStore:
    store = WrappedStore()
    writer = SegmentWriter(store)
    await writer.begin(**known)
    await writer.write(tasks(1))
    return store


async def jobs(http: httpx.AsyncClient) -> list[str]:
    return [row["status"] for row in (await http.get(f"{AT}/api/jobs/")).json()]


async def test_the_server_shows_a_new_answer_within_refresh() -> None:
    store = await a_session()
    async with client(store, refresh=0.0) as http:
        assert await jobs(http) == []
        await told(store, KEY, "/api/jobs/", [job(status="RUNNING", end_time=None)])
        assert await jobs(http) == ["RUNNING"]
        await told(store, KEY, "/api/jobs/", [job()])
        assert await jobs(http) == ["SUCCEEDED"]


async def test_the_memory_that_answers_take_is_counted() -> None:
    store = await a_session()
    await told(store, KEY, "/big", "x" * 200_000)
    async with client(store, cache_bytes=190_000) as http:
        refused = await http.get(f"{AT}/api/jobs/")
    assert (refused.status_code, "--cache-bytes" in refused.json()["msg"]) == (503, True)

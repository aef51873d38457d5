"""Sessions that nobody opened are counted in the background: all of them, at nobody's cost, and whatever one of them holds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs
from support.counting import (
    QUICK,
    RECORDS,
    all_counted,
    counting,
    done,
    gauge,
    key,
    listed,
    put,
    several_counting,
    talking_to,
    until,
)
from support.s3server import S3Server
from support.seaweed import SeaweedServer
from support.sessions import NODE, SegmentWriter, WrappedStore, defined_task, finished_task

import api.session.agenda
import api.session.backfill
from api.metrics import BACKFILL_FAILING, BACKFILL_SKIPPED
from api.session.overviews import SILENT_MS, parse_summary
from api.views.overview import Counts
from api.views.session_list import Summary, ident
from pipeline.config import StoreConfig
from pipeline.errors import Denied, NotFound, Unavailable
from pipeline.push.pushed import Push
from pipeline.stores.catalog import new_metadata, write_metadata
from pipeline.stores.open_store import open_store
from pipeline.stores.store import ObjectStore

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

MANY = 50
HOUR = 3_600_000


@pytest.fixture(params=["memory", "file", pytest.param("s3", marks=pytest.mark.s3)])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ObjectStore]:
    config = StoreConfig(url="memory://" if request.param == "memory" else f"file://{tmp_path}/root")
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("seaweed_server")
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        config = StoreConfig(url=f"s3://{server.new_bucket()}/history", endpoint=server.endpoint, path_style=True)
    async with open_store(config) as opened:
        yield opened


def failures(number: int) -> int:
    return number * 7 % 11


async def fill(store: ObjectStore, count: int = MANY) -> None:
    for number in range(count):
        await put(store, key(number), failed=failures(number))


def segments_read(store: WrappedStore) -> dict[str, int]:
    return {name: count for name, count in store.gets.items() if "/events/" in name}


# all of them


async def test_all_sessions_are_counted_though_nobody_asks_and_the_cache_holds_none(store: ObjectStore) -> None:
    await fill(store)
    async with counting(store) as app:
        await all_counted(app, MANY)
        assert app.state.sessions.nbytes == 0
        page = await listed(app, sort="-failed")
        assert app.state.sessions.nbytes == 0
    worst_first = sorted(range(MANY), key=lambda number: (failures(number), number), reverse=True)
    assert [row["session"] for row in page["sessions"]] == [key(number).session for number in worst_first]
    assert [row["summary"]["counts"]["tasks"].get("FAILED", 0) for row in page["sessions"]] == sorted(
        map(failures, range(MANY)), reverse=True
    )
    assert (page["uncounted"], page["failed"]) == (0, sum(map(bool, map(failures, range(MANY)))))
    for number in range(MANY):
        kept = parse_summary(await store.get(key(number).summary))
        assert kept is not None
        assert kept.final


async def test_only_those_in_which_something_failed_can_be_asked_for() -> None:
    store = WrappedStore()
    await fill(store, 12)
    async with counting(store) as app:
        await all_counted(app, 12)
        page = await listed(app, failed="1", sort="start")
        assert [row["session"] for row in page["sessions"]] == [key(n).session for n in range(12) if failures(n)]
        assert (page["matched"], page["failed"], page["statuses"]) == (10, 10, {"ended": 10})
        assert (await listed(app, failed="1", status="live"))["sessions"] == []
        async with talking_to(app) as http:
            assert (await http.get("/v1/sessions?failed=yes")).status_code == 400


async def test_the_newest_come_first() -> None:
    store = WrappedStore()
    await fill(store, 40)
    async with counting(store, pace=replace(QUICK, sweep=30)) as app:
        await all_counted(app, 40)
    read = [int(name.split("/")[1][1:]) for name in segments_read(store)]  # in the order of the first reading
    for block in range(0, 40, api.session.agenda.BLOCK):
        assert set(read[block : block + api.session.agenda.BLOCK]) == set(range(39 - block, 31 - block, -1))


async def test_with_no_memory_for_it_nothing_is_counted_unasked() -> None:
    store = WrappedStore()
    await fill(store, 3)
    async with counting(store, backfill_bytes=0) as app:
        await anyio.wait_all_tasks_blocked()
        assert (await listed(app))["uncounted"] == 3
    assert segments_read(store) == {}


# several servers


async def test_the_next_server_takes_what_is_there_and_reads_no_session() -> None:
    store = WrappedStore()
    await fill(store)
    async with counting(store) as app:
        await all_counted(app, MANY)
    store.gets.clear()
    store.lists.clear()
    async with counting(store) as app:
        await all_counted(app, MANY)
        assert (await listed(app))["uncounted"] == 0
    assert segments_read(store) == {}
    assert [prefix for prefix in store.lists if "events" in prefix] == []


async def test_two_servers_at_once_share_the_work() -> None:
    store = WrappedStore()
    await fill(store)
    async with several_counting(store, servers=2) as apps:
        for app in apps:
            await all_counted(app, MANY)
    assert len(segments_read(store)) == MANY
    assert sum(segments_read(store).values()) < 1.5 * MANY


async def test_a_store_that_may_only_be_read_is_counted_all_the_same() -> None:
    class ReadOnly(WrappedStore):
        closed = False
        refused = 0

        async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
            if self.closed:
                self.refused += 1
                raise Denied("read only")
            return await super().put(key, data, if_absent=if_absent)

    store = ReadOnly()
    await fill(store, 10)
    store.closed = True
    async with counting(store) as app:
        await all_counted(app, 10)
        assert (await listed(app))["uncounted"] == 0
    assert store.refused == 1


@pytest.mark.s3
async def test_with_keys_that_may_only_read_all_are_counted_and_none_is_put(
    seaweed_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweed_server.environment().items():
        monkeypatch.setenv(name, value)
    config = StoreConfig(
        url=f"s3://{seaweed_server.new_bucket()}/history", endpoint=seaweed_server.endpoint, path_style=True
    )
    async with open_store(config) as store:
        await fill(store, 10)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed_server.reader_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed_server.reader_secret_key)
    with capture_logs() as logs:
        async with open_store(config) as store, counting(store) as app:
            await all_counted(app, 10)
            assert (await listed(app))["uncounted"] == 0
            with pytest.raises(NotFound):
                await store.get(key(3).summary)
    assert [entry["event"] for entry in logs if "not kept" in entry["event"]] == [
        "summaries are not kept: the store may only be read"
    ]


# what stands there already


@pytest.mark.parametrize("ahead_ms", [10 * HOUR, -1])
async def test_a_summary_that_may_grow_is_believed_as_long_as_it_is_fresh_and_no_longer(ahead_ms: int) -> None:
    """From the far future it would be believed for ever."""
    store, now = WrappedStore(), RECORDS + HOUR
    writer = await put(store, key(1), ended_ms=None)
    await writer.write(finished_task(5), created_ns=now * 1_000_000)
    told = Summary(
        counts=Counts(tasks={"FAILED": 99}),
        records=1,
        complete=True,
        heard_ms=now,
        as_of_ms=now + ahead_ms,
        final=False,
    )
    await store.put(key(1).summary, msgspec.json.encode(told))
    async with counting(store, now_ms=lambda: now) as app:
        await all_counted(app, 1)
        if ahead_ms < 0:
            await anyio.sleep(0.1)
        (row,) = (await listed(app))["sessions"]
    assert row["summary"]["counts"]["tasks"] == ({"FAILED": 99} if ahead_ms < 0 else {"FINISHED": 3})
    assert bool(segments_read(store)) is (ahead_ms > 0)


# trouble


async def test_a_session_that_holds_nonsense_is_said_to_be_incomplete_and_stops_no_other() -> None:
    store = WrappedStore()
    await fill(store, 10)
    await store.put(key(4).segment(NODE, 1), b"\0nonsense")
    async with counting(store) as app:
        await all_counted(app, 10)
        rows = {row["session"]: row["summary"] for row in (await listed(app))["sessions"]}
    assert rows.pop(key(4).session)["complete"] is False
    assert all(summary["complete"] for summary in rows.values())


async def test_an_error_that_nobody_foresaw_is_that_sessions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    store, failed = WrappedStore(), done("failed")
    await fill(store, 10)
    counts = api.session.backfill.counts

    def broken(index: object) -> object:
        made = counts(index)  # type: ignore[arg-type]
        if made.tasks.get("FAILED") == failures(4):
            raise ZeroDivisionError
        return made

    monkeypatch.setattr("api.session.backfill.counts", broken)
    with capture_logs() as logs:
        async with counting(store) as app:
            await all_counted(app, 9)
            await until(lambda: gauge(BACKFILL_FAILING) == 1)
            page = await listed(app)
    assert [entry["session"] for entry in logs if entry.get("exc_info")] == [str(key(4))]
    assert [row["session"] for row in page["sessions"] if row["summary"] is None] == [key(4).session]
    assert done("failed") == failed + 1


async def test_a_store_that_is_away_for_a_while_is_asked_seldom_and_then_all_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.session.agenda.FIRST_RETRY", 0.01)
    store = WrappedStore()
    await fill(store)
    with capture_logs() as logs:
        async with counting(store, refresh=0.0) as app:
            await until(lambda: len(app.state.overviews.known) >= 5)
            store.fail("no route to host")
            store.lists.clear()
            await until(lambda: sum(store.lists.values()) >= 5)
            store.down = None
            await all_counted(app, MANY)
            assert (await listed(app))["uncounted"] == 0
    said = [entry["event"] for entry in logs if entry.get("reason") == "no route to host"]
    assert 1 <= len(said) <= 2  # once for each time that it went, not for each time that it was asked


@pytest.mark.parametrize("gone", [key(19).segment(NODE, 1), key(19).summary], ids=["segment", "summary"])
async def test_what_can_never_be_read_is_tried_ever_later_and_holds_up_no_other(gone: str) -> None:
    class OneIsGone(WrappedStore):
        async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
            if key == gone:
                self.gets[key] += 1
                raise Unavailable("this one never comes")
            return await super().get(key, start=start, end=end)

    store = OneIsGone()
    await fill(store, 20)
    async with counting(store) as app:
        await all_counted(app, 19)
        await until(lambda: gauge(BACKFILL_FAILING) == 1)
        page = await listed(app)
    assert [row["session"] for row in page["sessions"] if row["summary"] is None] == [key(19).session]
    assert store.gets[gone] <= 2  # the next try is a minute away


# what is large


async def put_large(store: ObjectStore, number: int, size: int) -> None:
    """So many bytes in the store, which no compression makes fewer."""
    writer = SegmentWriter(store, key(number))
    await writer.begin(ended_ms=RECORDS)
    for at in range(size // 4000):
        await writer.write(defined_task(at, os.urandom(4000).hex()))


async def test_a_session_too_large_is_left_and_said_so_until_someone_asks_for_it() -> None:
    store, before = WrappedStore(), done("too_large")
    await fill(store, 10)
    await put_large(store, 20, 400_000)
    with capture_logs() as logs:
        async with counting(store, cache_bytes=3_000_000, backfill_bytes=100_000) as app:
            await until(lambda: done("too_large") > before)
            await all_counted(app, 10)
            await until(lambda: gauge(BACKFILL_SKIPPED) == 1)
            (row,) = [row for row in (await listed(app))["sessions"] if row["summary"] is None]
            assert row["session"] == key(20).session
            assert row["too_large"] > 400_000
            assert not any(str(key(20)) in name for name in segments_read(store))
            async with talking_to(app) as http:
                found = (await http.get(f"/sessions/{key(20)}/v1/summary?load=1")).json()
            assert found["session"]["summary"]["records"] == 100
            (row,) = [row for row in (await listed(app))["sessions"] if row["session"] == key(20).session]
            assert (row["summary"]["records"], row["too_large"]) == (100, None)
    (said,) = [entry for entry in logs if "too large to be counted" in entry["event"]]
    assert said["session"] == str(key(20))


async def test_a_small_object_that_unpacks_to_much_is_left_before_it_is_unpacked() -> None:
    store, before = WrappedStore(), done("too_large")
    await put(store, key(1))
    writer = SegmentWriter(store, key(2))
    await writer.begin(ended_ms=RECORDS)
    await writer.write(finished_task(1) * 3000)  # 3 MB of the same
    assert len(await store.get(key(2).segment(NODE, 1))) < 50_000
    async with counting(store, cache_bytes=4_000_000) as app:
        await until(lambda: done("too_large") > before)
        await all_counted(app, 1)
        rows = {row["session"]: row for row in (await listed(app))["sessions"]}
    assert rows[key(2).session]["summary"] is None
    assert rows[key(2).session]["too_large"] > 0
    assert rows[key(1).session]["summary"]["records"] == 4


async def test_what_people_open_takes_the_room_from_what_is_counted_and_stays_in_memory() -> None:
    store, failed = WrappedStore(), done("failed")
    await put_large(store, 20, 300_000)
    await put_large(store, 5, 900_000)
    gate = store.hold(key(20).segment(NODE, 20))
    async with counting(store, cache_bytes=8_000_000, backfill_bytes=1) as app:
        sessions = app.state.sessions
        await store.asked[key(20).segment(NODE, 20)].wait()  # the newest is being counted, and has room for it
        await sessions.open(key(5))
        assert sessions.loaded(key(5))
        gate.set()
        await until(lambda: done("failed") > failed)
        assert sessions.loaded(key(5))
        assert 0 < sessions.nbytes <= 8_000_000
        assert not sessions.loaded(key(20))


# others first


async def test_who_asks_for_a_session_does_not_wait_for_the_one_that_is_being_counted() -> None:
    store = WrappedStore()
    await fill(store, 3)
    gate = store.hold(key(2).segment(NODE, 1))
    async with counting(store) as app, talking_to(app) as http:
        await store.asked[key(2).segment(NODE, 1)].wait()
        with anyio.fail_after(10):
            assert (await http.get(f"/sessions/{key(0)}/api/v0/tasks")).status_code == 200
        gate.set()
        await all_counted(app, 3)


async def test_nothing_is_counted_while_somebody_waits_for_a_session() -> None:
    store = WrappedStore()
    await fill(store, 5)
    gate = store.hold(key(0).segment(NODE, 1))
    async with (
        counting(store, pace=replace(QUICK, start=0.05)) as app,
        anyio.create_task_group() as group,
    ):
        group.start_soon(app.state.sessions.open, key(0))
        await store.asked[key(0).segment(NODE, 1)].wait()
        for _ in range(30):
            await anyio.sleep(0.01)
        assert segments_read(store) == {key(0).segment(NODE, 1): 1}
        gate.set()
        await all_counted(app, 5)


async def test_a_session_in_memory_is_counted_where_it_is_and_keeps_its_place() -> None:
    store = WrappedStore()
    await fill(store, 2)
    async with counting(store, pace=replace(QUICK, start=0.2), refresh=1e9) as app:
        await app.state.sessions.open(key(0))
        await app.state.sessions.open(key(1))
        await all_counted(app, 2)
        assert set(segments_read(store).values()) == {1}
        assert list(app.state.sessions._entries) == [key(0), key(1)]


# those that go on


async def test_a_session_that_ends_later_gets_its_last_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.session.agenda.ENDED_AGAIN", 0.01)
    monkeypatch.setattr("api.session.backfill.ENDED_AGAIN", 0.01)
    store = WrappedStore()
    now = RECORDS + HOUR
    writer = await put(store, key(1), ended_ms=None)
    await writer.write(finished_task(5), created_ns=now * 1_000_000)
    async with counting(store, now_ms=lambda: now, refresh=0.0) as app:
        overviews = app.state.overviews
        await all_counted(app, 1)
        (row,) = (await listed(app))["sessions"]
        assert (row["status"], row["summary"]["final"]) == ("live", False)
        await writer.write(finished_task(6), created_ns=now * 1_000_000)
        await write_metadata(store, new_metadata(key(1), ended_ms=now))
        known = next(iter(overviews.known))
        await until(lambda: overviews.known[known].counts.tasks == {"FINISHED": 4})
        now += 2 * 60_000
        await until(lambda: overviews.known[known].final)
        assert app.state.sessions.nbytes == 0
    assert max(segments_read(store).values()) == 2  # the end alone was no reason to read it once more


async def test_a_session_that_fell_silent_is_weighed_and_not_read_again_until_nothing_more_is_expected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.session.agenda.AGAIN", 0.01)
    monkeypatch.setattr("api.session.agenda.LAST_LOOK", 0.01)
    monkeypatch.setattr("api.session.backfill.AGAIN", 0.01)
    store = WrappedStore()
    sealed = RECORDS + HOUR
    now = sealed + 600_000
    writer = SegmentWriter(store, key(1))
    await writer.begin()
    await writer.write(finished_task(5), created_ns=sealed * 1_000_000)
    async with counting(store, now_ms=lambda: now) as app:
        overviews = app.state.overviews
        await all_counted(app, 1)
        (row,) = (await listed(app))["sessions"]
        assert (row["status"], row["summary"]["final"]) == ("lost", False)
        now = sealed + SILENT_MS + 1
        known = next(iter(overviews.known))
        await until(lambda: overviews.known[known].final)
        assert overviews.known[known].as_of_ms == now
    assert set(segments_read(store).values()) == {1}


async def test_a_session_that_has_only_just_begun_is_not_taken_for_one_that_is_over() -> None:
    store, now = WrappedStore(), RECORDS + HOUR
    writer = SegmentWriter(store, key(1))
    await writer.begin(created_ms=now - 5000)
    async with counting(store, now_ms=lambda: now) as app:
        await all_counted(app, 1)
        (row,) = (await listed(app))["sessions"]
        assert (row["summary"]["records"], row["summary"]["final"]) == (0, False)
        await writer.write(finished_task(1), created_ns=now * 1_000_000)
        async with talking_to(app) as http:
            found = (await http.get(f"/sessions/{key(1)}/v1/summary")).json()
        assert found["session"]["summary"]["records"] == 2


async def test_a_session_that_speaks_again_after_its_last_counts_is_counted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its head's collector was restarted, Ray was not; or it was idle for days."""
    for name in ("AGAIN", "ENDED_AGAIN", "SEGMENT_SECONDS"):
        monkeypatch.setattr(f"api.session.agenda.{name}", 0.01)
    store = WrappedStore()
    writer = await put(store, key(1))
    async with counting(store, refresh=0.0) as app:
        await all_counted(app, 1)
        it = ident(new_metadata(key(1)))
        assert app.state.overviews.known[it].final
        live = app.state.sessions.live
        hello = Push(
            namespace="default",
            cluster=key(1).cluster,
            session=key(1).session,
            node=NODE,
            seq=0,
            sources=[],
            word="hello",
            role="head",
        )
        live.liveness.hear(key(1), hello, live.now_ms())
        await writer.write(finished_task(5))
        await until(lambda: app.state.overviews.known[it].counts.tasks == {"FINISHED": 3})
        assert not app.state.overviews.known[it].final


# the end


async def test_the_end_of_the_server_does_not_wait_for_what_is_being_counted() -> None:
    store = WrappedStore()
    await fill(store, 3)
    store.hold(key(2).segment(NODE, 1))
    with anyio.fail_after(5):
        async with counting(store):
            await store.asked[key(2).segment(NODE, 1)].wait()
    assert store.cancelled == 1


async def test_a_server_that_is_told_to_stop_counts_no_more_while_others_are_answered() -> None:
    store = WrappedStore()
    await fill(store, 3)
    store.hold(key(2).segment(NODE, 1))
    async with counting(store) as app:
        await store.asked[key(2).segment(NODE, 1)].wait()
        app.state.closing.set()
        await until(lambda: store.cancelled == 1)
        left = (await listed(app))["uncounted"]
        assert left > 0
        for _ in range(20):
            await anyio.sleep(0.005)
        assert (await listed(app))["uncounted"] == left

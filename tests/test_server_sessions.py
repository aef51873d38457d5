"""Sessions are loaded once for all who ask, kept fresh, and let go before memory runs out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from blockbuster import blockbuster_ctx
from support.sessions import KEY, NODE, SegmentWriter, WrappedStore, finishing, running_task, tasks

from api.session.reader import UnknownSession
from api.session.sessions import ENDED_AGE, REFUSAL_AGE, Sessions
from pipeline.config import ServerConfig, StoreConfig
from pipeline.errors import Full, Unavailable
from pipeline.layout import SessionKey
from pipeline.stores.catalog import new_metadata, write_metadata

pytestmark = pytest.mark.anyio

SEGMENT = KEY.segment(NODE, 1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(store: WrappedStore, clock: Clock | None = None, **settings: object) -> AsyncIterator[Sessions]:
    config = ServerConfig(store=StoreConfig(url="memory://"), **settings)  # type: ignore[arg-type]
    with blockbuster_ctx():
        async with Sessions(store, config, clock or Clock()) as sessions:
            yield sessions


async def store_of(*keys: SessionKey, count: int = 1) -> WrappedStore:
    store = WrappedStore()
    for key in keys:
        writer = SegmentWriter(store, key)
        await writer.begin()
        await writer.write(tasks(count))
    return store


def named(number: int) -> SessionKey:
    return SessionKey("default", "demo", f"session_2026-01-{number:02d}_02-00-00_123456_1")


async def test_concurrent_requests_share_one_load() -> None:
    store = await store_of(KEY)
    gate = store.hold(SEGMENT)
    readers = []
    async with opened(store) as sessions:

        async def ask() -> None:
            readers.append(await sessions.open(KEY))

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(ask)
            await store.asked[SEGMENT].wait()
            assert sessions.progress(KEY) is not None
            assert not sessions.loaded(KEY)
            gate.set()
        assert len(readers) == 10
        assert len({id(reader) for reader in readers}) == 1
        assert sessions.loaded(KEY)
        assert sessions.progress(KEY) is None
    assert store.gets[SEGMENT] == 1
    assert store.lists[KEY.events] == 1


async def test_a_load_outlives_the_request_that_began_it_while_another_waits() -> None:
    store = await store_of(KEY)
    gate = store.hold(SEGMENT)
    async with opened(store) as sessions, anyio.create_task_group() as group:
        with anyio.CancelScope() as first:

            async def leave() -> None:
                await store.asked[SEGMENT].wait()
                group.start_soon(sessions.open, KEY)
                await anyio.wait_all_tasks_blocked()
                first.cancel()

            group.start_soon(leave)
            await sessions.open(KEY)
        gate.set()
    assert store.gets[SEGMENT] == 1
    assert store.cancelled == 0


async def test_a_load_that_nobody_waits_for_is_cancelled_and_can_be_begun_again() -> None:
    store = await store_of(KEY)
    gate = store.hold(SEGMENT)
    async with opened(store) as sessions:
        with anyio.CancelScope() as only:

            async def leave() -> None:
                await store.asked[SEGMENT].wait()
                only.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(leave)
                await sessions.open(KEY)
        await anyio.wait_all_tasks_blocked()
        assert store.cancelled == 1
        assert sessions.progress(KEY) is None
        gate.set()
        reader = await sessions.open(KEY)
        assert reader.completeness.records == 2


async def test_no_two_looks_at_a_session_run_at_once() -> None:
    store, clock = await store_of(KEY), Clock()
    async with opened(store, clock, refresh=2.0) as sessions:
        await sessions.open(KEY)
        await SegmentWriter(store).write(running_task(7), seq=2, start=0, source="spool/2.jsonl")
        gate = store.hold(KEY.segment(NODE, 2))
        clock.now += 3
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(sessions.open, KEY)
            await store.asked[KEY.segment(NODE, 2)].wait()
            clock.now += 10
            group.start_soon(sessions.open, KEY)
            await anyio.wait_all_tasks_blocked()
            assert store.gets[KEY.segment(NODE, 2)] == 1
            gate.set()
    assert store.lists[KEY.events] == 2


async def test_a_growing_session_is_looked_at_again_only_after_refresh() -> None:
    store, clock = await store_of(KEY), Clock()
    async with opened(store, clock, refresh=2.0) as sessions:
        await sessions.open(KEY)
        await SegmentWriter(store).write(finishing(9), seq=2, source="spool/2.jsonl")
        clock.now += 1.9
        assert (await sessions.open(KEY)).completeness.records == 2
        assert store.lists[KEY.events] == 1
        clock.now += 0.2
        assert (await sessions.open(KEY)).completeness.records == 3
        assert store.lists[KEY.events] == 2
    assert store.gets[SEGMENT] == 1


async def test_an_ended_session_is_looked_at_seldom() -> None:
    store, clock = await store_of(KEY), Clock()
    await write_metadata(store, new_metadata(KEY, ended_ms=1))
    async with opened(store, clock) as sessions:
        await sessions.open(KEY)
        clock.now += ENDED_AGE - 1
        await sessions.open(KEY)
        assert store.lists[KEY.events] == 1
        clock.now += 2
        await sessions.open(KEY)
        assert store.lists[KEY.events] == 2


async def test_the_session_not_asked_for_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [named(number) for number in range(1, 5)]
    store = await store_of(*keys)
    async with opened(store, refresh=1e9) as sessions:
        await sessions.open(keys[0])
        one = sessions.nbytes
    async with opened(store, refresh=1e9, cache_bytes=int(one * 3.5)) as sessions:
        for key in (*keys[:3], keys[0], keys[3]):
            await sessions.open(key)
        assert [sessions.loaded(key) for key in keys] == [True, False, True, True]
        assert sessions.nbytes <= one * 3.5
        await sessions.open(keys[1])
        assert [sessions.loaded(key) for key in keys] == [True, True, False, True]


async def test_a_session_larger_than_the_cache_is_refused_and_not_read_again_at_once() -> None:
    store, clock = await store_of(KEY), Clock()
    async with opened(store, clock, cache_bytes=1000) as sessions:
        for _ in range(3):
            with pytest.raises(Full, match="--cache-bytes"):
                await sessions.open(KEY)
        assert sessions.nbytes == 0
        assert store.gets[SEGMENT] == 1
        clock.now += REFUSAL_AGE + 1
        with pytest.raises(Full):
            await sessions.open(KEY)
        assert store.gets[SEGMENT] == 2


async def test_a_large_session_is_refused_before_all_of_it_is_read() -> None:
    store = WrappedStore()
    writer = SegmentWriter(store)
    for number in range(20):
        await writer.write(tasks(20, first=1 + 20 * number))
    async with opened(store, cache_bytes=1000) as sessions:
        with pytest.raises(Full):
            await sessions.open(KEY)
    assert sum(store.gets.values()) < 10


async def test_only_so_many_sessions_load_at_once() -> None:
    keys = [named(number) for number in range(1, 7)]
    store = await store_of(*keys)
    gates = [store.hold(key.segment(NODE, 1)) for key in keys]
    async with opened(store, load_concurrency=2) as sessions, anyio.create_task_group() as group:
        for key in keys:
            group.start_soon(sessions.open, key)
        await anyio.wait_all_tasks_blocked()
        assert store.getting == 2
        for gate in gates:
            gate.set()


async def test_unknown_sessions_leave_nothing_behind() -> None:
    async with opened(WrappedStore()) as sessions:
        for number in range(50):
            with pytest.raises(UnknownSession):
                await sessions.open(SessionKey("a", "b", f"c{number}"))
        assert sessions.nbytes == 0


async def test_a_failed_load_is_an_error_for_all_who_wait_and_leaves_nothing_behind() -> None:
    store = await store_of(KEY)
    gate = store.hold(KEY.metadata)
    errors = []
    async with opened(store) as sessions:

        async def ask() -> None:
            try:
                await sessions.open(KEY)
            except Unavailable as exc:
                errors.append(exc)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
            await store.asked[KEY.metadata].wait()
            store.fail()
            gate.set()
        assert len(errors) == 3
        assert sessions.nbytes == 0
        store.down = None
        assert (await sessions.open(KEY)).completeness.records == 2


async def test_latest_is_the_newest_session_and_live_the_newest_that_has_not_ended() -> None:
    store = await store_of(*(named(number) for number in (1, 2, 3)))
    await write_metadata(store, new_metadata(named(3), ended_ms=1))
    async with opened(store) as sessions:
        assert await sessions.resolve("default", "demo", "latest") == named(3)
        assert await sessions.resolve("default", "demo", "live") == named(2)
        for what in ("live", "latest"):
            with pytest.raises(UnknownSession, match=f"no {'live ' if what == 'live' else ''}session of default/other"):
                await sessions.resolve("default", "other", what)


@pytest.mark.parametrize("bad", ["..", "a/b", "", "a\0b", "x" * 300, "_catalog"])
async def test_names_that_could_lead_elsewhere_are_unknown_sessions(bad: str) -> None:
    store = WrappedStore()
    async with opened(store) as sessions:
        for names in ((bad, "demo", "s"), ("default", bad, "s"), ("default", "demo", bad)):
            with pytest.raises(UnknownSession):
                await sessions.resolve(*names)
    assert not store.gets
    assert not store.lists


async def test_the_catalog_is_listed_once_for_all_and_only_what_changed_is_read() -> None:
    keys = [named(number) for number in range(1, 6)]
    store, clock = await store_of(*keys), Clock()
    store.gets.clear()
    async with opened(store, clock) as sessions:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(sessions.catalog)
        assert [known.key for known in await sessions.catalog()] == keys[::-1]
        assert store.lists["_catalog/"] == 1
        await write_metadata(store, new_metadata(keys[0], ended_ms=5))
        store.gets.clear()
        clock.now += 10
        assert [known.ended_ms for known in await sessions.catalog()] == [None, None, None, None, 5]
        assert store.gets == {keys[0].catalog: 1}
        await store.delete(keys[1].catalog)
        clock.now += 10
        assert len(await sessions.catalog()) == 4


async def test_hostile_catalog_entries_are_listed_by_name_or_not_at_all(tmp_path: Path) -> None:
    store = await store_of(KEY)
    await store.put("_catalog/default/demo/session_2026-02-01_00-00-00_000000_1", b"{" * 100_000)
    await store.put("_catalog/default/demo/session_2026-02-02_00-00-00_000000_1", b'{"session": "another"}')
    await store.put("_catalog/default/demo/a b", b"{}")
    await store.put("_catalog/deep/er/and/deeper", b"{}")
    await store.put("_catalog/short", b"{}")
    async with opened(store) as sessions:
        listed = [known.session for known in await sessions.catalog()]
    assert listed == [
        "session_2026-02-02_00-00-00_000000_1",
        "session_2026-02-01_00-00-00_000000_1",
        KEY.session,
    ]


async def test_leaving_ends_the_looks_under_way() -> None:
    store = await store_of(KEY)
    store.hold(SEGMENT)
    failures = []

    async def ask(sessions: Sessions) -> None:
        try:
            await sessions.open(KEY)
        except Unavailable as exc:
            failures.append(str(exc))

    async with anyio.create_task_group() as group, opened(store) as sessions:
        group.start_soon(ask, sessions)
        await store.asked[SEGMENT].wait()
    assert failures == ["the server is shutting down"]

"""A live session is answered from what was pushed as a dead one from the store: at once, whole, once, and never over a hole."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import anyio
import msgspec
import pytest
from support.livechannel import Witness
from support.pushing import SOURCE, Collector
from support.sessions import KEY, NODE, SegmentWriter, WrappedStore, finished_task, tasks

from api.index.session_index import SessionIndex
from api.live.liveness import HEARD_MS
from api.session.reader import SessionReader, UnknownSession
from api.session.sessions import Sessions
from api.status import SILENT_AFTER_MS
from api.views.summaries import summarize_tasks
from pipeline.config import ServerConfig, StoreConfig
from pipeline.dashboard.endpoints import Answer, pack, place
from pipeline.errors import Full, Unavailable
from pipeline.layout import SessionKey
from pipeline.segments.segment import Span
from pipeline.stores.catalog import read_metadata, write_metadata

pytestmark = pytest.mark.anyio

OTHER = SessionKey("default", "demo", "session_2026-01-17_02-00-00_123456_1")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def ms(self) -> int:
        return 1_800_000_000_000 + int(self.now * 1000)


@pytest.fixture
def store() -> WrappedStore:
    return WrappedStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sessions(store: WrappedStore, clock: Clock) -> AsyncIterator[Sessions]:
    config = ServerConfig(store=StoreConfig(url="memory://"), refresh=2.0)
    async with Sessions(store, config, clock) as it:
        it.live.now_ms = clock.ms
        yield it


@pytest.fixture
async def collector(sessions: Sessions, store: WrappedStore) -> Collector:
    it = Collector(sessions, store)
    await it.segments.begin()
    it.say("hello")
    return it


async def finished(reader: SessionReader) -> int:
    def count(index: SessionIndex) -> int:
        from api.query.query import parse_summary_options

        answer = summarize_tasks(index, parse_summary_options([]))
        groups = answer["result"]["node_id_to_summary"]["cluster"]["summary"].values()
        return sum(group["state_counts"].get("FINISHED", 0) for group in groups)

    return await reader.query(count)


# at once


async def test_what_was_pushed_is_in_the_next_answer(sessions: Sessions, collector: Collector) -> None:
    for number in range(1, 6):
        collector.push(finished_task(number))
        assert await finished(await sessions.open(KEY)) == number


async def test_while_all_nodes_push_the_store_is_asked_seldom(
    sessions: Sessions, collector: Collector, store: WrappedStore, clock: Clock
) -> None:
    collector.push(finished_task(1))
    await sessions.open(KEY)
    before = sum(store.lists.values()) + sum(store.gets.values())
    for number in range(2, 9):
        clock.now += 1.0
        collector.push(finished_task(number))
        assert await finished(await sessions.open(KEY)) == number
    assert sum(store.lists.values()) + sum(store.gets.values()) == before


async def test_what_the_dashboard_said_is_read_when_the_collector_says_that_it_is_new(
    sessions: Sessions, collector: Collector, store: WrappedStore, clock: Clock
) -> None:
    async def zone() -> object:
        return (await sessions.open(KEY)).snapshots.value("/timezone")

    async def poll(value: str, count: int) -> None:
        answer = Answer("/timezone", 200, "application/json", clock.ms(), f'"{value}"')
        await store.put(place(KEY, answer.url), pack(answer))
        collector.say("alive", polled=count)
        clock.now += 2.0
        collector.say("alive", polled=count)

    assert await zone() is None
    await poll("UTC", 7)
    assert await zone() == "UTC"
    await poll("Europe/London", 8)
    assert await zone() == "Europe/London"
    before = sum(store.lists.values())
    for _ in range(3):
        clock.now += 2.0
        collector.say("alive", polled=8)
        await zone()
    assert sum(store.lists.values()) == before
    await poll("Asia/Tokyo", 1)  # of another run, which counts anew
    assert await zone() == "Asia/Tokyo"


async def test_a_node_that_does_not_push_is_read_from_the_store_as_ever(
    sessions: Sessions, collector: Collector, store: WrappedStore, clock: Clock
) -> None:
    silent = SegmentWriter(store, node="b2" * 28)
    await silent.write(finished_task(100))
    collector.push(finished_task(1))
    assert await finished(await sessions.open(KEY)) == 2
    await silent.write(finished_task(101))
    clock.now += 2.0
    collector.say("alive")
    assert await finished(await sessions.open(KEY)) == 3


async def test_a_store_that_is_away_keeps_no_answer_from_who_has_the_pushes(
    sessions: Sessions, collector: Collector, store: WrappedStore, clock: Clock
) -> None:
    collector.push(finished_task(1))
    await sessions.open(KEY)
    store.fail()
    collector.push(finished_task(2))
    assert await finished(await sessions.open(KEY)) == 2
    clock.now += HEARD_MS / 1000
    with pytest.raises(Unavailable):
        await sessions.open(KEY)


async def test_a_session_is_known_before_the_store_knows_it(sessions: Sessions, store: WrappedStore) -> None:
    new = Collector(sessions, store, OTHER)
    new.say("hello")
    new.push(finished_task(1))
    assert await sessions.resolve("default", "demo", "live") == OTHER
    assert await finished(await sessions.open(OTHER)) == 1


async def test_a_session_that_was_never_heard_of_is_unknown(sessions: Sessions) -> None:
    with pytest.raises(UnknownSession):
        await sessions.open(OTHER)


# whole, and once


async def test_what_was_pushed_is_not_fetched_when_it_is_sealed(
    sessions: Sessions, collector: Collector, store: WrappedStore, clock: Clock
) -> None:
    """A session entered while live goes on as a dead one without a new load."""
    await sessions.open(KEY)
    for number in range(1, 6):
        collector.push(finished_task(number))
        await collector.seal()
    reader = await sessions.open(KEY)
    collector.say("bye", ended_ms=clock.ms())
    metadata = await read_metadata(store, KEY)
    assert metadata is not None
    await write_metadata(store, msgspec.structs.replace(metadata, ended_ms=clock.ms()))
    for _ in range(3):
        clock.now += 100.0
        assert await sessions.open(KEY) is reader
        assert await finished(reader) == 5
    assert [name for name in store.gets if name.endswith(".jsonl.zst")] == []
    assert reader.completeness.as_dict() | {"sources": []} == reader.completeness.as_dict() | {"sources": []}
    assert (reader.completeness.warning(), reader.completeness.nodes[NODE].last_seq) == ("", 5)
    assert sessions.live.ring.nbytes == 0


async def test_a_session_opened_after_it_was_pushed_for_long_is_whole(
    sessions: Sessions, collector: Collector, store: WrappedStore
) -> None:
    for number in range(1, 20):
        collector.push(finished_task(number))
        if number % 5 == 0:
            await collector.seal(tell=number % 2 == 0)
    reader = await sessions.open(KEY)
    assert await finished(reader) == 19
    assert reader.completeness.records == 38


async def test_pushes_beyond_a_hole_wait_and_a_segment_is_asked_for(
    sessions: Sessions, collector: Collector, store: WrappedStore, clock: Clock
) -> None:
    collector.push(finished_task(1))
    reader = await sessions.open(KEY)
    collector.write(finished_task(2))
    collector.push(finished_task(3))
    clock.now += 2.0
    assert await finished(await sessions.open(KEY)) == 1
    assert collector.asked_to_seal()
    await collector.seal()
    assert await finished(await sessions.open(KEY)) == 3
    assert (reader.completeness.records, reader.completeness.missing_bytes) == (6, 0)
    collector.push(finished_task(4))
    assert await finished(await sessions.open(KEY)) == 4


async def test_one_node_s_hole_holds_up_no_other(sessions: Sessions, collector: Collector, store: WrappedStore) -> None:
    worker = Collector(sessions, store, node="b2" * 28)
    worker.say("hello")
    await sessions.open(KEY)
    collector.write(finished_task(1))
    collector.push(finished_task(2))
    worker.push(finished_task(3))
    assert await finished(await sessions.open(KEY)) == 1


async def test_a_hole_that_was_said_is_passed_and_counted(sessions: Sessions, collector: Collector) -> None:
    reader = await sessions.open(KEY)
    first, last = b"".join(finished_task(1)), b"".join(finished_task(2))
    collector.say("batch", [Span(SOURCE, "ray_event", 0, len(first), 2)], first)
    end = len(first) + 10_000_000
    gap = {"source": SOURCE, "start": len(first), "end": end, "why": "too_long"}
    collector.say("batch", [Span(SOURCE, "ray_event", end, end, 0)], gaps=[gap])
    collector.say("batch", [Span(SOURCE, "ray_event", end, end + len(last), 2)], last)
    assert await finished(await sessions.open(KEY)) == 2
    assert reader.completeness.missing_bytes == 10_000_000


async def test_watchers_get_everything_without_asking(
    sessions: Sessions, collector: Collector, store: WrappedStore
) -> None:
    witness = Witness()
    async with sessions.watch(KEY) as reader:
        reader.on_applied = witness
        collector.push(finished_task(1))
        await witness.until(2)
        collector.write(finished_task(2))
        await collector.seal()
        await witness.until(4)
        collector.push(finished_task(3))
        await witness.until(6)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_comes_late_twice_or_never_each_record_is_applied_once_and_in_order(
    sessions: Sessions, collector: Collector, store: WrappedStore, clock: Clock, seed: int
) -> None:
    draw = random.Random(seed)
    witness, number = Witness(), 0
    async with sessions.watch(KEY) as reader:
        reader.on_applied = witness
        for _ in range(60):
            match draw.choice(["push", "push", "push", "again", "lost", "seal", "silent seal", "ask", "hello"]):
                case "push":
                    collector.push(tasks(draw.randint(1, 3), first=(number := number + 5)))
                case "lost":
                    collector.write(tasks(1, first=(number := number + 5)))
                case "again" if collector.lines:
                    start = draw.randrange(len(collector.lines))
                    collector.push(range(start, draw.randint(start + 1, len(collector.lines))))
                case "seal" | "silent seal" as how if collector.sealed_lines < len(collector.lines):
                    await collector.seal(tell=how == "seal")
                case "ask":
                    clock.now += draw.random() * 3
                    await sessions.open(KEY)
                case "hello":
                    collector.say("hello")
        if collector.sealed_lines < len(collector.lines):
            await collector.seal()
        clock.now += 20.0
        await sessions.open(KEY)
        await witness.until(len(collector.lines), within=5)
        assert reader.completeness.missing_bytes == 0


# who lives


async def test_live_is_the_newest_session_that_was_heard_lately(
    sessions: Sessions, collector: Collector, store: WrappedStore, clock: Clock
) -> None:
    newer = Collector(sessions, store, OTHER)
    await newer.segments.begin()
    clock.now += 3.0
    collector.say("alive")
    assert await sessions.resolve("default", "demo", "latest") == OTHER
    assert await sessions.resolve("default", "demo", "live") == KEY
    newer.say("hello")
    assert await sessions.resolve("default", "demo", "live") == OTHER
    newer.say("bye", ended_ms=clock.ms())
    assert await sessions.resolve("default", "demo", "live") == KEY
    collector.say("bye", ended_ms=clock.ms())
    with pytest.raises(UnknownSession):
        await sessions.resolve("default", "demo", "live")


async def test_a_session_that_falls_silent_is_lost_until_it_is_heard_again(
    sessions: Sessions, collector: Collector, store: WrappedStore, clock: Clock
) -> None:
    known = await read_metadata(store, KEY)
    assert known is not None
    assert sessions.status(known) == "live"
    clock.now += SILENT_AFTER_MS / 1000
    assert sessions.status(known) == "lost"
    collector.say("alive")
    assert sessions.status(known) == "live"
    collector.say("bye", ended_ms=clock.ms())
    assert sessions.status(known) == "ended"


# bounds


async def test_a_watched_session_stays_while_others_go(store: WrappedStore, clock: Clock) -> None:
    config = ServerConfig(store=StoreConfig(url="memory://"), cache_bytes=1_000_000)
    async with Sessions(store, config, clock) as sessions:
        sessions.live.now_ms = clock.ms
        for number in range(30):
            named = SessionKey("default", "demo", f"session_2026-01-16_02-00-00_123456_{number}")
            writer = SegmentWriter(store, named)
            await writer.begin()
            await writer.write(tasks(20))
        first = SessionKey("default", "demo", "session_2026-01-16_02-00-00_123456_0")
        async with sessions.watch(first) as reader:
            for number in range(1, 30):
                await sessions.open(SessionKey("default", "demo", f"session_2026-01-16_02-00-00_123456_{number}"))
            assert sessions.nbytes <= config.cache_bytes
            assert await sessions.open(first) is reader


async def test_a_session_dropped_from_memory_is_whole_again_when_it_is_opened(
    sessions: Sessions, collector: Collector, store: WrappedStore
) -> None:
    collector.push(finished_task(1))
    before = await sessions.open(KEY)
    collector.push(finished_task(2))
    sessions._drop(KEY, sessions._entries[KEY], "memory")
    reader = await sessions.open(KEY)
    assert reader is not before
    assert await finished(reader) == 2


async def test_only_so_many_sessions_are_watched(
    sessions: Sessions, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.session.sessions.MAX_WATCHED", 1)
    async with sessions.watch(KEY), sessions.watch(KEY):
        with pytest.raises(Full):
            async with sessions.watch(OTHER):
                pass


async def test_what_is_pushed_to_a_loaded_session_that_nobody_asks_for_is_kept_compressed(
    sessions: Sessions, collector: Collector, clock: Clock
) -> None:
    reader = await sessions.open(KEY)
    clock.now += 31.0
    for number in range(1, 50):
        collector.push(finished_task(number))
    await anyio.wait_all_tasks_blocked()
    assert reader.completeness.records == 0
    assert await finished(await sessions.open(KEY)) == 49

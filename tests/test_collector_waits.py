"""A store that is away, slow or shared costs time, never a record, never memory, and never the process."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
import structlog
from structlog.testing import capture_logs
from support.collecting import RayFolder, append, collecting, event, has, has_count, key, line, post, settings, settled
from support.flaky import FlakyStore, down
from support.storecheck import stored_records, stored_segments

from pipeline import metrics
from pipeline.errors import Denied, NotFound, StoreError, Throttled, Unavailable

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


@pytest.mark.parametrize("error", [Unavailable("away"), Throttled("slow down"), Denied("no"), NotFound("no bucket")])
async def test_a_store_away_from_the_start_gets_everything_once_it_is_there(
    tmp_path: Path, store: FlakyStore, error: StoreError
) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    append(ray.export(), line(1))
    store.away = error
    with capture_logs() as said:
        async with collecting(config, store) as it:
            assert await post(it.url, event(1)) == 200
            await settled(lambda: told(said, "the store can't be used, trying again"))
            store.away = None
            await settled(lambda: has_count(store, 2))
    assert it.clean
    assert [each["kind"] for each in said if each["event"].startswith("the store can't")] == [type(error).__name__]


async def test_each_change_of_the_store_s_state_is_said_once(tmp_path: Path, store: FlakyStore) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    with capture_logs() as said:
        async with collecting(config, store):
            for number in range(3):
                store.away = down()
                append(ray.export(), line(number))
                await settled(lambda number=number: told(said, "the store can't be used, trying again", number + 1))
                await anyio.sleep(0.2)  # several tries
                store.away = None
                await settled(lambda number=number: has_count(store, number + 1))
    events = [each["event"] for each in said if each["event"].startswith("the store")]
    assert events == ["the store can't be used, trying again", "the store can be used again"] * 3


async def test_told_to_stop_with_a_dead_store_it_ends_within_the_budget_and_says_what_is_left(
    tmp_path: Path, store: FlakyStore
) -> None:
    config = settings(tmp_path, shutdown_budget=0.5)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    async with collecting(config, store):
        append(ray.export(), line(1))
        await settled(lambda: has_count(store, 1))
    with capture_logs() as said:
        began = anyio.current_time()
        async with collecting(config, store) as it:
            await settled(lambda: told(said, "following"))
            store.away = down()
            append(ray.export(), line(2), line(3))
            await settled(lambda: told(said, "the store can't be used, trying again"))
            began = anyio.current_time()
        assert anyio.current_time() - began < 15, "the store would be waited for without an end"
    assert it.clean is False
    (left,) = [each["left_bytes"] for each in said if "left_bytes" in each]
    assert left == {key().session: len(line(2) + line(3))}
    store.away = None
    async with collecting(config, store):
        await settled(lambda: has(store, key(), {line(1), line(2), line(3)}))


async def test_a_backlog_is_never_read_far_ahead_of_what_is_stored(tmp_path: Path, store: FlakyStore) -> None:
    config = settings(tmp_path, segment_bytes=1 << 20)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    for number in range(8):
        append(
            ray.export(name=f"event_EXPORT_TASK_{number}.log"),
            *[line(n, size=1000, of=f"{number}") for n in range(3000)],
        )
    store.hold = anyio.Event()
    read = 0

    async with collecting(config, store):

        async def waits() -> bool:
            nonlocal read
            before, read = read, total_read()
            await anyio.sleep(0.3)
            return read > 0 and total_read() == before == read

        start = total_read()
        await settled(waits)
        assert total_read() - start <= 10 << 20  # a round, and two segments
        store.hold.set()
        await settled(lambda: has_count(store, 8 * 3000))
    assert max(header.body_length for header, _ in await stored_segments(store, key())) < 3 << 20


def total_read() -> int:
    return int(metrics.BYTES_READ.labels("export_api")._value.get())


async def test_two_collectors_of_one_node_never_write_a_record_twice(tmp_path: Path, store: FlakyStore) -> None:
    """An old pod that is still dying: both see the same files, each has its own data folder."""
    ray = RayFolder(tmp_path / "ray")
    ray.begin()
    old = settings(tmp_path, data_dir=tmp_path / "old")
    new = settings(tmp_path, data_dir=tmp_path / "new")
    lines: list[bytes] = []
    keys_put: list[str] = []
    store.before_put = lambda name: keys_put.append(name) if "/events/" in name else None
    async with collecting(old, store) as first, collecting(new, store) as second:
        for number in range(60):
            lines.append(line(number))
            append(ray.export(), lines[-1])
            assert await post((first if number % 2 else second).url, event(number)) == 200
            await anyio.sleep(0.02)
        await settled(lambda: has_count(store, 120))
    found = [each for *_, each in await stored_records(store, key())]
    assert len(found) == 120
    assert {each for each in found if b"eventId" not in each} == set(lines)
    assert len(keys_put) > len(set(keys_put)), "they never met: nothing was tested"


async def told(said: list[structlog.typing.EventDict], event: str, times: int = 1) -> bool:
    return sum(each["event"] == event for each in said) >= times

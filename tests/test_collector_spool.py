"""A post answered 200 is in the store before its spool file goes, however small the files and however full the disk."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict
from support.collecting import RayFolder, collecting, event, has_count, key, post, settings, settled
from support.flaky import FlakyStore, down
from support.storecheck import stored_lines

from pipeline.collector import run_collector
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio


async def all_of(store: MemoryStore, ids: set[str]) -> bool:
    lines = await stored_lines(store, key())
    return {json.loads(each)["eventId"] for each in lines} == ids and len(lines) == len(ids)


@pytest.mark.parametrize("role", ["one after the other", "all at once"])
async def test_every_post_answered_200_is_stored_while_files_come_and_go(tmp_path: Path, role: str) -> None:
    """Each post closes its file, so a file is made, filled, closed, shipped and released for every one."""
    config = settings(tmp_path, disk_limit=64_000, segment_bytes=20_000, segment_age=0.05, rescan=0.01)
    RayFolder(config.ray_tmp).begin()
    store = MemoryStore()
    taken: set[str] = set()

    async def send(number: int) -> None:
        if await post(it.url, event(number) | {"message": "x" * 9_000}) == 200:
            taken.add(f"id-{number}")

    async with collecting(config, store) as it:
        for number in range(0, 150, 5):
            async with anyio.create_task_group() as tasks:
                for each in range(number, number + 5):
                    if role == "all at once":
                        tasks.start_soon(send, each)
                    else:
                        await send(each)
    assert it.clean
    assert len(taken) > 50
    assert await all_of(store, taken)
    left = list((config.data_dir / "spool").rglob("*.jsonl"))
    assert len(left) <= 1, "only the newest is kept, to know what is posted again"


async def test_with_the_store_away_the_spool_fills_posts_are_refused_and_all_flows_once_it_is_back(
    tmp_path: Path,
) -> None:
    config = settings(tmp_path, segment_bytes=100_000, disk_limit=400_000)
    RayFolder(config.ray_tmp).begin()
    store = FlakyStore()

    async def is_taken(number: int) -> bool:
        return await post(it.url, event(number) | {"message": "x" * 50_000}) == 200

    async with collecting(config, store) as it:
        await settled(lambda: has_metadata(store))
        store.away = down()
        taken = 0
        while await is_taken(taken):
            taken += 1
            assert taken < 100
        assert taken >= 4
        store.away = None
        await settled(lambda: has_count(store, taken))
        await settled(lambda: is_taken(taken))
    assert it.clean
    assert await all_of(store, {f"id-{n}" for n in range(taken + 1)})


async def test_what_was_read_but_not_stored_is_still_there_after_a_restart(tmp_path: Path) -> None:
    config = settings(tmp_path, segment_bytes=100_000, disk_limit=400_000, shutdown_budget=0.3)
    RayFolder(config.ray_tmp).begin()
    store = FlakyStore()
    async with collecting(config, store) as it:
        await settled(lambda: has_metadata(store))
        store.away = down()
        for number in range(5):
            assert await post(it.url, event(number) | {"message": "x" * 50_000}) == 200
    assert it.clean is False
    store.away = None
    async with collecting(config, store):
        await settled(lambda: has_count(store, 5))
    assert await all_of(store, {f"id-{n}" for n in range(5)})


async def test_two_collectors_never_use_one_data_folder_at_a_time(tmp_path: Path) -> None:
    """The second would take the first one's open file for closed and delete it."""
    config = settings(tmp_path)
    RayFolder(config.ray_tmp).begin()
    store = MemoryStore()
    with capture_logs() as said:
        async with anyio.create_task_group() as tasks:
            async with collecting(config, store) as first:
                stop = anyio.Event()
                tasks.start_soon(partial(run_collector, config, store, stop=stop))
                await settled(lambda: waits(said))
                assert await post(first.url, event(1)) == 200
                await settled(lambda: has_count(store, 1))
            await settled(lambda: takes_posts(said, 2))
            stop.set()
    assert await has_count(store, 1)


async def test_one_that_waits_for_the_data_folder_ends_when_told_to(tmp_path: Path) -> None:
    config = settings(tmp_path)
    store = MemoryStore()
    async with collecting(config, store):
        stop = anyio.Event()
        stop.set()
        assert await run_collector(config, store, stop=stop)


async def waits(said: list[EventDict]) -> bool:
    return any(each["event"].startswith("another collector uses") for each in said)


async def takes_posts(said: list[EventDict], times: int) -> bool:
    return sum(each["event"] == "taking posts" for each in said) == times


async def has_metadata(store: MemoryStore) -> bool:
    return bool(await store.list(key().metadata))

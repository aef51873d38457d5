"""Whatever breaks between a collector and a server, the server has every record once, and the store gets all of them in time."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from support.collecting import RayFolder, append, collecting, key, line, settings, settled
from support.livechannel import (
    LiveServer,
    cuttable,
    has_tasks,
    post,
    posted,
    serving,
    total_tasks,
    wait_heard,
    witnessed,
)
from support.storecheck import stored_lines

from pipeline.push import push_http
from pipeline.push.pushed import unpack_push
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def in_store(store: MemoryStore, records: int) -> None:
    async def there() -> bool:
        return len(await stored_lines(store, key())) >= records

    await settled(there)
    assert len(await stored_lines(store, key())) == records


async def test_records_are_there_long_before_they_are_sealed(tmp_path: Path, store: MemoryStore) -> None:
    async with serving(store) as server:
        config = settings(tmp_path, server=server.url, segment_age=3600.0)
        ray = RayFolder(config.ray_tmp)
        ray.begin()
        async with collecting(config, store) as it:
            await wait_heard(server)
            async with witnessed(server) as witness:
                await post(it.url, posted(range(1, 4)))
                await witness.until(6)
                append(ray.export(), line(1), line(2))
                await witness.until(8)
                assert await total_tasks(server) == 3
                assert await stored_lines(store, key()) == []
        assert it.clean
        assert await total_tasks(server) == 3
    await in_store(store, 8)


async def test_what_was_pushed_is_not_read_again_from_the_store(tmp_path: Path, store: MemoryStore) -> None:
    async with serving(store) as server:
        config = settings(tmp_path, server=server.url)
        RayFolder(config.ray_tmp).begin()
        async with collecting(config, store) as it:
            await wait_heard(server)
            async with witnessed(server) as witness:
                for at in range(3):
                    await post(it.url, posted(range(at * 3, at * 3 + 3)))
                    await in_store(store, at * 6 + 6)
                await witness.until(18)
                reader = await server.sessions.open(key())

                async def passed() -> bool:
                    return all(seen.sealed == seen.end for seen in reader.completeness.sources.values())

                await settled(passed)
                assert reader.completeness.repeated_bytes == 0
                assert reader.completeness.warning() == ""
                assert server.sessions.live.ring.batches(key()) == []


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed meanwhile", "nothing sealed"])
async def test_a_cut_network_costs_no_record_and_repeats_none(tmp_path: Path, store: MemoryStore, sealed: bool) -> None:
    async with serving(store) as server, cuttable(server.port) as network:
        config = settings(tmp_path, server=network.url, segment_age=0.2 if sealed else 3600.0)
        RayFolder(config.ray_tmp).begin()
        async with collecting(config, store) as it:
            await wait_heard(server)
            async with witnessed(server) as witness:
                await post(it.url, posted(range(5)))
                await witness.until(10)
                network.cut()
                for at in range(5, 50, 5):
                    await post(it.url, posted(range(at, at + 5)))
                if sealed:
                    await in_store(store, 100)
                network.heal()
                await witness.until(100)
                await network.reset()
                await post(it.url, posted(range(50, 55)))
                await witness.until(110)
                assert await total_tasks(server) == 55
    await in_store(store, 110)


async def test_messages_given_up_in_a_cut_and_delivered_after_it_change_nothing(
    tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut that lasts longer than the collector waits for an answer: what it gave up arrives late, and out of order."""
    monkeypatch.setattr(push_http, "SECONDS", 0.3)
    async with serving(store) as server, cuttable(server.port) as network:
        config = settings(tmp_path, server=network.url, segment_age=3600.0)
        RayFolder(config.ray_tmp).begin()
        async with collecting(config, store) as it:
            await wait_heard(server)
            async with witnessed(server) as witness:
                await post(it.url, posted(range(5)))
                await witness.until(10)
                network.cut()
                before = network.connections
                for at in range(5, 30, 5):
                    await post(it.url, posted(range(at, at + 5)))

                async def tried() -> bool:
                    return network.connections >= before + 3

                await settled(tried)
                network.heal()
                await witness.until(60)
                await post(it.url, posted(range(30, 35)))
                await witness.until(70)
                assert await total_tasks(server) == 35


async def test_no_secret_is_pushed(tmp_path: Path, store: MemoryStore) -> None:
    async with serving(store) as server:
        config = settings(tmp_path, server=server.url, segment_age=3600.0)
        RayFolder(config.ray_tmp).begin()
        async with collecting(config, store) as it:
            await wait_heard(server)
            events = posted(range(1))
            environment = json.dumps({"env_vars": {"API_KEY": "do-not-tell"}})
            events[0]["taskDefinitionEvent"]["serializedRuntimeEnv"] = environment
            await post(it.url, events)
            async with witnessed(server) as witness:
                await witness.until(2)
            (batch,) = server.sessions.live.ring.batches(key())
            assert batch.data is not None
            text = bytes(unpack_push(batch.data)[1])
        assert b"API_KEY" in text
        assert b"do-not-tell" not in text
        assert text in b"".join(await stored_lines(store, key()))


async def test_a_clean_end_is_known_at_once(tmp_path: Path, store: MemoryStore) -> None:
    async with serving(store) as server:
        config = settings(tmp_path, server=server.url, segment_age=3600.0)
        RayFolder(config.ray_tmp).begin()
        async with collecting(config, store) as it:
            await wait_heard(server)
            await post(it.url, posted(range(5)))
            await has_tasks(server, 5)
            assert await status(server) == "live"
        assert (await status(server), await total_tasks(server)) == ("ended", 5)
        reader = await server.sessions.open(key())
        assert [seen.last_seq for seen in reader.completeness.nodes.values()] == [1]
        assert reader.completeness.repeated_bytes == 0


async def status(server: LiveServer) -> str:
    async with httpx.AsyncClient() as client:
        (row,) = (await client.get(f"{server.url}/clusters")).json()
    return str(row["status"])


@pytest.mark.parametrize("broken", [True, False], ids=["in mid message", "after its answers"])
async def test_a_server_that_begins_again_is_told_what_it_lost(
    tmp_path: Path, store: MemoryStore, broken: bool
) -> None:
    async with serving(store) as server, cuttable(server.port) as network:
        config = settings(tmp_path, server=network.url, segment_age=3600.0)
        RayFolder(config.ray_tmp).begin()
        async with collecting(config, store) as it:
            await wait_heard(server)
            await post(it.url, posted(range(5)))
            async with witnessed(server) as witness:
                await witness.until(10)
            if broken:
                network.cut()
                await post(it.url, posted(range(5, 8)))
                await network.reset()
            await server.stop()
            network.heal()
            await post(it.url, posted(range(8 if broken else 5, 10)))
            await server.start()
            await wait_heard(server)
            async with witnessed(server) as witness:
                await witness.until(20)
                await post(it.url, posted(range(10, 15)))
                await witness.until(30)
                assert await total_tasks(server) == 15
            assert await stored_lines(store, key()) == []
    await in_store(store, 30)


async def test_what_the_collector_could_not_keep_is_sealed_when_it_is_asked_for(
    tmp_path: Path, store: MemoryStore
) -> None:
    async with serving(store) as server:
        config = settings(tmp_path, server=server.url, segment_age=3600.0, push_bytes=8000)
        RayFolder(config.ray_tmp).begin()
        async with collecting(config, store) as it:
            await wait_heard(server)
            await server.stop()
            for at in range(0, 50, 5):
                await post(it.url, posted(range(at, at + 5)))
            await server.start()
            await wait_heard(server)
            assert await stored_lines(store, key()) == []
            async with witnessed(server) as witness:
                await witness.until(100)
                assert await total_tasks(server) == 50
            assert len(await stored_lines(store, key())) >= 80
    await in_store(store, 100)


async def test_a_server_that_hangs_holds_up_no_segment(tmp_path: Path, store: MemoryStore) -> None:
    async with serving(store) as server, cuttable(server.port) as network:
        network.cut()
        config = settings(tmp_path, server=network.url, shutdown_budget=5.0)
        RayFolder(config.ray_tmp).begin()
        async with collecting(config, store) as it:
            for at in range(0, 20, 5):
                await post(it.url, posted(range(at, at + 5)))
                await in_store(store, 2 * at + 10)
        assert it.clean


async def test_without_a_server_nothing_else_changes(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path, server="http://127.0.0.1:9")
    RayFolder(config.ray_tmp).begin()
    async with collecting(config, store) as it:
        await post(it.url, posted(range(5)))
        await in_store(store, 10)
    assert it.clean

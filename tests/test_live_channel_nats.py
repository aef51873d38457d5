"""By way of NATS: several servers have every record once, whatever is killed, and none follows what nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from support.collecting import RayFolder, collecting, key, settings, settled
from support.livechannel import has_tasks, post, posted, serving, total_tasks, wait_heard, witnessed
from support.natsserver import NatsServer, nats_server
from support.storecheck import stored_lines

from pipeline.errors import BadKey, ConfigError
from pipeline.layout import SessionKey
from pipeline.push.nats_link import parse_nats, place_of, subject
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio

NOT_SEALED = 3600.0


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path / "nats") as server:
        yield server


async def test_two_servers_have_every_record_once(tmp_path: Path, store: MemoryStore, nats: NatsServer) -> None:
    async with serving(store, live=nats.url) as one, serving(store, live=nats.url) as other:
        config = settings(tmp_path, push=nats.url, segment_age=NOT_SEALED)
        RayFolder(config.ray_tmp).begin()
        async with collecting(config, store) as it:
            await post(it.url, posted(range(5)))
            await wait_heard(one)
            await wait_heard(other)
            async with witnessed(one) as first, witnessed(other) as second:
                await first.until(10)
                await second.until(10)
                await post(it.url, posted(range(5, 10)))
                await first.until(20)
                await second.until(20)
            assert (await total_tasks(one), await total_tasks(other)) == (10, 10)
            assert await stored_lines(store, key()) == []
        assert it.clean
    assert len(await stored_lines(store, key())) == 20


async def test_what_nobody_watches_is_not_followed_but_heard(
    tmp_path: Path, store: MemoryStore, nats: NatsServer
) -> None:
    async with serving(store, live=nats.url) as server:
        config = settings(tmp_path, push=nats.url, segment_age=NOT_SEALED)
        RayFolder(config.ray_tmp).begin()
        async with collecting(config, store) as it:
            await post(it.url, posted(range(5)))
            await wait_heard(server)
            assert server.sessions.live.ring.batches(key()) == []
            assert await server.sessions.resolve("default", "ray", "live") == key()
            await has_tasks(server, 5)
            assert server.sessions.live.ring.batches(key()) != []


@pytest.mark.parametrize("lost", [False, True], ids=["with its stream", "and its stream lost"])
async def test_nats_killed_and_started_again_costs_nothing(
    tmp_path: Path, store: MemoryStore, nats: NatsServer, lost: bool
) -> None:
    async with serving(store, live=nats.url) as server:
        config = settings(tmp_path, push=nats.url, segment_age=NOT_SEALED)
        RayFolder(config.ray_tmp).begin()
        async with collecting(config, store) as it:
            await post(it.url, posted(range(5)))
            await wait_heard(server)
            async with witnessed(server) as witness:
                await witness.until(10)
                await to_thread.run_sync(nats.kill)
                await post(it.url, posted(range(5, 10)))
                if lost:
                    nats.forget()
                await to_thread.run_sync(nats.start)
                await witness.until(20, within=40)
                await post(it.url, posted(range(10, 15)))
                await witness.until(30)
                assert await total_tasks(server) == 15
    assert len(await stored_lines(store, key())) == 30


async def test_a_server_that_comes_later_has_what_the_stream_has_lost(
    tmp_path: Path, store: MemoryStore, nats: NatsServer
) -> None:
    """What is neither in the stream nor in the store is sealed, because the server asks for it."""
    config = settings(tmp_path, push=nats.url, segment_age=NOT_SEALED)
    RayFolder(config.ray_tmp).begin()
    async with collecting(config, store) as it:
        async with serving(store, live=nats.url) as server:
            await wait_heard(server)
            await post(it.url, posted(range(5)))
            await has_tasks(server, 5)
        await to_thread.run_sync(nats.kill)
        nats.forget()
        await to_thread.run_sync(nats.start)
        async with serving(store, live=nats.url) as server:
            await wait_heard(server)
            async with witnessed(server) as witness:
                await post(it.url, posted(range(5, 10)))
                await witness.until(20, within=40)
    assert len(await stored_lines(store, key())) == 20


async def test_without_nats_segments_go_their_way_and_the_end_is_clean(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path, push="nats://127.0.0.1:9")
    RayFolder(config.ray_tmp).begin()
    async with serving(store, live="nats://127.0.0.1:9") as server, collecting(config, store) as it:
        await post(it.url, posted(range(5)))

        with anyio.fail_after(20):
            await server_has(server)
        await has_tasks(server, 5)
    assert it.clean


async def server_has(server) -> None:  # type: ignore[no-untyped-def]
    async def listed() -> bool:
        return bool(await server.sessions.catalog())

    await settled(listed)


# addresses and subjects


def test_a_subject_says_which_session_it_is_of_whatever_the_names() -> None:
    odd = SessionKey("name.space", "a.b=c@d", "session_1")
    made = subject("p", "push", odd, "n.1")
    assert made.count(".") == 5
    assert place_of(made) == (odd, "n.1")
    for wrong in ("p.push.a.b.c", "p.push.a.b.c.d.e", "p.push.a.b.c.*", "p.push.a.b..d"):
        with pytest.raises(BadKey):
            place_of(wrong)


def test_an_address_says_where_and_how_much_is_kept_and_never_its_password() -> None:
    place = parse_nats("nats://user:secret@one:4222,two:4222/team-a?age=60&bytes=2097152")
    assert (place.servers, place.prefix, place.stream) == (
        ["nats://user:secret@one:4222", "nats://two:4222"],
        "team-a",
        "team-a-push",
    )
    assert (place.age, place.bytes, place.shown) == (60.0, 2 << 20, "nats://one:4222,two:4222")
    assert parse_nats("nats://one").prefix == "ray-history"


@pytest.mark.parametrize(
    "tail", ["/a.b", "/a/b", "?age=0", "?bytes=1", "?age=x", "?other=1", "?age=nan", "/a>", "?age"]
)
def test_a_wrong_address_is_refused_without_its_password(tail: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_nats(f"nats://user:secret@host:4222{tail}")
    assert "secret" not in str(caught.value)

"""Every store keeps the promises of ``ObjectStore``: memory, files, moto (AWS's order) and SeaweedFS (a real server)."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import anyio
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.s3server import S3Server

from pipeline.config import StoreConfig
from pipeline.errors import AlreadyExists, BadKey, NotFound
from pipeline.stores.open_store import open_store
from pipeline.stores.store import Listing, MemoryStore, ObjectStore, conditional_put_works

pytestmark = pytest.mark.anyio

KINDS = ["memory", "file", pytest.param("moto", marks=pytest.mark.s3), pytest.param("seaweed", marks=pytest.mark.s3)]
HOSTILE = ["", "/", "/etc/passwd", "a/", "a//b", "../a", "a/../b", "a/..", "..", ".", "./a", "a/./b", ".tmp/a", "a/.b"]
HOSTILE += ["a\0b", "a\nb", "a\x7f", "a" * 256, "/".join(["ab"] * 400), "/".join("a" * 65), "\ud800"]
_numbers = itertools.count()
_buckets: dict[str, str] = {}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreConfig:
    """An address where nothing stands yet."""
    if kind == "memory":
        return StoreConfig(url="memory://")
    if kind == "file":
        return StoreConfig(url=f"file://{tmp_path}/root")
    server: S3Server = request.getfixturevalue(f"{kind}_server")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = _buckets.get(kind) or _buckets.setdefault(kind, server.new_bucket())
    return StoreConfig(url=f"s3://{bucket}/some/prefix{next(_numbers)}", endpoint=server.endpoint, path_style=True)


@pytest.fixture
async def store(config: StoreConfig) -> AsyncIterator[ObjectStore]:
    async with open_store(config) as opened:
        yield opened


@pytest.fixture(autouse=True)
def blocking_calls_fail() -> Iterator[None]:
    with blockbuster_ctx():
        yield


async def keys(store: ObjectStore, prefix: str = "", **bounds: object) -> list[str]:
    return [info.key for info in await store.list(prefix, **bounds)]  # type: ignore[arg-type]


# Objects


@pytest.mark.parametrize("data", [b"", b"\0", os.urandom(3 << 20)], ids=["empty", "one byte", "3 MiB"])
async def test_what_was_put_is_read_back_byte_for_byte(store: ObjectStore, data: bytes) -> None:
    await store.put("a/b", data)
    assert await store.get("a/b") == data
    assert [info.size for info in await store.list("")] == [len(data)]


async def test_a_put_replaces_what_stood_there_and_its_etag(store: ObjectStore) -> None:
    first = await store.put("a", b"one")
    second = await store.put("a", b"two")
    assert await store.get("a") == b"two"
    assert first != second
    assert [info.etag for info in await store.list("")] == [second]


async def test_a_conditional_put_of_a_free_key_writes_it(store: ObjectStore) -> None:
    etag = await store.put("a/b", b"one", if_absent=True)
    assert [(info.key, info.etag) for info in await store.list("")] == [("a/b", etag)]


async def test_a_conditional_put_of_a_taken_key_leaves_what_stands_there(store: ObjectStore) -> None:
    await store.put("a/b", b"one")
    with pytest.raises(AlreadyExists, match="a/b exists in"):
        await store.put("a/b", b"two", if_absent=True)
    assert await store.get("a/b") == b"one"


async def test_of_twenty_conditional_puts_at_once_exactly_one_wins(store: ObjectStore, kind: str) -> None:
    if kind == "moto":
        pytest.skip("moto checks and writes in two steps, real servers in one")
    for round_ in range(1 if kind == "seaweed" else 5):  # its losers wait for each other, a second at a time
        winners: list[int] = []

        async def put(number: int, key: str = f"a/{round_}", winners: list[int] = winners) -> None:
            try:
                await store.put(key, b"%d" % number * 1000, if_absent=True)
            except AlreadyExists:
                return
            winners.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(put, number)
        assert len(winners) == 1
        assert await store.get(f"a/{round_}") == b"%d" % winners[0] * 1000


async def test_readers_see_whole_objects_while_they_are_replaced(store: ObjectStore) -> None:
    sizes = range(200_000, 200_020)
    await store.put("a", bytes([1]) * sizes[0])
    done = anyio.Event()

    async def read() -> None:
        while not done.is_set():
            data = await store.get("a")
            assert len(data) in sizes
            assert data == data[:1] * len(data)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(read)
        for number, size in enumerate(sizes):
            await store.put("a", bytes([number]) * size)
        done.set()


async def test_a_store_says_whether_conditional_puts_work_and_leaves_no_trace(store: ObjectStore) -> None:
    assert await conditional_put_works(store)
    assert await store.list("") == []


# Reading


@pytest.mark.parametrize("bounds", [{}, {"start": 3}, {"end": 5}, {"start": 2, "end": 2}], ids=str)
async def test_reading_what_is_not_there_says_so(store: ObjectStore, bounds: dict[str, int]) -> None:
    await store.put("a/b", b"x")
    for key in ("a/c", "a", "b/c/d"):
        with pytest.raises(NotFound, match=f"no object {key} in"):
            await store.get(key, **bounds)


@pytest.mark.parametrize("data", [b"", b"0123456789"], ids=["empty", "ten bytes"])
async def test_a_range_is_cut_to_the_object(store: ObjectStore, data: bytes) -> None:
    await store.put("a", data)
    for start in (0, 1, 5, 9, 10, 11, 1000):
        for end in (None, 0, 1, 5, 10, 11, 1000):
            assert await store.get("a", start=start, end=end) == data[start:end], (start, end)


async def test_a_range_that_counts_from_the_end_is_refused(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match="negative range"):
        await store.get("a", start=-1)
    with pytest.raises(ValueError, match="negative range"):
        await store.get("a", end=-1)


# Listing

_names = st.text(st.sampled_from("ab0_!-. +%&=?#~@'\"<é中"), min_size=1, max_size=3).filter(lambda n: n[0] != ".")
_keys = st.lists(_names, min_size=1, max_size=3).map("/".join)


def _consistent(found: list[str]) -> list[str]:
    """Less the keys that another one uses as a folder: a store of files can't hold both."""
    return [key for key in found if not any(other.startswith(f"{key}/") for other in found)]


@example(["a/b", "a-b", "a0", "ab/c/d", "z", "a!b", "a.b/x"], "")
@example(["ns/c/s", "ns-a/c/s", "ns/c-1/s", "ns/c/s-1"], "n")
@given(st.lists(_keys, min_size=1, max_size=8, unique=True).map(_consistent), _names | st.just(""))
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_listings_are_those_of_the_model_whatever_the_names(
    store: ObjectStore, found: list[str], prefix: str
) -> None:
    model = MemoryStore()
    root = f"example{next(_numbers):05d}/"
    for key in found:
        await store.put(root + key, key.encode())
        await model.put(root + key, key.encode())
        assert await store.get(root + key) == key.encode()
    expected = await keys(model, root)
    assert expected == sorted(root + key for key in found)
    assert await keys(store, root) == expected
    assert await keys(store, root + prefix) == await keys(model, root + prefix)
    for after in [*expected, root, root + prefix, expected[0].rpartition("/")[0], expected[-1] + "!"]:
        for limit in (None, 0, 1, 2):
            wanted = await keys(model, root, after=after, limit=limit)
            assert await keys(store, root, after=after, limit=limit) == wanted, (after, limit)
    for level in {key[: at + 1] for key in expected for at, char in enumerate(key) if char == "/"}:
        wanted_level = await model.list_level(level)
        level_found = await store.list_level(level)
        assert [info.key for info in level_found.objects] == [info.key for info in wanted_level.objects]
        assert level_found.prefixes == wanted_level.prefixes


async def test_a_level_shows_its_objects_and_the_folders_below(store: ObjectStore) -> None:
    for key in ("a/b/c", "a/b/d", "a/e", "a-b", "f/g"):
        await store.put(key, b"x")
    for level, objects, prefixes in (
        ("", ["a-b"], ["a/", "f/"]),
        ("a/", ["a/e"], ["a/b/"]),
        ("a/b/", ["a/b/c", "a/b/d"], []),
    ):
        found = await store.list_level(level)
        assert ([info.key for info in found.objects], found.prefixes) == (objects, prefixes)


async def test_where_nothing_stands_listings_are_empty(store: ObjectStore) -> None:
    assert await store.list("") == []
    assert await store.list("a/b/") == []
    assert await store.list_level("") == Listing([], [])
    assert await store.list_level("a/") == Listing([], [])


async def test_a_thousand_keys_and_more_are_listed_in_pages(store: ObjectStore) -> None:
    names = [f"ns/c/s/events/n/{seq:012d}.jsonl.zst" for seq in range(1003)]
    limiter = anyio.CapacityLimiter(16)

    async def put(name: str) -> None:
        async with limiter:
            await store.put(name, b"x")

    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(put, name)
    folder = "ns/c/s/events/n/"
    assert await keys(store, "") == names
    assert await keys(store, folder, after=names[499]) == names[500:]
    assert await keys(store, folder, after=names[-1]) == []
    assert await keys(store, folder, limit=1002) == names[:1002]
    assert await keys(store, folder, after=names[0], limit=1001) == names[1:1002]
    assert await keys(store, "ns/", after=names[2], limit=3) == names[3:6]
    assert [info.key for info in (await store.list_level(folder)).objects] == names


# Deleting


async def test_a_deleted_object_is_gone_from_everywhere(store: ObjectStore, kind: str) -> None:
    await store.put("a/b/c", b"x")
    await store.put("a/d", b"x")
    await store.delete("a/b/c")
    with pytest.raises(NotFound):
        await store.get("a/b/c")
    assert await keys(store) == ["a/d"]
    level = await store.list_level("a/")
    assert [info.key for info in level.objects] == ["a/d"]
    assert level.prefixes == [] or kind == "seaweed"  # shows an empty folder until it has swept it up
    await store.put("a/b/c", b"y", if_absent=True)
    assert await store.get("a/b/c") == b"y"


async def test_deleting_what_is_not_there_is_no_error(store: ObjectStore) -> None:
    await store.delete("a/b")
    await store.put("a/b", b"x")
    await store.delete("a/b")
    await store.delete("a/b")
    await store.delete("a")
    assert await store.list("") == []


# Names


async def test_a_key_that_could_lead_elsewhere_is_refused_by_every_method(store: ObjectStore) -> None:
    for key in HOSTILE:
        asked: list[Awaitable[object]] = [
            store.put(key, b"x"),
            store.put(key, b"x", if_absent=True),
            store.get(key),
            store.delete(key),
        ]
        if key not in ("", "a/"):
            asked += [store.list(key), store.list("", after=key), store.list_level(f"{key}/")]
        for call in asked:
            with pytest.raises(BadKey):
                await call
    assert await store.list("") == []


async def test_a_level_without_its_slash_is_refused(store: ObjectStore) -> None:
    with pytest.raises(BadKey):
        await store.list_level("a")


# The store as a whole


async def test_a_fresh_store_passes_its_check(store: ObjectStore) -> None:
    await store.check()


async def test_two_stores_at_one_address_see_each_other_at_once(
    store: ObjectStore, config: StoreConfig, kind: str
) -> None:
    if kind == "memory":
        pytest.skip("memory is one process's, and nobody else's")
    async with open_store(config) as other:
        for number in range(10):
            await store.put(f"a/{number}", b"x")
            assert await keys(other) == [f"a/{number}"]
            assert await other.get(f"a/{number}") == b"x"
            await other.delete(f"a/{number}")
            assert await keys(store) == []


async def test_an_address_in_a_log_holds_no_credentials(store: ObjectStore, kind: str) -> None:
    scheme = {"moto": "s3", "seaweed": "s3"}.get(kind, kind)
    assert store.url.startswith(f"{scheme}://")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert os.environ.get(name, "nothing set") not in store.url


async def test_closing_twice_is_no_error(config: StoreConfig) -> None:
    async with open_store(config) as store:
        await store.aclose()

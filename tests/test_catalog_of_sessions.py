"""The catalog names every session, nobody's knowledge of one is lost, and hostile content harms nobody."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Denied, FormatError, Unavailable
from pipeline.layout import SessionKey
from pipeline.stores.catalog import (
    MAX_METADATA,
    NewerFormat,
    SessionMetadata,
    find_sessions,
    list_sessions,
    merge_metadata,
    new_metadata,
    newest_first,
    parse_metadata,
    read_metadata,
    rebuild_catalog,
    session_created_ms,
    write_metadata,
)
from pipeline.stores.filestore import FileStore
from pipeline.stores.store import MemoryStore, ObjectStore

pytestmark = pytest.mark.anyio

KEY = SessionKey("default", "demo", "session_2026-01-16_02-00-00_123456_1")
CREATED = 1768528800123


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "root")


def other(session: str, *, namespace: str = "default", cluster: str = "demo") -> SessionKey:
    return SessionKey(namespace, cluster, session)


# What is known


async def test_what_was_written_is_read_back_and_stands_in_the_catalog(store: ObjectStore) -> None:
    meta = new_metadata(KEY, owner_kind="RayCluster", owner_name="demo", ended_ms=5, ray_version="2.60.0")
    assert await write_metadata(store, meta) == meta
    assert await read_metadata(store, KEY) == meta
    assert meta.created_ms == CREATED
    assert await list_sessions(store) == [KEY]
    assert await store.get(KEY.catalog) == await store.get(KEY.metadata)


async def test_the_stored_form_is_plain_json_with_its_format(store: ObjectStore) -> None:
    await write_metadata(store, new_metadata(KEY, writer_version="0.1.0"))
    assert json.loads(await store.get(KEY.metadata)) == {
        "namespace": "default",
        "cluster": "demo",
        "session": KEY.session,
        "owner_kind": "",
        "owner_name": "",
        "created_ms": CREATED,
        "ended_ms": None,
        "ray_version": None,
        "writer_version": "0.1.0",
        "format": 1,
    }


async def test_a_worker_never_erases_what_the_head_knows(store: ObjectStore) -> None:
    await write_metadata(
        store, new_metadata(KEY, owner_kind="RayJob", owner_name="job", ended_ms=9, ray_version="2.60")
    )
    merged = await write_metadata(store, new_metadata(KEY, created_ms=CREATED + 7, writer_version="0.2"))
    assert merged == new_metadata(
        KEY, owner_kind="RayJob", owner_name="job", ended_ms=9, ray_version="2.60", writer_version="0.2"
    )
    assert await read_metadata(store, KEY) == merged


async def test_who_knows_nothing_new_writes_no_metadata(store: ObjectStore) -> None:
    await write_metadata(store, new_metadata(KEY, owner_kind="RayJob", ended_ms=9))
    before = await store.list(KEY.root)
    await write_metadata(store, new_metadata(KEY))
    assert await store.list(KEY.root) == before


async def test_without_merging_an_end_can_be_taken_back(store: ObjectStore) -> None:
    await write_metadata(store, new_metadata(KEY, ended_ms=9))
    await write_metadata(store, new_metadata(KEY), merge=False)
    found = await read_metadata(store, KEY)
    assert found is not None
    assert found.ended_ms is None


class Interrupted(MemoryStore):
    """Lets others write between a read and the write that follows it."""

    def __init__(self, others: list[bytes]) -> None:
        super().__init__()
        self.others = others

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        if key == KEY.metadata and self.others:
            await super().put(key, self.others.pop(0))
        return await super().put(key, data, if_absent=if_absent)


async def test_a_writer_that_comes_in_between_loses_nothing_at_the_first_write() -> None:
    head = new_metadata(KEY, owner_kind="RayJob", ended_ms=9)
    store = Interrupted([msgspec.json.encode(head)])
    merged = await write_metadata(store, new_metadata(KEY, ray_version="2.60"))
    assert (merged.ended_ms, merged.owner_kind, merged.ray_version) == (9, "RayJob", "2.60")
    assert await read_metadata(store, KEY) == merged


async def test_many_writers_at_once_end_with_all_they_know(store: ObjectStore) -> None:
    await write_metadata(store, new_metadata(KEY, owner_kind="RayJob", owner_name="job"))
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(write_metadata, store, new_metadata(KEY, writer_version=str(number)))
    found = await read_metadata(store, KEY)
    assert found is not None
    assert (found.owner_kind, found.owner_name, found.created_ms) == ("RayJob", "job", CREATED)


async def test_a_store_where_others_always_come_in_between_gives_up() -> None:
    others = [msgspec.json.encode(new_metadata(KEY, ended_ms=number)) for number in range(10)]

    class Always(Interrupted):
        async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
            if key == KEY.metadata and self.others:
                await MemoryStore.put(self, key, self.others.pop())
            return await super().get(key, start=start, end=end)

    with pytest.raises(Unavailable, match=r"metadata.json in memory:// is written by others"):
        await write_metadata(Always(others), new_metadata(KEY, ray_version="2.60"))


_owner = st.sampled_from([("", ""), ("RayJob", "a"), ("RayCluster", "b"), ("", "c")])
_metas = st.builds(
    lambda owner, **known: new_metadata(KEY, owner_kind=owner[0], owner_name=owner[1], **known),
    owner=_owner,
    created_ms=st.integers(0, 9),
    ended_ms=st.none() | st.integers(0, 9),
    ray_version=st.sampled_from([None, "2.59", "2.60"]),
    writer_version=st.sampled_from(["", "1", "2"]),
)


@given(_metas, _metas)
def test_merging_keeps_what_either_knows(one: SessionMetadata, two: SessionMetadata) -> None:
    merged = merge_metadata(one, two)
    assert merge_metadata(merged, one) == merged == merge_metadata(merged, two)
    assert merged.ended_ms == max((end for end in (one.ended_ms, two.ended_ms) if end is not None), default=None)
    assert merged.created_ms == min((ms for ms in (one.created_ms, two.created_ms) if ms), default=0)
    assert (merged.owner_kind, merged.owner_name) in (
        (one.owner_kind, one.owner_name),
        (two.owner_kind, two.owner_name),
    )
    assert merged.ray_version in (one.ray_version or two.ray_version, one.ray_version)


# Hostile content

GOOD = json.loads(msgspec.json.encode(new_metadata(KEY)))
BAD: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "not an object": b"[]",
    "not text": b'{"namespace": "\xff"}',
    "nested": b"[" * 60_000,
    "nested in a field": b'{"x":' * 10_000,
    "too long": json.dumps(GOOD | {"x": "x" * MAX_METADATA}).encode(),
    "a field missing": b'{"namespace": "default"}',
    "a wrong type": json.dumps(GOOD | {"created_ms": "now"}).encode(),
    "a time before time": json.dumps(GOOD | {"created_ms": -1}).encode(),
    "a time beyond dates": json.dumps(GOOD | {"ended_ms": 10**18}).encode(),
    "another session's": json.dumps(GOOD | {"session": "session_other"}).encode(),
    "a way out": json.dumps(GOOD | {"cluster": "../../etc"}).encode(),
    "a newer format": json.dumps(GOOD | {"format": 2}).encode(),
    "a long name": json.dumps(GOOD | {"owner_name": "x" * 2000}).encode(),
}


@pytest.mark.parametrize("name", BAD)
async def test_metadata_that_makes_no_sense_is_none(name: str) -> None:
    store = MemoryStore()
    await store.put(KEY.metadata, BAD[name])
    assert await read_metadata(store, KEY) is None
    with pytest.raises(FormatError):
        parse_metadata(BAD[name], KEY)


@pytest.mark.parametrize("name", BAD)
async def test_metadata_that_makes_no_sense_is_replaced_unless_a_newer_program_wrote_it(name: str) -> None:
    store = MemoryStore()
    await store.put(KEY.metadata, BAD[name])
    if name == "a newer format":
        with pytest.raises(NewerFormat):
            await write_metadata(store, new_metadata(KEY))
        assert await store.get(KEY.metadata) == BAD[name]
    else:
        await write_metadata(store, new_metadata(KEY))
        assert await read_metadata(store, KEY) == new_metadata(KEY)


@given(
    st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(), lambda x: st.dictionaries(st.sampled_from([*GOOD, "x"]), x)
    ).map(lambda x: json.dumps(x).encode())
)
def test_any_bytes_are_metadata_or_a_format_error(data: bytes) -> None:
    with suppress(FormatError):
        assert parse_metadata(data, KEY).key == KEY


async def test_fields_that_a_later_program_adds_are_no_obstacle() -> None:
    store = MemoryStore()
    await store.put(KEY.metadata, json.dumps(GOOD | {"colour": "blue"}).encode())
    assert await read_metadata(store, KEY) == new_metadata(KEY)


# Which sessions there are


async def test_catalog_keys_that_name_no_session_are_skipped(store: ObjectStore) -> None:
    await write_metadata(store, new_metadata(KEY))
    for key in ("_catalog/x", "_catalog/a/b", "_catalog/a/b/c/d", "_catalog/a b/c/d", "_catalog/a/_b/c"):
        if isinstance(store, MemoryStore) or key != "_catalog/a/b":  # a file can't be a folder too
            await store.put(key, b"x")
    assert await list_sessions(store) == [KEY]


async def test_a_lost_catalog_is_rebuilt_from_the_sessions(store: ObjectStore) -> None:
    head = new_metadata(KEY, owner_kind="RayJob", ended_ms=9)
    without = other("session_2026-01-17_02-00-00_000000_1")
    elsewhere = other("session_2026-01-18_02-00-00_000000_1", namespace="team-a", cluster="big")
    await write_metadata(store, head)
    await store.put(without.segment("node", 0), b"x")
    await store.put(elsewhere.segment("node", 0), b"x")
    await store.delete(KEY.catalog)
    found = [KEY, without, elsewhere]
    assert await find_sessions(store) == found
    assert await list_sessions(store) == []
    assert await rebuild_catalog(store) == found
    assert await list_sessions(store) == found
    assert parse_metadata(await store.get(KEY.catalog), KEY) == head
    assert parse_metadata(await store.get(without.catalog), without) == new_metadata(without)


async def test_rebuilding_leaves_entries_that_stand_as_they_are(store: ObjectStore) -> None:
    await write_metadata(store, new_metadata(KEY))
    await store.put(KEY.catalog, b"mine")
    assert await rebuild_catalog(store) == [KEY]
    assert await store.get(KEY.catalog) == b"mine"


async def test_rebuilding_takes_no_stranger_for_a_session(store: ObjectStore) -> None:
    await store.put("_system/a/b/events/x", b"x")
    await store.put("other/people/things/x", b"x")
    await store.put("a b/c/d/events/x", b"x")
    await store.put("loose", b"x")
    await store.put("ns/loose", b"x")
    assert await rebuild_catalog(store) == []
    assert await list_sessions(store) == []


async def test_a_store_that_may_not_be_written_raises_its_own_error_when_rebuilding() -> None:
    class ReadOnly(MemoryStore):
        async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
            if key.startswith("_catalog/"):
                raise Denied("may not")
            return await super().put(key, data, if_absent=if_absent)

    store = ReadOnly()
    for number in range(40):
        await store.put(other(f"session_{number}").segment("node", 0), b"x")
    assert len(await find_sessions(store)) == 40
    with pytest.raises(Denied, match="may not"):
        await rebuild_catalog(store)


# When a session began


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("session_2026-01-16_02-00-00_123456_1", CREATED),
        ("session_1970-01-01_00-00-00_001999_77", 1),
        ("session_1969-01-01_00-00-00_000000_1", 0),
        ("session_2026-02-30_02-00-00_123456_1", None),
        ("session_2026-01-16_25-00-00_123456_1", None),
        ("session_0000-01-16_02-00-00_123456_1", None),
        ("session_latest", None),
        ("session_2026-01-16_02-00-00_123456_1x", None),
        ("session_２０２６-01-16_02-00-00_123456_1", None),
        ("", None),
    ],
)
def test_the_name_of_a_session_says_when_it_began(name: str, expected: int | None) -> None:
    assert session_created_ms(name) == expected


@given(st.from_regex(r"session_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d{6}_\d+", fullmatch=True))
def test_any_numbers_in_a_name_are_a_time_or_none(name: str) -> None:
    began = session_created_ms(name)
    assert began is None or 0 <= began < 253_402_300_800_000  # the year 10000


def test_sessions_sort_newest_first_and_nameless_times_last() -> None:
    old = other("session_2026-01-16_02-00-00_123456_1")
    new = other("session_2026-01-16_02-00-00_124000_1")
    same_time = other("session_2026-01-16_02-00-00_124000_1", namespace="a")
    odd = other("another")
    assert newest_first([odd, old, new, same_time]) == [same_time, new, old, odd]

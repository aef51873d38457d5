"""How logs are followed: each byte stored once, soon, in few requests; nothing outside the folder, no secret, ever."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from support.loggers import (
    KEYS,
    Clock,
    chunk_keys,
    follower,
    listed,
    logs_folder,
    on_disk,
    shown,
    store_all,
)

from pipeline.errors import Unavailable
from pipeline.layout import SessionKey
from pipeline.logs.logfiles import (
    LogKeys,
    LogList,
    chunk_length,
    decode_path,
    encode_path,
    pack_chunk,
    pack_list,
    unpack_chunk,
    unpack_list,
)
from pipeline.logs.logs import LogFollower
from pipeline.read.source import EVENTS, source_id
from pipeline.stores.store import MemoryStore, check_key

pytestmark = pytest.mark.anyio


class CountingStore(MemoryStore):
    """Remembers what was put, and how much was on its way at once."""

    def __init__(self) -> None:
        super().__init__()
        self.puts: list[str] = []
        self.at_once = self.most_at_once = 0
        self.down = False
        self.lose_answers = False
        self.busy = anyio.Event()

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.at_once == 3:
            self.busy.set()
        try:
            await anyio.lowlevel.checkpoint()
            if self.down:
                raise Unavailable("down")
            self.puts.append(key)
            etag = await super().put(key, data, if_absent=if_absent)
        finally:
            self.at_once -= 1
        if self.lose_answers and if_absent:
            raise Unavailable("the answer was lost")
        return etag

    def chunks(self) -> list[str]:
        return [key for key in self.puts if KEYS.parse(key)]


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return logs_folder(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def started(store: MemoryStore, tmp_path: Path, clock: Clock, **config: float) -> LogFollower:
    each = follower(store, tmp_path, clock, **config)
    await each.begin()
    await each.round()
    return each


async def later(each: LogFollower, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    while await each.round():
        pass


def append(file: Path, text: bytes) -> None:
    with file.open("ab") as out:
        out.write(text)


async def test_what_was_written_is_stored_when_it_is_as_old_as_the_age(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    append(logs / "raylet.out", b"one\n")
    each = await started(store, tmp_path, clock, age=10)

    await later(each, clock, 9)
    assert store.chunks() == []
    append(logs / "raylet.out", b"two\n")
    await later(each, clock, 1)

    assert store.chunks() == [KEYS.chunk("raylet.out", 0, 0)]
    assert await shown(store) == {"raylet.out": b"one\ntwo\n"}


async def test_a_full_chunk_does_not_wait_and_ends_with_a_line(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    append(logs / "raylet.out", b"12345\n" * 5)

    await started(store, tmp_path, clock, chunk_bytes=16)

    assert store.chunks() == [KEYS.chunk("raylet.out", 0, at) for at in (0, 12)]


async def test_a_line_without_end_goes_too_after_twice_the_age(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    append(logs / "raylet.out", b"whole\n 3 % [>   ")
    each = await started(store, tmp_path, clock, age=10)

    await later(each, clock, 10)
    assert [chunk_length(await store.get(key)) for key in store.chunks()] == [6]
    await later(each, clock, 10)
    assert len(store.chunks()) == 1
    await later(each, clock, 10)

    assert await shown(store) == on_disk(logs)


async def test_a_thousand_chatty_files_cost_no_more_requests_than_allowed(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    each = await started(store, tmp_path, clock, puts_per_second=5, age=10)
    for _ in range(60):
        for number in range(300):
            append(logs / f"worker-{number:03}.out", b"x\n")
        await later(each, clock, 1)

    assert 200 <= len(store.chunks()) <= 5 * 60 + 5 * 10
    assert len(store.puts) - len(store.chunks()) <= 60 / 3 + 1
    waited = [clock.now - log.since for log in each._tracker.logs if log.since is not None]  # type: ignore[union-attr]
    assert max(waited) <= 2 * 300 / 5, "the longest waiting goes first"


async def test_a_renamed_file_shows_under_its_new_name_and_no_byte_goes_twice(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    append(logs / "dashboard.log", b"first\n")
    each = await started(store, tmp_path, clock, age=10)
    await later(each, clock, 10)

    append(logs / "dashboard.log", b"second\n")
    (logs / "dashboard.log").rename(logs / "dashboard.log.1")
    append(logs / "dashboard.log", b"third\n")
    await later(each, clock, 1)
    await later(each, clock, 10)

    assert await shown(store) == on_disk(logs)
    assert sum([chunk_length(await store.get(key)) for key in store.chunks()]) == len(b"first\nsecond\nthird\n")


async def test_a_truncated_file_begins_again_and_what_it_held_stays_readable(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    append(logs / "raylet.out", b"before\n")
    each = await started(store, tmp_path, clock)
    await later(each, clock, 10)

    (logs / "raylet.out").write_bytes(b"now\n")
    await later(each, clock, 1)
    await later(each, clock, 100)

    assert await shown(store) == {"raylet.out": b"now\n", "raylet.out~0": b"before\n"}


async def test_a_file_overwritten_with_more_begins_again_too(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    append(logs / "raylet.out", b"before\n")
    each = await started(store, tmp_path, clock)
    await later(each, clock, 10)

    (logs / "raylet.out").write_bytes(b"what comes now is longer\n")
    await later(each, clock, 1)
    await later(each, clock, 100)

    assert await shown(store) == {"raylet.out": b"what comes now is longer\n", "raylet.out~0": b"before\n"}


async def test_a_file_overwritten_within_one_tick_of_the_clock_is_noticed(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    file = logs / "raylet.out"
    append(file, b"before\n")
    each = await started(store, tmp_path, clock)
    await later(each, clock, 10)
    mtime = file.stat().st_mtime_ns

    file.write_bytes(b"after.\n")
    os.utime(file, ns=(mtime, mtime))
    await later(each, clock, 1)
    await later(each, clock, 100)

    assert await shown(store) == {"raylet.out": b"after.\n", "raylet.out~0": b"before\n"}


async def test_a_copy_takes_over_what_the_truncated_original_had_stored(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    append(logs / "gcs.out", b"%s\n" % (b"x" * 2000))
    each = await started(store, tmp_path, clock)
    await later(each, clock, 10)

    (logs / "gcs.out.1").write_bytes((logs / "gcs.out").read_bytes())
    (logs / "gcs.out").write_bytes(b"new\n")
    await later(each, clock, 1)
    await later(each, clock, 100)

    assert await shown(store) == on_disk(logs)
    assert len(store.chunks()) == 2


async def test_a_deleted_file_stays_under_its_name(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    append(logs / "worker.out", b"kept\n")
    each = await started(store, tmp_path, clock)
    await later(each, clock, 10)

    (logs / "worker.out").unlink()
    await later(each, clock, 10)

    assert await shown(store) == {"worker.out": b"kept\n"}


async def test_empty_files_and_folders_are_listed(store: CountingStore, logs: Path, tmp_path: Path) -> None:
    (logs / "old").mkdir()
    (logs / "worker.err").touch()

    await store_all(store, tmp_path)

    files = await listed(store)
    assert files.folders == ["old"]
    assert await shown(store) == {"worker.err": b""}
    assert files.root == str(logs)


async def test_event_files_are_listed_with_their_sources_and_not_stored_again(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    (logs / "events").mkdir()
    (logs / "export_events").mkdir()
    (logs / "events" / "event_GCS.log").write_bytes(b'{"a": 1}\n{"a": 2}\n')
    (logs / "export_events" / "event_EXPORT_TASK_1.log").touch()
    (logs / "events" / "notes.txt").write_bytes(b"plain\n")
    await started(store, tmp_path, clock)
    (logs / "export_events" / "event_EXPORT_TASK_1.log").write_bytes(b"{}\n")

    await store_all(store, tmp_path)

    records = {entry.name: entry for entry in (await listed(store)).records}
    assert records["events/event_GCS.log"].source == source_id(EVENTS, "event_GCS", b'{"a": 1}\n')
    assert records["export_events/event_EXPORT_TASK_1.log"].source.startswith("export_events/event_EXPORT_TASK_1~")
    assert await shown(store) == {"events/notes.txt": b"plain\n"}


@pytest.mark.parametrize("keep_list", [True, False])
async def test_a_restart_goes_on_at_the_byte_where_the_store_ends(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock, keep_list: bool
) -> None:
    for name in ("a.out", "b.out"):
        append(logs / name, b"same first line\n" * 100 + name.encode())
    each = await started(store, tmp_path, clock, chunk_bytes=64)
    await later(each, clock, 30)
    stored = set(store.chunks())
    if not keep_list:
        await store.delete(KEYS.list)

    append(logs / "a.out", b"more\n")
    await store_all(store, tmp_path)

    assert (
        len(store.chunks()) == len(set(store.chunks())) == len(stored) + 2
    )  # what is new of one, the line without end of the other
    assert await shown(store) == on_disk(logs)


async def test_a_file_renamed_while_nobody_looked_is_known_again(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    append(logs / "raylet.out", b"old\n")
    await store_all(store, tmp_path)

    append(logs / "raylet.out", b"more\n")
    (logs / "raylet.out").rename(logs / "raylet.out.1")
    append(logs / "raylet.out", b"young\n")
    await store_all(store, tmp_path)

    assert await shown(store) == on_disk(logs)
    assert len(store.chunks()) == 3


async def test_a_file_rewritten_while_nobody_looked_is_stored_anew(
    store: CountingStore, logs: Path, tmp_path: Path
) -> None:
    append(logs / "raylet.out", b"%s\n" % (b"x" * 1500))
    await store_all(store, tmp_path, chunk_bytes=100)

    (logs / "raylet.out").write_bytes(b"%s\n" % (b"x" * 1400 + b"y" * 200))
    await store_all(store, tmp_path, chunk_bytes=100)

    assert (await shown(store))["raylet.out"] == (logs / "raylet.out").read_bytes()


async def test_an_answer_that_was_lost_makes_no_second_copy(store: CountingStore, logs: Path, tmp_path: Path) -> None:
    append(logs / "raylet.out", b"12345\n" * 10)
    store.lose_answers = True

    await store_all(store, tmp_path, chunk_bytes=16)

    assert await shown(store) == on_disk(logs)
    assert await chunk_keys(store) == [KEYS.chunk("raylet.out", 0, at) for at in range(0, 60, 12)]


async def test_two_collectors_of_one_node_store_each_byte_once(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    first = await started(store, tmp_path, clock)
    second = await started(store, tmp_path, clock)
    for _ in range(5):
        append(logs / "raylet.out", b"line\n" * 3)
        await later(first, clock, 11)
        append(logs / "raylet.out", b"another\n")
        await later(second, clock, 11)
        await second.round(final=True)
    await first.round(final=True)

    assert (await shown(store))["raylet.out"] == (logs / "raylet.out").read_bytes()
    assert sum([len(unpack_chunk(await store.get(key))) for key in await chunk_keys(store)]) == 5 * 23


async def test_bytes_of_another_file_in_a_chunks_place_are_left_alone(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    append(logs / "raylet.out", b"mine\n")
    each = await started(store, tmp_path, clock)
    theirs = pack_chunk(b"theirs\n")
    await store.put(KEYS.chunk("raylet.out", 0, 0), theirs)

    await later(each, clock, 10)
    await later(each, clock, 100)

    assert await store.get(KEYS.chunk("raylet.out", 0, 0)) == theirs
    assert await shown(store) == {"raylet.out": b"mine\n", "raylet.out~0": b"theirs\n"}


@pytest.mark.parametrize("damage", [b"", b"no zstd", pack_chunk(b"x" * 9)[:-3]])
async def test_a_damaged_chunk_or_list_does_not_stop_the_rest(
    store: CountingStore, logs: Path, tmp_path: Path, damage: bytes
) -> None:
    append(logs / "raylet.out", b"line\n")
    append(logs / "gcs_server.out", b"line\n")
    await store_all(store, tmp_path)
    await store.put(KEYS.list, damage)
    await store.put(KEYS.chunk("raylet.out", 0, 0), damage)

    append(logs / "raylet.out", b"more\n")
    await store_all(store, tmp_path)

    entries = (await listed(store)).names()
    assert entries["raylet.out"].generation == 1
    assert unpack_chunk(await store.get(KEYS.chunk("raylet.out", 1, 0))) == b"line\nmore\n"
    assert unpack_chunk(await store.get(KEYS.chunk("gcs_server.out", 0, 0))) == b"line\n"


async def test_while_the_store_is_away_nothing_piles_up_and_then_all_is_stored(
    store: CountingStore, logs: Path, tmp_path: Path
) -> None:
    for number in range(50):
        append(logs / f"worker-{number}.out", b"line\n" * 10)
    store.down = True
    each = follower(store, tmp_path, Clock(), uploads=3)
    each.finish("read")
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(each.run)
            await store.busy.wait()
            for number in range(50):
                append(logs / f"worker-{number}.out", b"line\n")
            store.down = False

    assert each.done
    assert store.most_at_once == 3
    assert {name: text[:50] for name, text in (await shown(store)).items()} == {
        name: text[:50] for name, text in on_disk(logs).items()
    }


async def test_a_file_rewritten_for_ever_is_stored_ever_less_often(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    each = await started(store, tmp_path, clock)
    for number in range(360):
        (logs / "debug_state.txt").write_bytes(b"state %d of the raylet\n" % number)
        await later(each, clock, 5)
        await later(each, clock, 5)
    assert 5 <= len(store.chunks()) <= 12

    await each.round(final=True)
    assert (await shown(store))["debug_state.txt"] == b"state 359 of the raylet\n"


async def test_rotation_by_truncation_every_hour_does_not_count_as_rewriting(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    each = await started(store, tmp_path, clock)
    for number in range(5):
        (logs / "raylet.out").write_bytes(b"hour %d\n" % number)
        await later(each, clock, 1)
        await later(each, clock, 10)
        await later(each, clock, 3600)

    assert len(store.chunks()) == 5


SECRET = b'INFO -- Creating runtime env: {"env_vars": {"TOKEN": "hunter2!"}}\n'


async def test_env_vars_that_ray_logs_are_masked(store: CountingStore, logs: Path, tmp_path: Path) -> None:
    append(logs / "runtime_env_agent.log", SECRET)

    await store_all(store, tmp_path)

    assert (await shown(store))["runtime_env_agent.log"] == SECRET.replace(b"hunter2!", b"********")


async def test_env_vars_cut_by_a_chunk_are_masked_too(store: CountingStore, logs: Path, tmp_path: Path) -> None:
    append(logs / "runtime_env_agent.log", SECRET * 20)

    await store_all(store, tmp_path, chunk_bytes=100)

    assert (await shown(store))["runtime_env_agent.log"] == SECRET.replace(b"hunter2!", b"********") * 20


async def test_masking_can_be_turned_off_and_on_without_storing_anything_again(
    store: CountingStore, logs: Path, tmp_path: Path, clock: Clock
) -> None:
    for redact in (True, False, True):
        append(logs / "runtime_env_agent.log", SECRET)
        each = follower(store, tmp_path, clock, redact=redact)
        each.finish("stopped")
        await each.run()

    masked = SECRET.replace(b"hunter2!", b"********")
    assert await shown(store) == {"runtime_env_agent.log": masked + SECRET + masked}


async def test_links_and_pipes_are_not_followed(store: CountingStore, logs: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"not a log\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "secret").write_bytes(b"not a log\n")
    (logs / "link.log").symlink_to(tmp_path / "secret")
    (logs / "folder").symlink_to(tmp_path / "folder")
    os.mkfifo(logs / "pipe.log")
    (logs / "real.log").write_bytes(b"a log\n")

    await store_all(store, tmp_path)

    assert await shown(store) == {"real.log": b"a log\n"}
    assert (await listed(store)).folders == []


async def test_odd_names_are_stored_and_found_again(store: CountingStore, logs: Path, tmp_path: Path) -> None:
    names = [
        "ü x%41.log", ".hidden", "_files.json.zst", "0000000000000000.zst", "000001.0000000000000000.zst",
        "a..b", "-", "new\nline", "a\\b", "%", "~", "deep/" * 30 + "er.log", "k\u0338",
    ]  # fmt: skip
    for name in names:
        (logs / name).parent.mkdir(parents=True, exist_ok=True)
        (logs / name).write_bytes(name.encode())
    (logs / os.fsdecode(b"\xff.log")).write_bytes(b"bytes")

    await store_all(store, tmp_path)
    await store_all(store, tmp_path)

    assert await shown(store) == {name: name.encode() for name in names} | {"%FF.log": b"bytes"}
    assert len(store.chunks()) == len(names) + 1


async def test_a_path_too_long_for_a_key_is_known_by_the_list_alone(
    store: CountingStore, logs: Path, tmp_path: Path
) -> None:
    name = "/".join(["ü" * 100] * 4)
    (logs / name).parent.mkdir(parents=True)
    (logs / name).write_bytes(b"far away\n")

    await store_all(store, tmp_path)

    [entry] = (await listed(store)).files
    assert entry.path.startswith("%-")
    assert b"far away\n" in (await shown(store)).values()


async def test_more_files_than_allowed_are_left_alone(store: CountingStore, logs: Path, tmp_path: Path) -> None:
    for number in range(30):
        (logs / f"{number:02}.log").write_bytes(b"x\n")

    await store_all(store, tmp_path, max_files=10)

    assert len(await shown(store)) == 10


async def test_a_session_that_is_over_is_stored_and_left_as_it_is(
    store: CountingStore, logs: Path, tmp_path: Path
) -> None:
    append(logs / "raylet.out", b"all there is, to the last half li")
    before = on_disk(logs)
    each = follower(store, tmp_path, Clock())
    each.finish("read")

    with anyio.fail_after(10):
        await each.run()

    assert each.done
    assert each.left() == 0
    assert await shown(store) == before == on_disk(logs)


async def test_a_folder_that_comes_later_is_waited_for(store: CountingStore, tmp_path: Path, clock: Clock) -> None:
    each = await started(store, tmp_path, clock)
    assert store.puts == []

    append(logs_folder(tmp_path) / "raylet.out", b"line\n")
    await later(each, clock, 1)
    await later(each, clock, 10)

    assert await shown(store) == {"raylet.out": b"line\n"}


def test_a_path_can_be_read_back_from_its_key() -> None:
    for parts in (("a", "b.log"), (".x", "_y"), ("ü", "%41"), ("0" * 16 + ".zst",)):
        assert decode_path(encode_path(parts)) == "/".join(parts)
        key = KEYS.chunk(encode_path(parts), 3, 77)
        found = KEYS.parse(key)
        assert found is not None
        assert (decode_path(found.path), found.generation, found.offset) == ("/".join(parts), 3, 77)


@pytest.mark.parametrize(
    "key", ["", "x", KEYS.prefix, KEYS.list, f"{KEYS.prefix}0000000000000000.zst", f"{KEYS.prefix}a/1.zst"]
)
def test_a_key_that_is_no_chunks_is_none(key: str) -> None:
    assert KEYS.parse(key) is None


def test_an_empty_list_is_a_list() -> None:
    assert unpack_list(pack_list(LogList())) == LogList()


def test_the_longest_path_of_the_longest_session_makes_a_key_that_a_store_takes() -> None:
    keys = LogKeys(SessionKey("n" * 253, "c" * 253, "session_" + "9" * 200), "ab" * 28)
    for length in range(1, 400):
        path = encode_path(["d" * 100, "x" * length], keys.path_limit)
        check_key(keys.chunk(path, 999_999, 10**15))

"""Stored logs are read as Ray reads files: ranges, last lines, growing ones; and only what is needed is fetched."""

from __future__ import annotations

import io
import re
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.loggers import KEY, KEYS, NODE, Clock, follower, logs_folder, store_all
from support.streamed import streamed

from api.logs.log_file import LogFile, Piece, SizedCache
from api.logs.logs import LogStore
from api.views.log_target import Place
from api.views.logs import ColourFilter, LogOptions, NoLog
from pipeline.errors import NotFound, Unavailable
from pipeline.logs.logfiles import LogEntry, LogList, RecordEntry, pack_chunk, pack_list
from pipeline.read.source import EVENTS, generation, source_id
from pipeline.segments.segment import Header, Span, pack
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio


class GetsStore(MemoryStore):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: list[str] = []
        self.bytes = 0
        self.down = False

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        self.gets.append(key)
        if self.down:
            raise Unavailable("down")
        data = await super().get(key, start=start, end=end)
        self.bytes += len(data)
        return data


@pytest.fixture
def store() -> GetsStore:
    return GetsStore()


async def stored(store: MemoryStore, content: bytes, sizes: list[int]) -> LogFile:
    """``content`` as chunks of these sizes, again and again."""
    pieces, at = [], 0
    while at < len(content):
        chunk = content[at : at + sizes[len(pieces) % len(sizes)]]
        key = KEYS.chunk("x.log", 0, at)
        data = pack_chunk(chunk)
        await store.put(key, data)
        pieces.append(Piece(at, None, key, len(data)))
        at += len(chunk)
    return LogFile(store, SizedCache(1 << 20), pieces)


async def whole(file: LogFile, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in file.read(start, end)])


contents = st.lists(st.sampled_from([b"\n", b"a\n", b"bb\n", b"c", b"long enough\n"]), max_size=30).map(b"".join)
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(content=contents, sizes=sizes, start=st.integers(0, 60), end=st.none() | st.integers(0, 60))
def test_a_range_is_the_files_own_bytes(content: bytes, sizes: list[int], start: int, end: int | None) -> None:
    async def check() -> None:
        file = await stored(MemoryStore(), content, sizes)
        assert await file.size() == len(content)
        assert await whole(file, start, end) == content[start:end]

    anyio.run(check)


@settings(max_examples=300, deadline=None)
@given(content=contents, sizes=sizes, lines=st.integers(-5, 12), end=st.integers(0, 100))
def test_the_last_lines_begin_where_ray_says(content: bytes, sizes: list[int], lines: int, end: int) -> None:
    agent = pytest.importorskip("ray.dashboard.modules.log.log_agent")
    end = min(end, len(content))

    async def check() -> None:
        file = await stored(MemoryStore(), content, sizes)
        if lines and end:
            expected = agent.find_start_offset_last_n_lines_from_offset(io.BytesIO(content), end, lines, block_size=7)
            assert await file.tail_start(lines, end) == (expected if lines > 0 else end)

    anyio.run(check)


async def test_the_tail_of_a_large_log_reads_a_few_chunks(store: GetsStore) -> None:
    line = b"%07d " + b"x" * 91 + b"\n"
    chunk_lines = 40_000
    chunk = pack_chunk(b"".join(line % n for n in range(chunk_lines)))
    entry = LogEntry("raylet.out")
    for number in range(50):  # 200 MB
        await store.put(KEYS.chunk("raylet.out", 0, number * chunk_lines * 100), chunk)
    await store.put(KEYS.list, pack_list(LogList(root="/tmp/ray/s/logs", files=[entry])))
    logs = LogStore(store)

    asked = LogOptions(node_id=NODE, filename="raylet.out", lines=1000)
    answer = await streamed(logs, KEY, [Place(NODE, filename="raylet.out")], asked)

    assert answer == b"".join(line % n for n in range(chunk_lines - 1000, chunk_lines))
    assert len(store.gets) <= 4, "the list, the last chunk's length, and the last chunk"
    assert store.bytes < 2 * len(chunk) + 10_000


async def test_a_tail_of_many_small_chunks_fetches_at_most_twice_what_it_needs(store: GetsStore) -> None:
    file = await stored(store, b"line\n" * 2000, [5])
    store.gets.clear()

    assert await file.tail_start(100, 10_000) == 9_500

    assert 100 <= len(store.gets) <= 203


async def test_a_whole_file_is_read_with_a_bounded_window(store: GetsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.logs.log_file.WINDOW", 1000)
    file = await stored(store, b"0123456789" * 1000, [100])
    store.gets.clear()
    passed = 0

    async for piece in file.read():
        passed += len(piece)
        assert len(store.gets) * 100 <= passed + 1000 + 100

    assert passed == 10_000


async def test_what_is_missing_or_damaged_is_said_in_its_place(store: GetsStore) -> None:
    file = await stored(store, b"0123456789" * 5, [10])
    await store.delete(KEYS.chunk("x.log", 0, 10))
    await store.put(KEYS.chunk("x.log", 0, 30), b"damaged")

    missing = b"\n[ray-history: 10 bytes of this file are missing]\n"
    assert await whole(file) == b"0123456789" + missing + b"0123456789" + missing + b"0123456789"
    assert await whole(file, 12, 18) == b"\n[ray-history: 6 bytes of this file are missing]\n"


async def test_a_store_that_does_not_answer_is_an_error_not_an_empty_file(store: GetsStore) -> None:
    file = await stored(store, b"0123456789", [10])
    store.down = True

    with pytest.raises(Unavailable):
        await whole(file)


def test_the_cache_keeps_what_was_used_last_within_its_bytes() -> None:
    cache: SizedCache[bytes] = SizedCache(10)
    cache.put("a", b"", 4)
    cache.put("b", b"", 4)
    assert cache.get("a") is not None
    cache.put("c", b"", 4)
    assert (cache.get("a"), cache.get("b"), cache.get("c"), cache.size) == (b"", None, b"", 8)
    cache.put("huge", b"", 11)
    cache.put("c", b"", 1)
    assert (cache.get("huge"), cache.size) == (None, 5)


# -- names -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return logs_folder(tmp_path)


async def text(logs: LogStore, filename: str, **options: int) -> bytes:
    asked = LogOptions(node_id=NODE, filename=filename, **{"lines": -1, **options})  # type: ignore[arg-type]
    return await streamed(logs, KEY, [Place(NODE, filename=filename)], asked)


async def test_a_file_is_found_by_its_name_and_by_its_path_on_the_node(
    store: GetsStore, folder: Path, tmp_path: Path
) -> None:
    (folder / "serve").mkdir()
    (folder / "serve" / "a b.log").write_bytes(b"text\n")
    await store_all(store, tmp_path)
    logs = LogStore(store)

    for name in (
        "serve/a b.log",
        f"{folder}/serve/a b.log",
        "./serve//a b.log",
        "x/../serve/a b.log",
        f"/elsewhere/{KEY.session}/logs/serve/a b.log",
    ):
        assert await text(logs, name) == b"text\n"


@pytest.mark.parametrize(
    "name",
    ["nope", "../secret", "/etc/passwd", "serve", "", ".", "..", "a/../../x", "raylet.out/", "\x00", "_files.json.zst"],
)
async def test_what_is_no_log_is_refused_in_rays_words(
    store: GetsStore, folder: Path, tmp_path: Path, name: str
) -> None:
    (folder / "serve").mkdir()
    (folder / "secret").write_bytes(b"x\n")
    await store_all(store, tmp_path)

    with pytest.raises(NoLog, match=r"A file is not found at: /"):
        await text(LogStore(store), name if name != "raylet.out/" else "raylet.outx")


@pytest.mark.parametrize("node", ["ab" * 27, "../x", "", "a/b", "\x00"])
async def test_a_node_without_logs_is_refused_in_rays_words(store: GetsStore, node: str) -> None:
    with pytest.raises(NoLog, match=r"Agent for node id: .* doesn't exist\."):
        await LogStore(store).node(KEY, node)


async def test_a_workers_file_that_ray_moved_away_is_found(store: GetsStore, folder: Path, tmp_path: Path) -> None:
    (folder / "old").mkdir()
    (folder / "old" / "worker-ab-01-7.out").write_bytes(b"moved\n")
    await store_all(store, tmp_path)
    logs = LogStore(store)

    assert await text(logs, "worker-ab-01-7.out") == b"moved\n"
    for place in (Place(NODE, worker_id="ab"), Place(NODE, pid=7)):
        file, _ = await logs.find(KEY, [place], LogOptions())
        assert await whole(file) == b"moved\n"


async def test_a_file_whose_list_was_never_written_is_found_by_its_chunks(
    store: GetsStore, folder: Path, tmp_path: Path
) -> None:
    (folder / "raylet.out").write_bytes(b"text\n")
    await store_all(store, tmp_path)
    await store.put(KEYS.chunk("worker-ab-01-7.out", 0, 0), pack_chunk(b"newer than the list\n"))

    assert await text(LogStore(store), "worker-ab-01-7.out") == b"newer than the list\n"
    await store.delete(KEYS.list)
    logs = LogStore(store)
    assert await text(logs, "raylet.out") == b"text\n"
    assert await logs.list_files(KEY, NODE, "*") == {"worker_out": ["worker-ab-01-7.out"], "raylet": ["raylet.out"]}


@pytest.mark.parametrize("damage", [b"", b"x", pack_chunk(b"{}"), pack_chunk(b'{"format": 99}')])
async def test_a_damaged_list_is_rebuilt_from_the_chunks(
    store: GetsStore, folder: Path, tmp_path: Path, damage: bytes
) -> None:
    (folder / "raylet.out").write_bytes(b"text\n")
    await store_all(store, tmp_path)
    await store.put(KEYS.list, damage)

    if damage != pack_chunk(b"{}"):
        assert await text(LogStore(store), "raylet.out") == b"text\n"


async def test_what_an_earlier_file_held_is_listed_only_when_asked_for(
    store: GetsStore, folder: Path, tmp_path: Path
) -> None:
    (folder / "raylet.out").write_bytes(b"before\n")
    await store_all(store, tmp_path)
    (folder / "raylet.out").write_bytes(b"now\n")
    await store_all(store, tmp_path)
    logs = LogStore(store)

    assert await logs.list_files(KEY, NODE, "*") == {"raylet": ["raylet.out"]}
    assert await logs.list_files(KEY, NODE, "*~*") == {"raylet": ["raylet.out~0"]}
    assert await text(logs, "raylet.out~0") == b"before\n"


# -- growing ---------------------------------------------------------------------------------


async def test_a_growing_file_is_listed_on_from_where_the_listing_ended(
    store: GetsStore, folder: Path, tmp_path: Path
) -> None:
    clock, ours = Clock(), Clock()
    each = follower(store, tmp_path, clock)
    await each.begin()
    logs = LogStore(store, refresh=2.0, clock=ours)
    expected = b""
    for number in range(5):
        line = b"line %d\n" % number
        with (folder / "raylet.out").open("ab") as file:
            file.write(line)
        expected += line
        await each.round(final=True)
        ours.now += 3
        assert await text(logs, "raylet.out") == expected
    chunks = [key for key in store.gets if KEYS.parse(key)]
    assert len(chunks) <= 2 * 5, "a chunk that was read is not read again"


async def test_a_followed_file_shows_what_comes_until_it_has_ended(
    store: GetsStore, folder: Path, tmp_path: Path
) -> None:
    each = follower(store, tmp_path, Clock())
    await each.begin()
    (folder / "raylet.out").write_bytes(b"one\ntwo\n")
    await each.round(final=True)
    steps = iter([b"three\n", b"four\n"])

    async def ended() -> bool:
        line = next(steps, None)
        if line is not None:
            with (folder / "raylet.out").open("ab") as file:
                file.write(line)
            await each.round(final=True)
        return line is None

    logs = LogStore(store, refresh=0)
    asked = LogOptions(node_id=NODE, filename="raylet.out", lines=1, follow=True, interval=0.001)
    got = await streamed(logs, KEY, [Place(NODE, filename="raylet.out")], asked, ended)

    assert got == b"two\nthree\nfour\n"


# -- parts, colours, records -------------------------------------------------------------------


async def test_the_part_of_one_task_is_cut_out_of_its_workers_file(
    store: GetsStore, folder: Path, tmp_path: Path
) -> None:
    (folder / "worker.out").write_bytes(b"before\none\ntwo\nafter\n")
    await store_all(store, tmp_path)
    logs = LogStore(store)

    async def part(start: int | None, end: int | None, lines: int) -> bytes:
        place = Place(NODE, filename=f"{folder}/worker.out", start=start, end=end)
        return await streamed(logs, KEY, [place], LogOptions(lines=lines))

    assert await part(7, 15, -1) == b"one\ntwo\n"
    assert await part(7, 15, 1000) == b"one\ntwo\n"
    assert await part(7, 15, 1) == b"two\n"
    assert await part(7, 7, 1000) == b""
    assert await part(7, None, -1) == b"one\ntwo\nafter\n"
    assert await part(7, 10**12, 2) == b"two\nafter\n"
    assert await part(10**12, None, -1) == b""


@pytest.mark.parametrize("reach", [1, 5, 40, 1 << 20])
async def test_a_part_whose_beginning_nobody_told_begins_behind_its_workers_mark(
    store: GetsStore, monkeypatch: pytest.MonkeyPatch, reach: int
) -> None:
    monkeypatch.setattr("api.logs.log_file.MARK_REACH", reach)
    content = b":job_id:01\n:task_name:f\none\n:task_name:g\n x :task_name:g\ntwo\n:task_name:h\n"
    file = await stored(store, content, [7])

    for told in (b"one\n", b" x :task_name:g\ntwo\n"):
        at = content.index(told)
        assert await file.mark_before(at + len(told)) == at
    assert await file.mark_before(len(content)) == len(content)
    assert await (await stored(store, b"no mark\n", [3])).mark_before(8) == 0


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from([b"\x1b", b"[", b"[3", b"1;4", b"m", b"text", b"\x1b[0m", b"(", b"\n", b"[" * 70]), max_size=12
    )
)
def test_colours_are_taken_out_wherever_the_pieces_are_cut(pieces: list[bytes]) -> None:
    colours = ColourFilter()

    got = b"".join([*map(colours.feed, pieces), colours.flush()])

    assert got == re.sub(rb"\x1b\[[()0-9;]{1,60}m", b"", b"".join(pieces))


async def test_a_file_of_records_is_read_from_the_segments(store: GetsStore) -> None:
    lines = [b'{"n": %d}\n' % n for n in range(6)]
    source = source_id(EVENTS, "event_GCS", lines[0])
    other = source_id(EVENTS, "event_RAYLET", b"{}\n")
    at = 0
    for seq, taken in enumerate([lines[:2], lines[2:3], lines[3:]], 1):
        body = b"".join(taken)
        spans = [
            Span(other, "log_event", 3 * seq, 3 * seq + 3, 1),
            Span(source, "log_event", at, at + len(body), len(taken)),
        ]
        if seq == 3:
            spans.append(Span(generation(other, 1), "log_event", 0, 3, 1))
        header = Header(KEY.namespace, KEY.cluster, KEY.session, NODE, seq, spans)
        await store.put(KEY.segment(NODE, seq), pack(header, [b"{}\n", body, *([b"[]\n"] if seq == 3 else [])]))
        at += len(body)
    await store.put(KEY.segment(NODE, 4), b"damaged")
    records = LogList(root="/tmp/ray/s/logs")
    records.records = [
        RecordEntry("events/event_GCS.log", source),
        RecordEntry("events/event_RAYLET.log", other),
        RecordEntry("events/event_X.log"),
    ]
    await store.put(KEYS.list, pack_list(records))
    logs = LogStore(store)

    assert await text(logs, "events/event_GCS.log") == b"".join(lines)
    assert await text(logs, "events/event_GCS.log", lines=2) == b"".join(lines[-2:])
    assert await text(logs, "events/event_RAYLET.log") == b"[]\n", "the file as it began again"
    assert await text(logs, "events/event_X.log") == b""
    assert await logs.list_files(KEY, NODE, "events/*") == {
        "internal": ["events/event_GCS.log", "events/event_RAYLET.log", "events/event_X.log"]
    }


async def test_a_chunk_that_is_too_large_is_not_read(store: GetsStore) -> None:
    file = LogFile(store, SizedCache(1), [Piece(0, 10, "x", 1 << 40)])

    assert await whole(file) == b"\n[ray-history: 10 bytes of this file are missing]\n"
    assert store.gets == []
    with pytest.raises(NotFound):
        await store.get("x")

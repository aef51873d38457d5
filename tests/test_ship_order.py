"""A segment is put, announced and committed in this order, once, whoever else writes and whatever gets lost."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from support.collecting import NODE, key
from support.flaky import FlakyStore
from support.storecheck import stored_lines, stored_records

from pipeline.errors import HoleError, Unavailable
from pipeline.layout import SessionKey
from pipeline.read.source import tail_checksum
from pipeline.segments import checkpoint
from pipeline.segments.batch import Body
from pipeline.segments.cursor import Cursor
from pipeline.segments.segment import Header, Span, pack, unpack
from pipeline.ship.recover import recover
from pipeline.ship.ship import ANNOUNCE_TIMEOUT, Shipper
from pipeline.stores.patience import Patience

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


def patience(store: FlakyStore) -> Patience:
    return Patience(store, first=0.001, longest=0.01)


def shipper(store: FlakyStore, folder: Path, cursor: Cursor | None = None, **hooks) -> Shipper:
    file = checkpoint.path(folder, key().session)
    return Shipper(store, patience(store), key(), NODE, cursor or Cursor(), file, lambda: 1, **hooks)


def body(start: int, *lines: bytes, source: str = "events/event_GCS~00", gaps: list | None = None) -> Body:
    data = b"".join(lines)
    span = Span(source, "log_event", start, start + len(data), len(lines), tail_checksum(data))
    return Body([span], [data], gaps or [], 0, 0, "full")


async def recovered(store: FlakyStore, folder: Path) -> Cursor:
    return await recover(store, patience(store), key(), NODE, checkpoint.path(folder, key().session))


async def test_put_comes_before_announce_and_announce_before_commit(store: FlakyStore, tmp_path: Path) -> None:
    seen = []

    async def announce(to: SessionKey, header: Header) -> None:
        assert await store.get(to.segment(NODE, header.seq))
        assert checkpoint.load(checkpoint.path(tmp_path, to.session)) is None
        seen.append("announced to all")

    ship = shipper(store, tmp_path, announce=announce, at=seen.append)
    assert await ship.ship(body(0, b"a\n"))
    assert seen == ["before_put", "put", "announced to all", "announced", "checkpoint_written", "committed"]


async def test_numbers_begin_at_one_and_leave_none_out(store: FlakyStore, tmp_path: Path) -> None:
    ship = shipper(store, tmp_path)
    await ship.ship(body(0, b"a\n"))
    await ship.ship(body(2, b"b\n"))
    assert [info.key.rpartition("/")[2] for info in await store.list(key().events)] == [
        "000000000001.jsonl.zst",
        "000000000002.jsonl.zst",
    ]


async def test_an_announcement_that_fails_or_hangs_never_holds_up_the_commit(store: FlakyStore, tmp_path: Path) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("nobody listens")

    async def hangs(*_: object) -> None:
        await anyio.sleep_forever()

    with anyio.fail_after(ANNOUNCE_TIMEOUT * 10):
        assert await shipper(store, tmp_path, announce=fails).ship(body(0, b"a\n"))
        ship = shipper(store, tmp_path, await recovered(store, tmp_path), announce=hangs)
        assert await ship.ship(body(2, b"b\n"))
    assert await stored_lines(store, key()) == [b"a\n", b"b\n"]


async def test_a_put_whose_answer_was_lost_is_ours_and_is_committed_once(store: FlakyStore, tmp_path: Path) -> None:
    store.lose_answers = 1
    ship = shipper(store, tmp_path)
    assert await ship.ship(body(0, b"a\n"))
    assert await ship.ship(body(2, b"b\n"))
    assert await stored_lines(store, key()) == [b"a\n", b"b\n"]


async def test_a_store_that_is_away_is_tried_until_it_is_back(store: FlakyStore, tmp_path: Path) -> None:
    store.away = Unavailable("away")
    ship = shipper(store, tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ship.ship, body(0, b"a\n"))
        while ship._patience.trouble is None:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        store.away = None
    assert await stored_lines(store, key()) == [b"a\n"]


async def test_the_one_who_comes_second_takes_over_the_cursor_of_the_first(store: FlakyStore, tmp_path: Path) -> None:
    first, second = shipper(store, tmp_path / "1"), shipper(store, tmp_path / "2")
    assert await first.ship(body(0, b"a\n", b"b\n"))
    assert await first.ship(body(4, b"c\n"))
    assert not await second.ship(body(0, b"a\n"))
    assert (second.cursor.seq, second.cursor.end("events/event_GCS~00")) == (2, 6)
    assert await second.ship(body(6, b"d\n"))
    assert not await first.ship(body(6, b"d\n"))
    assert await stored_lines(store, key()) == [b"a\n", b"b\n", b"c\n", b"d\n"]


async def test_the_same_bytes_from_another_process_are_not_taken_for_ours(store: FlakyStore, tmp_path: Path) -> None:
    assert await shipper(store, tmp_path / "1").ship(body(0, b"a\n"))
    again = shipper(store, tmp_path / "2")
    assert not await again.ship(body(0, b"a\n"))
    assert again.cursor.end("events/event_GCS~00") == 2


async def test_something_else_in_a_segments_place_is_stepped_over(store: FlakyStore, tmp_path: Path) -> None:
    await store.put(key().segment(NODE, 1), b"not a segment")
    ship = shipper(store, tmp_path)
    assert not await ship.ship(body(0, b"a\n"))
    assert await ship.ship(body(0, b"a\n"))
    header, data = unpack(await store.get(key().segment(NODE, 2)))
    assert bytes(data) == b"a\n"


async def test_a_segment_that_leaves_a_hole_is_not_committed(store: FlakyStore, tmp_path: Path) -> None:
    ship = shipper(store, tmp_path)
    with pytest.raises(HoleError):
        await ship.ship(body(5, b"a\n"))
    assert ship.cursor.seq == 0


async def test_a_hole_that_a_gap_declares_is_committed(store: FlakyStore, tmp_path: Path) -> None:
    ship = shipper(store, tmp_path)
    gap = {"source": "events/event_GCS~00", "start": 0, "end": 5, "why": "too_long"}
    assert await ship.ship(body(5, b"a\n", gaps=[gap]))
    assert [offset for *_, offset, _ in await stored_records(store, key())] == [5]


async def test_a_checkpoint_that_cannot_be_written_holds_nothing_up(store: FlakyStore, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    ship = shipper(store, tmp_path)
    assert await ship.ship(body(0, b"a\n"))
    assert await ship.ship(body(2, b"b\n"))


# from what is left to the cursor


async def ship_some(store: FlakyStore, folder: Path, segments: int = 12) -> Cursor:
    ship = shipper(store, folder)
    for number in range(segments):
        await ship.ship(body(2 * number, b"a\n"))
    return ship.cursor


async def test_the_cursor_is_the_same_with_the_checkpoint_and_without(store: FlakyStore, tmp_path: Path) -> None:
    cursor = await ship_some(store, tmp_path)
    assert await recovered(store, tmp_path) == cursor
    checkpoint.path(tmp_path, key().session).unlink()
    assert await recovered(store, tmp_path) == cursor


async def test_headers_are_fetched_some_at_once_but_never_more_than_eight(store: FlakyStore, tmp_path: Path) -> None:
    await ship_some(store, tmp_path, segments=40)
    store.most_at_once = 0
    await recovered(store, tmp_path / "without")
    assert 1 < store.most_at_once <= 8


async def test_with_a_checkpoint_no_segment_before_it_is_looked_at(store: FlakyStore, tmp_path: Path) -> None:
    await ship_some(store, tmp_path)
    store.gets = 0
    await recovered(store, tmp_path)
    assert store.gets == 0


async def test_a_segment_that_was_put_and_not_committed_is_found(store: FlakyStore, tmp_path: Path) -> None:
    ship = shipper(store, tmp_path)
    await ship.ship(body(0, b"a\n"))
    before = checkpoint.path(tmp_path, key().session).read_bytes()
    await ship.ship(body(2, b"b\n"))
    checkpoint.path(tmp_path, key().session).write_bytes(before)
    assert await recovered(store, tmp_path) == ship.cursor


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff" * 100, b'{"version": 1}', b"null", b"[" * 10_000])
async def test_an_unreadable_checkpoint_is_put_aside_and_the_store_asked(
    store: FlakyStore, tmp_path: Path, damage: bytes
) -> None:
    cursor = await ship_some(store, tmp_path)
    file = checkpoint.path(tmp_path, key().session)
    file.write_bytes(damage)
    assert await recovered(store, tmp_path) == cursor
    assert not file.exists()
    assert [other.read_bytes() for other in file.parent.iterdir()] == [damage]


async def test_a_checkpoint_of_a_newer_version_is_not_read(store: FlakyStore, tmp_path: Path) -> None:
    cursor = await ship_some(store, tmp_path)
    file = checkpoint.path(tmp_path, key().session)
    file.write_bytes(file.read_bytes().replace(b'"version":1', b'"version":2').replace(b'"seq":12', b'"seq":3'))
    assert await recovered(store, tmp_path) == cursor


async def test_a_checkpoint_of_another_store_says_nothing_of_this_one(store: FlakyStore, tmp_path: Path) -> None:
    await ship_some(store, tmp_path)
    file = checkpoint.path(tmp_path, key().session)
    file.write_bytes(file.read_bytes().replace(store.url.encode(), b"memory://other"))
    assert (await recovered(FlakyStore(), tmp_path)).seq == 0


async def test_a_header_wider_than_the_first_fetch_is_fetched_whole(store: FlakyStore, tmp_path: Path) -> None:
    spans = [Span(f"spool/{n:064x}{n * 7919 % 999983:064x}.jsonl", "ray_event", 0, 1, 1, n * 7919) for n in range(9000)]
    header = Header("default", "ray", key().session, NODE, 1, spans)
    data = pack(header, [b"\n" * 9000])
    assert len(data) > 64 << 10
    await store.put(key().segment(NODE, 1), data)
    assert len((await recovered(store, tmp_path)).sources) == 9000


async def test_a_header_of_another_node_in_our_place_moves_no_source(store: FlakyStore, tmp_path: Path) -> None:
    other = Header("default", "ray", key().session, "b2" * 28, 1, [Span("events/event_GCS~00", "log_event", 0, 2, 1)])
    await store.put(key().segment(NODE, 1), pack(other, [b"a\n"]))
    assert (await recovered(store, tmp_path)).sources == {}

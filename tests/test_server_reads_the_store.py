"""A session is read from the store once, in order, whatever stands there."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
import zstandard
from support.sessions import (
    KEY,
    NODE,
    SegmentWriter,
    WrappedStore,
    finished_task,
    finishing,
    running_task,
    tasks,
)

from api.index.session_index import SessionIndex
from api.query.query import ListOptions
from api.session.reader import PREFETCH, SessionReader, UnknownSession
from api.views.tasks import list_tasks
from pipeline.errors import Unavailable
from pipeline.layout import SessionKey
from pipeline.segments.segment import Header, Span, pack

pytestmark = pytest.mark.anyio


async def states(reader: SessionReader) -> list[str]:
    def ask(index: SessionIndex) -> list[str]:
        return [row["state"] for row in list_tasks(index, ListOptions(limit=10_000))["result"]]

    return await reader.query(ask)


async def written(*batches: list[bytes]) -> tuple[WrappedStore, SegmentWriter, SessionReader]:
    store = WrappedStore()
    writer = SegmentWriter(store)
    await writer.begin()
    for batch in batches:
        await writer.write(batch)
    return store, writer, SessionReader(store, KEY)


async def test_a_growing_session_is_read_on_without_reading_anything_twice() -> None:
    store, writer, reader = await written(running_task(1), running_task(2))
    await reader.refresh()
    assert await states(reader) == ["RUNNING", "RUNNING"]
    await writer.write(finishing(1))
    await reader.refresh()
    await reader.refresh()
    assert sorted(await states(reader)) == ["FINISHED", "RUNNING"]
    segments = {key: count for key, count in store.gets.items() if "/events/" in key}
    assert segments == {KEY.segment(NODE, seq): 1 for seq in (1, 2, 3)}
    assert reader.completeness.records == 5
    assert reader.completeness.warning() == ""


async def test_nodes_that_join_later_are_read_too() -> None:
    store, _, reader = await written(running_task(1))
    await reader.refresh()
    other = SegmentWriter(store, node="cd" * 28)
    await other.write(finishing(1))
    await reader.refresh()
    assert await states(reader) == ["FINISHED"]
    assert reader.completeness.nodes.keys() == {NODE, "cd" * 28}


async def test_segments_are_fetched_ahead_but_never_more_than_a_few() -> None:
    store, _, reader = await written(*(tasks(1, number) for number in range(1, 21)))
    await reader.refresh()
    assert len(await states(reader)) == 20
    assert 1 < store.most_getting <= PREFETCH


async def test_bytes_that_two_segments_hold_are_applied_once() -> None:
    first, second, third = finished_task(1), finished_task(2), finished_task(3)
    store, writer, reader = await written(first + second)
    await writer.write(second + third, start=sum(map(len, first)))
    await reader.refresh()
    assert len(await states(reader)) == 3
    assert reader.completeness.records == 6
    assert reader.completeness.repeated_bytes == sum(map(len, second))
    assert reader.completeness.warning() == ""


async def test_a_hole_is_recorded_and_what_follows_it_is_applied() -> None:
    store, writer, reader = await written(finished_task(1))
    end = writer.ends["spool/1.jsonl"]
    await writer.write(finished_task(2), start=end + 1000)
    await reader.refresh()
    assert len(await states(reader)) == 2
    assert reader.completeness.missing_bytes == 1000
    assert reader.completeness.as_dict()["sources"][0].holes == [(end, end + 1000)]
    assert "1000 bytes" in reader.completeness.warning()


async def test_a_source_that_does_not_begin_at_its_beginning_has_a_hole() -> None:
    store, writer, reader = await written()
    await writer.write(finished_task(1), start=512)
    await reader.refresh()
    assert reader.completeness.missing_bytes == 512


async def test_a_missing_number_between_segments_is_counted() -> None:
    store, writer, reader = await written(finished_task(1))
    await writer.write(finished_task(2), seq=4)
    await reader.refresh()
    assert reader.completeness.missing_segments == 2


async def test_gaps_that_a_collector_reports_are_passed_on() -> None:
    store, writer, reader = await written()
    await writer.write(finished_task(1), gaps=[{"source": "spool/1.jsonl", "why": "truncated"}])
    await reader.refresh()
    assert reader.completeness.gaps == [{"node": NODE, "source": "spool/1.jsonl", "why": "truncated"}]


def _bomb() -> bytes:
    return zstandard.ZstdCompressor().compress(b"\0" * (8 << 20))


def _elsewhere(**wrong: object) -> Callable[[], bytes]:
    fields = {"namespace": "default", "cluster": "demo", "session": KEY.session, "node": NODE, "seq": 2}
    header = Header(**(fields | wrong), sources=[])  # type: ignore[arg-type]
    return lambda: pack(header, [])


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "not zstd": lambda: b"hello",
    "a header without end": _bomb,
    "another session's": _elsewhere(session="session_2020-01-01_00-00-00_000000_1"),
    "another node's": _elsewhere(node="ee" * 28),
    "another number": _elsewhere(seq=7),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_bad_segment_is_named_and_its_neighbours_are_read(what: str) -> None:
    store, writer, reader = await written(finished_task(1))
    bad = KEY.segment(NODE, 2)
    await store.put(bad, HOSTILE[what]())
    await writer.write(finished_task(2), seq=3)
    await reader.refresh()
    await reader.refresh()
    assert len(await states(reader)) == 2
    assert [known.key for known in reader.completeness.bad_segments] == [bad]
    assert store.gets[bad] == 1
    assert "1 segments can't be read" in reader.completeness.warning()


async def test_an_object_larger_than_any_segment_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.session.reader.MAX_OBJECT", 1000)
    store, writer, reader = await written(finished_task(1))
    await store.put(KEY.segment(NODE, 2), b"x" * 1001)
    await reader.refresh()
    assert reader.completeness.bad_segment_count == 1
    assert KEY.segment(NODE, 2) not in store.gets


async def test_a_stray_object_among_segments_is_named_once() -> None:
    store, _, reader = await written(finished_task(1))
    await store.put(f"{KEY.node_events(NODE)}zzz.txt", b"?")
    await store.put(f"{KEY.events}we ird/000000000001.jsonl.zst", b"?")
    await reader.refresh()
    await reader.refresh()
    assert reader.completeness.bad_segment_count == 2
    assert len(await states(reader)) == 1


async def test_undecodable_and_unknown_records_are_counted_and_the_rest_flows() -> None:
    store, writer, reader = await written()
    unknown = b'{"eventType": "NEW_THING", "sessionName": "x"}\n'
    await writer.write([b"{nonsense\n", *finished_task(1), unknown])
    await reader.refresh()
    assert len(await states(reader)) == 1
    assert reader.completeness.rejected_count == 1
    assert reader.completeness.rejected[0]["offset"] == 0
    assert sum(reader.completeness.unknown.values()) == 1


async def test_lines_longer_than_a_slice_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.session.reader.SLICE", 64)
    store, _, reader = await written(tasks(10))
    await reader.refresh()
    assert len(await states(reader)) == 10
    assert reader.completeness.rejected_count == 0


async def test_a_store_that_fails_midway_loses_nothing_that_was_read() -> None:
    store, writer, reader = await written(*(tasks(1, number) for number in range(1, 11)))
    gate = store.hold(KEY.segment(NODE, 6))

    async def break_it() -> None:
        await store.asked[KEY.segment(NODE, 6)].wait()
        store.fail()
        gate.set()

    async with anyio.create_task_group() as group:
        group.start_soon(break_it)
        with pytest.raises(Unavailable):
            await reader.refresh()
    read = reader.completeness.records
    assert 0 < read < 20
    store.down = None
    await reader.refresh()
    assert len(await states(reader)) == 10
    assert reader.completeness.records == 20
    assert store.gets[KEY.segment(NODE, 1)] == 1


async def test_a_cancelled_look_goes_on_where_it_stopped() -> None:
    store, writer, reader = await written(*(tasks(1, number) for number in range(1, 11)))
    gate = store.hold(KEY.segment(NODE, 4))
    async with anyio.create_task_group() as group:
        group.start_soon(reader.refresh)
        await store.asked[KEY.segment(NODE, 4)].wait()
        group.cancel_scope.cancel()
    gate.set()
    await reader.refresh()
    assert len(await states(reader)) == 10
    assert reader.completeness.records == 20
    assert reader.completeness.repeated_bytes == 0


async def test_what_the_store_never_held_is_an_unknown_session() -> None:
    with pytest.raises(UnknownSession, match="is not in memory"):
        await SessionReader(WrappedStore(), SessionKey("a", "b", "c")).refresh()


async def test_a_session_that_vanished_is_said_to_be_gone() -> None:
    store, _, reader = await written(finished_task(1))
    await reader.refresh()
    for key in (KEY.segment(NODE, 1), KEY.metadata):
        await store.delete(key)
    with pytest.raises(UnknownSession, match="no longer"):
        await reader.refresh()


async def test_a_segment_that_vanishes_between_list_and_get_is_named() -> None:
    store, _, reader = await written(finished_task(1), finished_task(2))
    key = KEY.segment(NODE, 1)
    gate = store.hold(key)

    async def delete() -> None:
        await store.asked[key].wait()
        await store.delete(key)
        gate.set()

    async with anyio.create_task_group() as group:
        group.start_soon(delete)
        await reader.refresh()
    assert [known.key for known in reader.completeness.bad_segments] == [key]
    assert len(await states(reader)) == 1


async def test_a_span_that_overlaps_in_the_middle_of_a_line_crashes_nothing() -> None:
    store, writer, reader = await written(finished_task(1))
    await writer.write(finished_task(1) + finished_task(2), start=3)
    await reader.refresh()
    assert len(await states(reader)) == 2


async def test_a_span_of_huge_offsets_crashes_nothing() -> None:
    store, _, reader = await written()
    line = b"".join(finished_task(1))
    start = (1 << 62) - len(line)
    span = Span("spool/x", "ray_event", start, start + len(line), 2)
    header = Header("default", "demo", KEY.session, NODE, 1, [span])
    await store.put(KEY.segment(NODE, 1), pack(header, [line]))
    await reader.refresh()
    assert len(await states(reader)) == 1
    assert reader.completeness.missing_bytes == start

"""What is gathered is one interval a source, closed for a reason, and never over a hole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import HoleError
from pipeline.segments.batch import Chunk, Gap, SegmentBuilder
from pipeline.segments.cursor import Cursor, declared
from pipeline.segments.segment import Header, Span, pack, runs, unpack


def chunk(source: str, start: int, data: bytes, **more: object) -> Chunk:
    return Chunk(source, "log_event", start, start + len(data), data, hash(data) & 0xFF, data.count(b"\n"), **more)


def builder(limit: int = 100, age: float = 8.0) -> SegmentBuilder:
    return SegmentBuilder(limit, age)


def test_chunks_of_a_source_become_one_span_whatever_came_between() -> None:
    gather = builder()
    gather.add(chunk("a", 0, b"1\n", min_time_ns=5, max_time_ns=9), 0)
    gather.add(chunk("b", 10, b"x\n"), 0)
    gather.add(chunk("a", 2, b"2\n", min_time_ns=3, max_time_ns=4), 0)
    body = gather.close("asked")
    assert [(s.source, s.start, s.end, s.records) for s in body.sources] == [("a", 0, 4, 2), ("b", 10, 12, 1)]
    assert body.chunks == [b"1\n", b"2\n", b"x\n"]
    assert (body.min_time_ns, body.max_time_ns, body.reason) == (3, 9, "asked")
    assert gather.empty


@pytest.mark.parametrize("start", [0, 1, 3])
def test_a_chunk_that_does_not_follow_on_is_an_error(start: int) -> None:
    gather = builder()
    gather.add(chunk("a", 0, b"1\n"), 0)
    with pytest.raises(HoleError):
        gather.add(chunk("a", start, b"2\n"), 0)


def test_a_line_left_out_splits_the_span_and_is_said() -> None:
    gather = builder()
    gather.add(chunk("a", 0, b"1\n"), 0)
    gather.add(chunk("a", 50, b"", gap=Gap("a", 2, 50, "too_long")), 0)
    gather.add(chunk("a", 50, b"2\n"), 0)
    body = gather.close("full")
    assert [(s.start, s.end) for s in body.sources] == [(0, 2), (50, 52)]
    assert body.gaps == [{"source": "a", "start": 2, "end": 50, "why": "too_long"}]
    cursor = Cursor()
    cursor.commit(header(1, body.sources, body.gaps))
    assert cursor.end("a") == 52


def test_it_is_due_when_full_old_or_idle_and_not_before() -> None:
    gather = builder(limit=4, age=8)
    assert gather.due(1e9) is None
    assert gather.due_at() == float("inf")
    gather.add(chunk("a", 0, b"1\n"), 100)
    assert (gather.due(101.9), gather.due_at()) == (None, 102)
    assert gather.due(102) == "idle"
    for second in range(7):
        gather.add(chunk("b", 0, b""), 101 + second)
    assert (gather.due(107.9), gather.due_at()) == (None, 108)
    assert gather.due(108) == "age"
    gather.add(chunk("a", 2, b"2\n"), 107)
    assert gather.due(107) == "full"


def test_bytes_that_are_lost_are_worth_a_segment() -> None:
    gather = builder()
    gather.lost(Gap("a", 5, 9, "deleted"), 0)
    assert not gather.empty
    assert gather.due(2) == "idle"
    assert gather.close("idle").gaps == [{"source": "a", "start": 5, "end": 9, "why": "deleted"}]


def header(seq: int, spans: list[Span], gaps: list | None = None) -> Header:
    return Header("n", "c", "s", "node", seq, spans, gaps=gaps or [])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=30), st.integers(1, 12))
def test_what_goes_in_comes_out_of_the_segments_once_and_in_order(chunks: list[tuple[str, int]], limit: int) -> None:
    gather, cursor, ends, segments = builder(limit), Cursor(), dict.fromkeys("abc", 0), []
    for number, (source, lines) in enumerate(chunks):
        data = b"%d\n" % number * lines
        gather.add(chunk(source, ends[source], data), 0)
        ends[source] += len(data)
        if gather.due(0) or number == len(chunks) - 1:
            body = gather.close("full")
            made = header(cursor.seq + 1, body.sources)
            segments.append(pack(made, body.chunks))
            cursor.commit(made)
    found = dict.fromkeys("abc", b"")
    recovered = Cursor()
    for data in segments:
        made, body_ = unpack(data)
        assert recovered.adopt(made) == []
        for span, run in runs(made, body_):
            assert span.start == len(found[span.source])
            found[span.source] += bytes(run)
    written = dict.fromkeys("abc", b"")
    for number, (source, lines) in enumerate(chunks):
        written[source] += b"%d\n" % number * lines
    assert found == written
    assert recovered == cursor


def test_a_cursor_takes_what_the_store_has_and_names_the_holes() -> None:
    cursor = Cursor()
    assert cursor.adopt(header(1, [Span("a", "log_event", 0, 10, 1, 1)])) == []
    assert cursor.adopt(header(2, [Span("a", "log_event", 5, 8, 1, 2)])) == []
    assert cursor.end("a") == 10
    assert cursor.adopt(header(3, [Span("a", "log_event", 12, 20, 1, 3)])) == ["a"]
    assert (cursor.seq, cursor.end("a")) == (3, 20)


@pytest.mark.parametrize("start", [4, 6])
def test_a_cursor_commits_neither_overlap_nor_hole_and_moves_nothing_then(start: int) -> None:
    cursor = Cursor()
    cursor.commit(header(1, [Span("a", "log_event", 0, 5, 1)]))
    with pytest.raises(HoleError):
        cursor.commit(header(2, [Span("b", "log_event", 0, 5, 1), Span("a", "log_event", start, 9, 1)]))
    with pytest.raises(HoleError):
        cursor.commit(header(3, []))
    assert (cursor.seq, cursor.end("a"), cursor.end("b")) == (1, 5, 0)


@pytest.mark.parametrize(
    "gap",
    [
        {},
        {"source": "a"},
        {"source": "b", "start": 5, "end": 9},
        {"source": "a", "start": 5, "end": 8},
        {"source": "a", "start": 6, "end": 9},
        {"source": "a", "start": "5", "end": "9"},
        {"source": "a", "start": None, "end": []},
    ],
)
def test_only_a_gap_that_fits_declares_a_hole(gap: dict) -> None:
    span = Span("a", "log_event", 9, 12, 1)
    assert not declared([gap], span, 5)
    assert declared([gap, {"source": "a", "start": 5, "end": 9}], span, 5)
    assert declared([{"source": "a", "start": 7, "end": 9}, gap, {"source": "a", "start": 5, "end": 7}], span, 5)

"""A push is checked and bounded whatever was sent; what is kept on either side of the channel is bounded and never out of order."""

from __future__ import annotations

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from api.live.liveness import FORGET_MS, HEARD_MS, Liveness
from api.live.ring import Ring
from api.status import LOST_AFTER_MS, SILENT_AFTER_MS, status_of
from pipeline.errors import BadPush
from pipeline.layout import SessionKey
from pipeline.push.outbox import OVERHEAD, Outbox, spans
from pipeline.push.pushed import MAX_BODY, MAX_HEADER, MAX_SPANS, Push, Word, pack_push, read_head, unpack_push
from pipeline.segments.batch import Chunk, Gap
from pipeline.segments.segment import Header, Span, read_header, runs
from pipeline.stores.catalog import new_metadata

KEY = SessionKey("default", "ray", "session_2026-01-16_02-00-00_123456_1")
NODE = "a1" * 28
SOURCE = "spool/1.jsonl"


def push(*ranges: tuple[int, int], source: str = SOURCE, word: Word = "batch", **changed: object) -> Push:
    found = [Span(source, "ray_event", start, end, 1) for start, end in ranges]
    plain = Push(
        namespace=KEY.namespace,
        cluster=KEY.cluster,
        session=KEY.session,
        node=NODE,
        seq=0,
        sources=found,
        reason="push",
        writer="w",
        word=word,
    )
    return msgspec.structs.replace(plain, **changed)


def packed(header: object, body: bytes = b"") -> bytes:
    """A message as anyone may write one."""
    return zstandard.compress(msgspec.json.encode(header) + b"\n" + body)


def chunk(start: int, end: int, source: str = SOURCE, gap: Gap | None = None) -> Chunk:
    return Chunk(source, "ray_event", start, end, b"x" * (end - start), tail=end, records=1, gap=gap)


# messages


def test_a_message_is_a_segment_to_whoever_reads_segments() -> None:
    data = pack_push(push((0, 4), (9, 12)), [b"abc\n", b"de\n"])
    header = read_header(data)
    assert (header.sources, header.seq, header.reason) == (push((0, 4), (9, 12)).sources, 0, "push")


def test_header_and_records_come_back_as_they_were() -> None:
    sent = push((0, 4), (9, 12), role="head", gaps=[{"source": SOURCE, "start": 4, "end": 9, "why": "too_long"}])
    data = pack_push(sent, [b"abc\n", b"de\n"])
    head = read_head(data)
    there, body = unpack_push(data)
    assert head == there == sent
    assert [bytes(part) for _, part in runs(there, body)] == [b"abc\n", b"de\n"]


def test_a_sealed_segment_is_told_without_its_records() -> None:
    sent = push((0, 1 << 30), word="sealed", seq=7)
    head, body = unpack_push(pack_push(sent, []))
    assert (head, bytes(body)) == (sent, b"")


def test_a_message_whose_records_are_not_what_its_header_says_is_never_made_nor_taken() -> None:
    with pytest.raises(BadPush, match="3 bytes of records, the header says 4"):
        pack_push(push((0, 4)), [b"abc"])
    with pytest.raises(BadPush, match="3 bytes of records"):
        unpack_push(packed(push((0, 4)), b"abc"))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"node": "../up"}, "not a valid name"),
        ({"session": "a/b"}, "not a valid name"),
        ({"namespace": ""}, "not a valid name"),
        ({"seq": -1}, "out of range"),
        ({"seq": 1 << 60}, "out of range"),
        ({"ended_ms": 1 << 60}, "out of range"),
        ({"polled": -1}, "out of range"),
        ({"polled": 1 << 53}, "out of range"),
        ({"writer": "w" * 101}, "out of range"),
        ({"format": 2}, "upgrade"),
        ({"sources": [Span("../x", "ray_event", 0, 1, 1)]}, "not a source"),
        ({"sources": [Span("a\nb", "ray_event", 0, 1, 1)]}, "not a source"),
        ({"sources": [Span("s" * 600, "ray_event", 0, 1, 1)]}, "not a source"),
        ({"sources": [Span(SOURCE, "ray_event", 5, 4, 1)]}, "no range"),
        ({"sources": [Span(SOURCE, "ray_event", -1, 4, 1)]}, "no range"),
        ({"sources": [Span(SOURCE, "ray_event", 0, 4, 1), Span(SOURCE, "ray_event", 3, 5, 1)]}, "no range"),
        ({"sources": [Span(SOURCE, "ray_event", 0, 1 << 60, 1)]}, "no range"),
        ({"sources": [Span(SOURCE, "ray_event", 0, MAX_BODY + 1, 1)]}, "the limit is"),
        ({"sources": [Span(f"spool/{n}", "ray_event", 0, 0, 0) for n in range(MAX_SPANS + 1)]}, "more than"),
        ({"gaps": [{} for _ in range(MAX_SPANS + 1)]}, "more than"),
    ],
)
def test_a_header_that_lies_is_refused_with_the_reason(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(BadPush, match=reason):
        read_head(packed(push(**wrong)))


@pytest.mark.parametrize(
    "body", [b"", b"{}\n", b"[]\n", b"nothing\n", b'{"session":1}\n', b"[" * 100_000 + b"\n", b"\xff\xfe\n"]
)
def test_what_is_no_header_is_refused(body: bytes) -> None:
    with pytest.raises(BadPush):
        read_head(zstandard.compress(body))


def test_a_small_message_that_unpacks_to_much_is_refused_before_it_does() -> None:
    bomb = zstandard.compress(b"a" * (MAX_BODY + MAX_HEADER + 1))
    endless = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    for data in (bomb, endless.compress(b"a" * 1000) + endless.flush()):
        with pytest.raises(BadPush, match="the limit is"):
            read_head(data)
        with pytest.raises(BadPush, match="the limit is"):
            unpack_push(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for read in (read_head, unpack_push):
        with pytest.raises(BadPush):
            read(data)


@given(st.data())
def test_a_message_with_a_byte_changed_or_cut_is_refused_or_still_holds_together(data: st.DataObject) -> None:
    whole = pack_push(push((0, 4)), [b"abc\n"])
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    for spoiled in (changed, whole[:at]):
        try:
            head, body = unpack_push(spoiled)
        except BadPush:
            continue
        assert len(body) == head.body_length


# outbox


def test_what_was_taken_is_kept_until_a_segment_holds_it() -> None:
    box = Outbox(1 << 20)
    box.add([chunk(0, 10), chunk(10, 20)])
    assert [one.end for one in box.take()] == [10, 20]
    assert not box.unsent
    box.resume({})
    assert [one.end for one in box.take()] == [10, 20]
    box.sealed(Header("", "", "", "", 1, [Span(SOURCE, "ray_event", 0, 10, 1)]))
    box.resume({})
    assert [one.end for one in box.take()] == [20]


def test_after_a_failure_it_goes_on_where_the_other_side_is() -> None:
    box = Outbox(1 << 20)
    box.add([chunk(0, 10), chunk(0, 5, "spool/2.jsonl"), chunk(10, 20)])
    box.take()
    box.add([chunk(20, 30)])
    box.resume({SOURCE: 10})
    assert [(one.source, one.end) for one in box.take()] == [("spool/2.jsonl", 5), (SOURCE, 20), (SOURCE, 30)]


def test_what_a_segment_holds_is_not_sent_any_more() -> None:
    box = Outbox(1 << 20)
    box.add([chunk(0, 10), chunk(10, 20)])
    box.sealed(Header("", "", "", "", 1, [Span(SOURCE, "ray_event", 0, 20, 1)]))
    assert not box.unsent
    assert box.nbytes == 0


def test_a_full_outbox_lets_the_oldest_go_and_says_how_much() -> None:
    box = Outbox(3 * (OVERHEAD + 10))
    assert box.add([chunk(at, at + 10) for at in (0, 10, 20)]) == 0
    assert box.add([chunk(30, 40)]) == 10
    assert ranges(box.take()) == [(10, 10), (10, 20), (20, 30), (30, 40)]
    assert box.add([chunk(40, 50)]) == 10
    box.resume({})
    assert ranges(box.take()) == [(20, 20), (20, 30), (30, 40), (40, 50)]
    assert box.nbytes <= box.limit


def test_where_everything_had_to_go_its_end_is_told_until_it_is_sealed() -> None:
    box = Outbox(100)
    box.add([chunk(0, 10), chunk(10, 90)])
    assert box.unsent
    assert ranges(box.take()) == [(90, 90)]
    assert not box.unsent
    box.resume({SOURCE: 20})
    assert ranges(box.take()) == [(90, 90)]
    box.sealed(Header("", "", "", "", 1, [Span(SOURCE, "ray_event", 0, 90, 1)]))
    box.resume({})
    assert not box.unsent


def test_what_is_read_again_takes_the_place_of_what_was_read_before() -> None:
    box = Outbox(1 << 20)
    box.add([chunk(0, 10), chunk(0, 5, "spool/2.jsonl"), chunk(10, 20), chunk(20, 30)])
    box.add([chunk(10, 30), chunk(30, 40)])
    assert [(one.source, one.start, one.end) for one in box.take()] == [
        (SOURCE, 0, 10),
        ("spool/2.jsonl", 0, 5),
        (SOURCE, 10, 30),
        (SOURCE, 30, 40),
    ]


def ranges(chunks: list[Chunk]) -> list[tuple[int, int]]:
    return [(one.start, one.end) for one in chunks]


def test_ranges_that_follow_on_one_another_are_one_and_others_are_not() -> None:
    gap = Gap(SOURCE, 20, 90, "too_long")
    found = spans([chunk(0, 10), chunk(10, 20), chunk(90, 90, gap=gap), chunk(90, 95), chunk(0, 3, "spool/2.jsonl")])
    assert [(one.source, one.start, one.end, one.records) for one in found] == [
        (SOURCE, 0, 20, 2),
        (SOURCE, 90, 95, 2),
        ("spool/2.jsonl", 0, 3, 1),
    ]


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "seal", "resume"]), st.integers(0, 200)), max_size=60))
def test_whatever_happens_ranges_leave_in_order_and_the_bound_holds(actions: list[tuple[str, int]]) -> None:
    box, end, sent = Outbox(2000), 0, 0
    for action, number in actions:
        if action == "add":
            box.add([chunk(end, end + number)])
            end += number
        elif action == "take":
            taken = box.take()
            assert [one.start for one in taken] == sorted(one.start for one in taken)
            assert all(one.start >= 0 for one in taken)
            sent = max([sent, *(one.end for one in taken)])
        elif action == "seal":
            box.sealed(Header("", "", "", "", 1, [Span(SOURCE, "ray_event", 0, min(number, end), 1)]))
        else:
            box.resume({SOURCE: min(number, end)})
        assert 0 <= box.nbytes <= box.limit


# ring


def test_the_ring_lets_go_what_is_sealed_and_forgets_who_left() -> None:
    ring = Ring(1 << 20)
    hello = push(word="hello")
    assert ring.hello(KEY, hello) == {}
    first = ring.add(KEY, push((0, 10)), b"12345")
    second = ring.add(KEY, push((10, 20)), b"12345")
    assert ring.hello(KEY, hello) == {SOURCE: 20}
    ring.sealed(KEY, NODE, [Span(SOURCE, "ray_event", 0, 10, 1)])
    assert ring.batches(KEY) == [second] != [first]
    assert ring.hello(KEY, hello) == {SOURCE: 20}
    ring.sealed(KEY, NODE, [Span(SOURCE, "ray_event", 10, 20, 1)])
    assert ring.batches(KEY) == []
    assert ring.hello(KEY, hello) == {}
    ring.forget(KEY, NODE)
    assert ring.nbytes == 0
    assert not ring.knows(push((20, 30)), KEY)


def test_a_batch_that_two_segments_hold_goes_with_the_second() -> None:
    ring = Ring(1 << 20)
    ring.hello(KEY, push(word="hello"))
    both = push(sources=[Span("spool/1", "ray_event", 0, 10, 1), Span("spool/2", "ray_event", 0, 10, 1)])
    held = ring.add(KEY, both, b"12345")
    ring.sealed(KEY, NODE, [Span("spool/1", "ray_event", 0, 10, 1)])
    assert ring.batches(KEY) == [held]
    ring.sealed(KEY, NODE, [Span("spool/2", "ray_event", 0, 10, 1)])
    assert ring.batches(KEY) == []


def test_over_its_limit_the_ring_lets_the_oldest_of_all_go_and_never_holds_more() -> None:
    ring = Ring(100_000)
    keys = [SessionKey("default", "ray", f"session_{number}") for number in range(5)]
    for key in keys:
        ring.hello(key, push(word="hello"))
    held = [ring.add(keys[at % 5], push((at, at + 1)), b"x" * 1000) for at in range(200)]
    assert ring.nbytes <= ring.limit
    assert ring.dropped > 0
    alive = [batch.data is not None for batch in held]
    assert alive == sorted(alive)
    for key in keys:
        ring.forget(key, NODE)
    assert ring.nbytes == 0


# who lives


NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("ended", "created", "heard", "pushed", "status"),
    [
        (NOW - 5, NOW - 9, None, None, "ended"),
        (None, NOW - 1000, None, None, "live"),
        (None, NOW - LOST_AFTER_MS, None, None, None),
        (None, NOW - 10 * LOST_AFTER_MS, NOW - LOST_AFTER_MS + 1, None, "live"),
        (None, NOW - 10 * LOST_AFTER_MS, NOW - LOST_AFTER_MS, None, "lost"),
        (None, NOW - 10 * LOST_AFTER_MS, None, NOW - SILENT_AFTER_MS + 1, "live"),
        (None, NOW - 10 * LOST_AFTER_MS, NOW - SILENT_AFTER_MS, NOW - SILENT_AFTER_MS, "lost"),
        (None, NOW - 10 * LOST_AFTER_MS, NOW - 1000, NOW - SILENT_AFTER_MS, "live"),
    ],
)
def test_a_session_lives_by_its_last_word(
    ended: int | None, created: int, heard: int | None, pushed: int | None, status: str | None
) -> None:
    assert status_of(ended, created, heard, NOW, pushed) == status


def test_a_head_s_good_bye_ends_a_session_and_its_next_word_takes_that_back() -> None:
    alive = Liveness()
    known = new_metadata(KEY)
    alive.hear(KEY, push(word="alive", role="head"), NOW)
    assert alive.status(known, None, NOW) == "live"
    alive.hear(KEY, push(word="bye", role="head", ended_ms=NOW), NOW + 1)
    assert (alive.status(known, None, NOW + 2), alive.present(KEY, NOW + 2)) == ("ended", [])
    alive.hear(KEY, push(word="hello", role="head"), NOW + 3)
    assert alive.status(msgspec.structs.replace(known, ended_ms=NOW), None, NOW + 4) == "live"


def test_a_worker_s_good_bye_ends_nothing() -> None:
    alive = Liveness()
    alive.hear(KEY, push(word="alive", role="head"), NOW)
    alive.hear(KEY, push(word="bye", node="b2" * 28, ended_ms=NOW), NOW)
    assert alive.status(new_metadata(KEY), None, NOW) == "live"
    assert alive.present(KEY, NOW) == [NODE]
    assert alive.told(KEY, [NODE, "b2" * 28], NOW)


def test_who_has_fallen_silent_has_not_told_all() -> None:
    alive = Liveness()
    alive.hear(KEY, push(word="alive"), NOW)
    alive.hear(KEY, push(word="alive", node="b2" * 28), NOW + HEARD_MS)
    assert not alive.told(KEY, [NODE, "b2" * 28], NOW + HEARD_MS)
    assert alive.told(KEY, ["b2" * 28], NOW + HEARD_MS)
    assert not alive.told(KEY, ["c3" * 28], NOW + HEARD_MS)


def test_words_said_before_others_change_nothing() -> None:
    alive = Liveness()
    alive.hear(KEY, push(word="bye", role="head", ended_ms=NOW), NOW)
    alive.hear(KEY, push((0, 1), role="head"), NOW - 1000)
    assert alive.status(new_metadata(KEY), None, NOW) == "ended"
    assert alive.heard_ms(KEY) == NOW


def test_what_was_not_heard_of_for_long_is_forgotten() -> None:
    alive = Liveness()
    alive.hear(KEY, push(word="alive"), NOW)
    assert alive.forget(NOW) == []
    assert alive.forget(NOW + FORGET_MS) == [(KEY, NODE)]
    assert alive.heard_ms(KEY) is None

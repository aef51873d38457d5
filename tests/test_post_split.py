"""A posted body comes apart into records that are kept as they came, and bad ones that hold nobody up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.captures import DATA, captures, posts
from support.posted import NODE, SESSION, body, event, line

from pipeline.decoding.decode import MAX_LINE, decode_block
from pipeline.receive import post as module
from pipeline.receive.post import Post, split_post


def lines(post: Post) -> list[bytes]:
    return [one.line for one in post.records]


def details(post: Post) -> list[tuple[str, str]]:
    return [(one.why, one.detail) for one in post.bad]


def test_an_array_as_ray_posts_it_gives_each_records_own_bytes() -> None:
    post = split_post(body(range(3)))
    assert post.bad == []
    assert lines(post) == [line(number) for number in range(3)]
    first = post.records[0]
    assert (first.session, first.event_id, first.node_id) == (SESSION, event(0)["eventId"], NODE)


@pytest.mark.parametrize("shape", ["single", "pretty single", "lines", "lines with blanks", "pretty array"])
def test_other_shapes_of_a_body_are_taken_too(shape: str) -> None:
    events = [event(1), event(2)]
    text = {
        "single": json.dumps(events[0]),
        "pretty single": json.dumps(events[0], indent=2),
        "lines": "\n".join(map(json.dumps, events)),
        "lines with blanks": "\n".join(map(json.dumps, events)) + "\r\n \n",
        "pretty array": json.dumps(events, indent=2),
    }[shape]
    post = split_post(text.encode())
    assert post.bad == []
    wanted = events[:1] if "single" in shape else events
    assert [json.loads(one) for one in lines(post)] == wanted
    assert all(b"\n" not in one for one in lines(post)), "a record is one line"


def test_line_breaks_between_tokens_are_taken_out_and_nothing_else_is_changed() -> None:
    odd = event(1, message="a\\u00e9 \u2028 b", amount=1)
    text = json.dumps([odd], indent=1).replace('"amount": 1', '"amount": 1.0000000000000000001e400').encode()
    post = split_post(text)
    assert post.bad == []
    assert lines(post) == [
        json.dumps(odd, separators=(",", ":")).encode().replace(b'"amount":1', b'"amount":1.0000000000000000001e400')
    ]


def test_snake_case_and_unknown_event_types_are_good() -> None:
    snake = {"event_id": "AQ==", "session_name": SESSION, "event_type": "NEW_EVENT", "new_event": {"x": 1}}
    post = split_post(json.dumps([snake, event(2, eventType="NEWER_EVENT")]).encode())
    assert post.bad == []
    assert [one.event_id for one in post.records] == ["AQ==", event(2)["eventId"]]
    assert post.records[0].node_id == b""


def test_records_of_two_sessions_in_one_post_know_their_own() -> None:
    other = "session_2026-11-23_00-00-00_000000_1"
    post = split_post(json.dumps([event(1), event(2, other)]).encode())
    assert [one.session for one in post.records] == [SESSION, other]


@pytest.mark.parametrize(
    "change",
    [
        {"sessionName": ""},
        {"sessionName": None},
        {"sessionName": "mine"},
        {"sessionName": "session_../../etc"},
        {"sessionName": "session_a/b"},
        {"sessionName": "session_\n"},
        {"sessionName": "session_" + "x" * 300},
        {"sessionName": 5},
        {"sessionName": ["session_1"]},
        {"eventType": None},
        {"eventType": {"a": 1}},
        {"eventId": 5},
        {"eventId": "x" * 300},
        {"nodeId": "not base64!"},
        {"nodeId": "A" * 4000},
        {"timestamp": "yesterday"},
        {"taskLifecycleEvent": None},
        {"taskLifecycleEvent": {"taskId": ""}},
        {"taskLifecycleEvent": {"taskId": "AQ==", "workerPid": 1 << 70}},
    ],
)
def test_one_bad_record_is_set_aside_and_its_neighbours_are_kept(change: dict[str, Any]) -> None:
    bad = event(2, **change)
    post = split_post(json.dumps([event(1), bad, event(3)]).encode())
    assert lines(post) == [line(1), line(3)]
    [aside] = post.bad
    assert json.loads(aside.raw) == bad
    assert aside.why == "malformed"
    assert aside.detail
    unreadable = {"sessionName", "nodeId"} & change.keys() or change.get("eventId") == 5
    assert aside.session == ("" if unreadable else SESSION)


@pytest.mark.parametrize("item", ["5", "null", '"text"', "[]", "true", "{}"])
def test_what_is_not_an_event_is_set_aside(item: str) -> None:
    post = split_post(f"[{json.dumps(event(1))},{item}]".encode())
    assert lines(post) == [line(1)]
    assert [one.raw for one in post.bad] == [item.encode()]


@pytest.mark.parametrize(
    "whole",
    [
        b"nonsense",
        b"[",
        b"[1",
        body([1, 2])[:-1],
        body([1, 2])[:-40],
        body([1]) + b"x",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"\x1f\x8b\x00",
        b"\xef\xbb\xbf" + body([1]),
        b"not\njson\n",
    ],
)
def test_a_body_that_cannot_be_taken_apart_is_one_bad_record(whole: bytes) -> None:
    post = split_post(whole)
    assert post.records == []
    assert [one.raw for one in post.bad] == [whole]
    assert post.bad[0].why == "malformed"


def test_nothing_posted_is_nothing() -> None:
    for empty in (b"", b" \n ", b"[]", b" [ ] "):
        assert split_post(empty) == Post([], [])


def test_half_a_body_of_lines_gives_the_whole_ones() -> None:
    post = split_post(line(1) + b"\n" + line(2) + b"\n" + line(3)[:50])
    assert lines(post) == [line(1), line(2)]
    assert [one.raw for one in post.bad] == [line(3)[:50]]


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param(b"[" * 5000 + b"]" * 5000, id="deep"),
        pytest.param(b'"\xff"', id="invalid utf-8"),
        pytest.param(b'"\\ud800"', id="lone surrogate"),
        pytest.param(b"1" * 5000, id="huge integer"),
        pytest.param(b"-1e99999", id="huge float"),
    ],
)
def test_hostile_values_where_nobody_looks_raise_nothing(inside: bytes) -> None:
    hostile = line(2)[:-1] + b', "extra": ' + inside + b"}"
    post = split_post(b"[" + line(1) + b"," + hostile + b"]")
    if post.records:
        assert lines(post)[0] == line(1)
        assert len(post.records) + len(post.bad) == 2
        block = b"".join(one + b"\n" for one in lines(post))
        assert decode_block(block, "ray_event").rejected == [], "what was taken can be read"
    else:
        assert len(post.bad) == 1


def test_what_is_too_long_or_too_many_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    long = event(2, message="x" * MAX_LINE)
    post = split_post(json.dumps([event(1), long]).encode())
    assert lines(post) == [line(1)]
    assert [one.why for one in post.bad] == ["too_long"]
    monkeypatch.setattr(module, "MAX_COMMAS", 100)
    many = b"[" + b"0," * 100 + b"0]"
    assert len(split_post(many).bad) == 101
    [whole] = split_post(many.replace(b"0]", b"0,0]")).bad
    assert whole.why == "too_long"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_apart_without_an_error(whole: bytes) -> None:
    post = split_post(whole)
    assert not whole.strip() or post.records or post.bad or json.loads(whole) == []


@settings(max_examples=300)
@given(
    items=st.lists(json_values | st.builds(event, st.integers(0, 99), message=st.text()), max_size=4),
    indent=st.booleans(),
)
def test_every_item_of_an_array_is_a_record_or_bad_and_good_ones_can_be_read_again(
    items: list[Any], indent: bool
) -> None:
    post = split_post(json.dumps(items, indent=2 if indent else None).encode())
    if any(isinstance(one, dict) and "taskLifecycleEvent" in one for one in items):
        assert post.records
    assert len(post.records) + len(post.bad) == len(items)
    block = b"".join(one + b"\n" for one in lines(post))
    decoded = decode_block(block, "ray_event")
    assert decoded.lines == len(post.records)
    assert decoded.rejected == []


def test_recorded_posts_hold_no_bad_record() -> None:
    found = captures()
    folders = [path.parent for path in DATA.glob("*/session")]
    if found is not None:
        folders += [path.parent for path in found.glob("*/session")]
    taken = 0
    for folder in folders:
        for one in posts(folder):
            post = split_post(one)
            assert post.bad == []
            assert {record.session for record in post.records} == {(folder / "session").read_text().strip()}
            assert [json.loads(record.line) for record in post.records] == json.loads(one)
            taken += len(post.records)
    assert taken > 50

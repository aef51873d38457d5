"""Whatever the bytes: no error leaves the decoder, each line is accounted for, and its neighbours flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.captures import DATA, captures, event_files, posts

from pipeline.decoding.decode import MAX_LINE, Decoded, decode_block
from pipeline.decoding.dialects import wire
from pipeline.events import TaskUpdate
from pipeline.read import source
from pipeline.segments.segment import Dialect

DIALECTS: list[Dialect] = ["ray_event", "export_api", "log_event"]
GOOD = (
    b'{"eventId":"AQ==","eventType":"TASK_LIFECYCLE_EVENT","timestamp":"2026-11-22T20:28:30.311300945Z",'
    b'"taskLifecycleEvent":{"taskId":"dHRq","stateTransitions":[{"state":"RUNNING","timestamp":"2026-11-22T20:28:30Z"}]}}'
)


def recorded() -> list[tuple[Dialect, bytes]]:
    """Some lines of each dialect as Ray wrote them."""
    found: list[tuple[Dialect, bytes]] = []
    folders = [path.parent for path in DATA.glob("*/session")]
    for capture in folders:
        for body in posts(capture):
            found += [("ray_event", json.dumps(record).encode()) for record in json.loads(body)]
        for name, dialect in (("export_events", "export_api"), ("events", "log_event")):
            for file in event_files(capture, name):
                found += [(dialect, line) for line in file.read_bytes().split(b"\n") if line]  # type: ignore[misc]
    shapes: dict[tuple[Any, ...], tuple[Dialect, bytes]] = {}
    for dialect, line in found:
        value = json.loads(line)
        shapes.setdefault(
            (dialect, value.get("eventType"), value.get("source_type"), len(line) // 300), (dialect, line)
        )
    return list(shapes.values())


RECORDED = recorded()


def accounted(decoded: Decoded, block: bytes, offset: int) -> None:
    """Every line is a record's, a rejected one or one of an unknown type; positions are line starts, in order."""
    starts, at = {}, offset
    for line in block.split(b"\n"):
        if line.strip(b" \t\r\x0b\x0c"):
            starts[at] = len(line)
        at += len(line) + 1
    assert decoded.lines == len(starts)
    assert len(decoded.positions) == len(decoded.records)
    assert decoded.positions == sorted(decoded.positions)
    rejected = {one.offset: one.length for one in decoded.rejected}
    assert rejected.items() <= starts.items()
    assert set(decoded.positions) <= starts.keys() - rejected.keys()
    assert len(set(decoded.positions)) + len(rejected) + sum(decoded.unknown.values()) <= len(starts)
    assert decoded.min_time_ns <= decoded.max_time_ns
    assert all(len(one.detail) <= 200 and "\n" not in one.detail for one in decoded.rejected)


@given(block=st.binary(max_size=300), offset=st.integers(0, 1 << 40))
def test_any_bytes_are_decoded_without_an_error(block: bytes, offset: int) -> None:
    for dialect in DIALECTS:
        accounted(decode_block(block, dialect, offset), block, offset)
        accounted(decode_block(memoryview(block), dialect, offset), block, offset)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["NaN", "-Infinity", "AQ==", "2026-11-22T20:28:30Z", "9999-12-31T23:59:59Z", "1e999", "-5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value inside ``value`` stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for name, item in inside for path in paths(item, (*at, name)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    first, *rest = path
    if isinstance(value, dict):
        return {name: replaced(item, tuple(rest), new) if name == first else item for name, item in value.items()}
    return [replaced(item, tuple(rest), new) if n == first else item for n, item in enumerate(value)]


@settings(max_examples=400)
@given(data=st.data(), new=json_values)
def test_a_recorded_line_with_any_value_in_any_place_is_decoded_without_an_error(data: st.DataObject, new: Any) -> None:
    dialect, line = data.draw(st.sampled_from(RECORDED))
    value = json.loads(line)
    changed = json.dumps(replaced(value, data.draw(st.sampled_from(paths(value))), new)).encode()
    block = line + b"\n" + changed + b"\n" + line
    decoded = decode_block(block, dialect)
    accounted(decoded, block, 0)
    assert {0, len(line) + len(changed) + 2} <= set(decoded.positions), "its neighbours flow"


@settings(max_examples=400)
@given(data=st.data(), junk=st.binary(max_size=6))
def test_a_recorded_line_with_any_bytes_in_any_place_is_decoded_without_an_error(
    data: st.DataObject, junk: bytes
) -> None:
    dialect, line = data.draw(st.sampled_from(RECORDED))
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, min(len(line), start + 8)))
    block = line[:start] + junk + line[end:]
    accounted(decode_block(block, dialect), block, 0)


def test_every_prefix_of_a_recorded_line_is_rejected_or_whole() -> None:
    for dialect, line in RECORDED:
        for end in range(1, len(line)):
            decoded = decode_block(line[:end], dialect)
            assert len(decoded.rejected) == 1, line[:end]
            assert decoded.records == []


def test_lines_end_in_a_newline_and_nothing_else() -> None:
    inside = GOOD.replace(b'"AQ=="', '"A\u2028\u0085Q"'.encode())
    block = GOOD + b"\n" + inside + b"\r\n\n   \n" + GOOD
    decoded = decode_block(block, "ray_event", 1000)
    assert decoded.lines == 3
    assert decoded.positions == [1000, 1000 + len(GOOD) + 1, 1000 + len(block) - len(GOOD)]


def test_two_values_on_one_line_or_one_over_two_are_not_records() -> None:
    for block in (GOOD + GOOD + b"\n", GOOD.replace(b",", b",\n", 1) + b"\n", b"[" + GOOD + b"]\n"):
        decoded = decode_block(block, "ray_event")
        assert decoded.records == []
        assert len(decoded.rejected) == decoded.lines


def test_half_a_number_at_the_end_is_not_a_value() -> None:
    for dialect in DIALECTS:
        assert decode_block(b"12", dialect).records == []


def test_a_line_that_is_too_long_is_said_to_be() -> None:
    block = GOOD + b"\n" + b" " * MAX_LINE + GOOD + b"\n" + GOOD + b"\n"
    decoded = decode_block(block, "ray_event")
    assert [one.why for one in decoded.rejected] == ["too_long"]
    assert len(decoded.records) == 2
    assert MAX_LINE + 1 == source.LINE_LIMIT, "what is followed can be decoded"


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"event_id":"x","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"eventType":"TASK_LIFECYCLE_EVENT","taskLifecycleEvent":{"taskId":"AQ==","workerPid":' + b"9" * 5000 + b"}}",
        b'{"eventType":"TASK_LIFECYCLE_EVENT","taskLifecycleEvent":{"taskId":"AQ==","workerPid":1e400}}',
        b'{"eventType":"TASK_LIFECYCLE_EVENT","taskLifecycleEvent":{"taskId":""}}',
        b'{"eventType":"TASK_LIFECYCLE_EVENT","taskLifecycleEvent":{"taskId":"' + b"A" * 400 + b'"}}',
        b'{"eventType":"TASK_LIFECYCLE_EVENT"}',
        b'{"eventType":"TASK_LIFECYCLE_EVENT","timestamp":"0001-01-01T00:00:00Z","taskLifecycleEvent":{"taskId":"AQ=="}}',
        b'{"eventType":"TASK_LIFECYCLE_EVENT","timestamp":"2262-12-01T00:00:00Z","taskLifecycleEvent":{"taskId":"AQ=="}}',
        b'{"eventType":"TASK_LIFECYCLE_EVENT","timestamp":"yesterday","taskLifecycleEvent":{"taskId":"AQ=="}}',
        b'{"eventType":"TASK_LIFECYCLE_EVENT","taskLifecycleEvent":{"taskId":"AQ==","actorReprName":"\\ud800"}}',
        b'{"eventType":"TASK_LIFECYCLE_EVENT","taskLifecycleEvent":{"taskId":"AQ==","actorReprName":"\xff"}}',
        b'{"source_type":"EXPORT_TASK","timestamp":1e308,"event_data":{"task_id":"AQ=="}}',
        b'{"source_type":"EXPORT_NODE","timestamp":1,"event_data":{"node_id":"AQ==","start_time_ms":"-1"}}',
        b'{"event_id":"x","timestamp":"Infinity"}',
        b'{"event_id":"x","timestamp":true}',
        b'{"event_id":5}',
        b"null",
        b'"text"',
        b"\xef\xbb\xbf{}",
        b"\x00",
    ],
)
def test_what_cannot_be_a_record_is_rejected_and_its_neighbours_flow(line: bytes) -> None:
    for dialect, good in (("ray_event", GOOD), ("export_api", b""), ("log_event", b'{"event_id":"x"}')):
        block = good + b"\n" + line + b"\n" + good + b"\n"
        decoded = decode_block(block, dialect)  # type: ignore[arg-type]
        accounted(decoded, block, 0)
        assert len(decoded.records) >= (2 if good else 0)
        if line.startswith((b'{"eventType"', b"[", b"\x00")) and dialect == "ray_event":
            assert [one.why for one in decoded.rejected] == ["malformed"]


def test_unknown_types_are_counted_by_name_and_names_are_bounded() -> None:
    lines = [b'{"eventType":"NEW_%d"}' % number for number in range(1000)] + [b'{"eventType":"NEW_1"}']
    decoded = decode_block(b"\n".join(lines), "ray_event")
    assert decoded.rejected == []
    assert decoded.unknown["NEW_1"] == 2
    assert len(decoded.unknown) <= 101
    assert sum(decoded.unknown.values()) == 1001
    assert decode_block(b'{"source_type":"EXPORT_NEW","event_data":{}}', "export_api").unknown == {"EXPORT_NEW": 1}
    assert all(len(name) < 100 for name in decode_block(b'{"eventType":"%s"}' % (b"N" * 9999), "ray_event").unknown)


def test_not_a_number_is_a_float_and_no_error() -> None:
    line = (
        b'{"eventType":"TASK_DEFINITION_EVENT","taskDefinitionEvent":{"taskId":"AQ==",'
        b'"requiredResources":{"CPU":"NaN","GPU":"Infinity","x":"-Infinity"}}}'
    )
    [record] = decode_block(line, "ray_event").records
    assert repr(record.required_resources) == "{'CPU': nan, 'GPU': inf, 'x': -inf}"  # type: ignore[union-attr]


@given(seconds=st.integers(0, 9_000_000_000), nanos=st.integers(0, 999_999_999), digits=st.sampled_from([0, 3, 6, 9]))
def test_timestamps_are_exact_to_the_nanosecond(seconds: int, nanos: int, digits: int) -> None:
    from datetime import UTC, datetime, timedelta

    nanos -= nanos % 10 ** (9 - digits)
    whole = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    text = whole + (f".{nanos:09d}"[: digits + 1] if digits else "") + "Z"
    for _ in range(2):  # the second time from the cache
        assert wire.nanoseconds(text) == seconds * 10**9 + nanos
    assert wire.nanoseconds(text.replace("Z", "+00:00")) == seconds * 10**9 + nanos


def test_the_cache_of_seconds_is_bounded() -> None:
    for day in range(1, 29):
        for minute in range(24 * 60):
            wire.nanoseconds(f"2026-02-{day:02d}T{minute // 60:02d}:{minute % 60:02d}:00Z")
    assert len(wire._seconds) <= wire._MAX_SECONDS


@pytest.mark.parametrize("name", ["ray-event-export", "export-api-files"])
def test_a_captured_session_holds_no_line_that_cannot_be_read(name: str) -> None:
    found = captures()
    if found is None:
        pytest.skip("the larger captures are not here (set RAY_HISTORY_CAPTURES)")
    whole_capture_is_read(found / name)


@pytest.mark.parametrize("capture", sorted(path.parent for path in DATA.glob("*/session")), ids=lambda path: path.name)
def test_a_committed_session_holds_no_line_that_cannot_be_read(capture: Path) -> None:
    whole_capture_is_read(capture)


def whole_capture_is_read(capture: Path) -> None:
    lines = 0
    for body in posts(capture):
        block = b"".join(json.dumps(record).encode() + b"\n" for record in json.loads(body))
        lines += all_read(block, "ray_event")
    for folder, dialect in (("export_events", "export_api"), ("events", "log_event")):
        for file in event_files(capture, folder):
            lines += all_read(file.read_bytes(), dialect)  # type: ignore[arg-type]
    assert lines > 50


def all_read(block: bytes, dialect: Dialect) -> int:
    decoded = decode_block(block, dialect)
    assert decoded.rejected == []
    assert decoded.unknown == {}
    assert len(decoded.records) >= decoded.lines == block.count(b"\n")
    assert not any(isinstance(one, TaskUpdate) and not one.task_id for one in decoded.records)
    return decoded.lines

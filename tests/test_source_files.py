"""Which files are sources, what they are called, and that only their own bytes are ever read, boundedly."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.read.places import Place
from pipeline.read.source import (
    EVENTS,
    EXPORT_EVENTS,
    FIRST,
    SPOOL,
    TAIL,
    family,
    fingerprint,
    first_line,
    tail_checksum,
)
from pipeline.read.tail import Lines, Tailer
from pipeline.segments.cursor import Position

ROUND = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs" / "export_events").mkdir(parents=True)
    return tmp_path / "logs" / "export_events"


def tailer(folder: Path, positions: dict[str, Position] | None = None, **changed: object) -> Tailer:
    return Tailer([Place(EXPORT_EVENTS, folder.parent.parent, ("logs", "export_events"))], positions or {}, **changed)


def read(tail: Tailer, budget: int = ROUND) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for item in tail.read(budget).items:
        if isinstance(item, Lines):
            found[item.source] = found.get(item.source, b"") + item.data
    return found


def test_a_source_is_called_by_its_folder_its_plain_name_and_its_first_line(folder: Path) -> None:
    (folder / "event_EXPORT_TASK_17.log").write_bytes(b"first\nsecond\n")
    (source,) = read(tailer(folder))
    assert source == f"export_events/event_EXPORT_TASK_17~{fingerprint(b'first' + bytes([10]))}"
    assert re.fullmatch(r"export_events/event_EXPORT_TASK_17~[0-9a-f]{16}", source)


@pytest.mark.parametrize("name", ["event_A.1.log", "event_A.log.1", "event_A.20.log", "event_A.log.20"])
def test_a_rotated_file_keeps_its_name_while_it_runs_and_after_a_restart(folder: Path, name: str) -> None:
    (folder / "event_A.log").write_bytes(b"first\nsecond\n")
    tail = tailer(folder)
    (source,) = read(tail)
    (folder / "event_A.log").rename(folder / name)
    with (folder / name).open("ab") as out:
        out.write(b"third\n")
    (folder / "event_A.log").write_bytes(b"another first\n")
    again = tailer(folder, tail.positions)
    assert read(tail)[source] == b"third\n"
    found = read(again)
    assert found.pop(source) == b"third\n"
    assert list(found.values()) == [b"another first\n"]


def test_the_same_first_line_begun_again_is_the_next_generation(folder: Path) -> None:
    (folder / "event_A.log").write_bytes(b"first\nsecond\n")
    tail = tailer(folder)
    (source,) = read(tail)
    (folder / "event_A.log").write_bytes(b"first\nother\nmore\n")
    assert read(tail) == {f"{source}.1": b"first\nother\nmore\n"}
    (folder / "event_A.log").write_bytes(b"first\n")
    assert read(tail) == {f"{source}.2": b"first\n"}
    assert read(tailer(folder, tail.positions)) == {}
    assert family(f"{source}.2") == (source, 2)
    assert family(source) == (source, 0)


def test_a_copy_in_the_making_is_not_read_after_a_restart_either(folder: Path) -> None:
    """Found by name first, and smaller than what was read: only its bytes tell."""
    lines = [b'{"n": %d}\n' % n for n in range(100)]
    (folder / "event_A.log").write_bytes(b"".join(lines))
    tail = tailer(folder)
    read(tail)
    (folder / "event_A.1.log").write_bytes(b"".join(lines[:50]))
    assert read(tailer(folder, tail.positions)) == {}


def test_of_two_files_with_the_same_beginning_the_longer_one_goes_on(folder: Path) -> None:
    lines = [b'{"n": %d}\n' % n for n in range(100)]
    (folder / "event_A.log").write_bytes(b"".join(lines))
    tail = tailer(folder)
    (source,) = read(tail)
    (folder / "event_A.log.1").write_bytes(b"".join([*lines, b"more\n"]))
    assert read(tail) == {source: b"more\n"}


def test_an_inode_used_again_is_another_source(folder: Path) -> None:
    for number in range(20):
        (folder / "event_A.log").write_bytes(b"file %d\n" % number)
        tail = tailer(folder) if number == 0 else tail  # noqa: F821
        assert list(read(tail).values()) == [b"file %d\n" % number]
        (folder / "event_A.log").unlink()


def test_a_file_truncated_after_it_was_recognised_is_not_read_as_what_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time between the look at a folder and the read of a file is short, not nothing."""
    (folder / "event_A.log").write_bytes(b"first\n" + b"x" * 300 + b"\n")
    tail = tailer(folder)
    (source,) = read(tail)
    look = tail._look

    def then_truncate(folders: dict) -> Iterator:
        yield from look(folders)
        (folder / "event_A.log").write_bytes(b"other\n" + b"y" * 400 + b"\n")

    with (folder / "event_A.log").open("ab") as out:
        out.write(b"unread\n")
    monkeypatch.setattr(tail, "_look", then_truncate)
    assert read(tail) == {}
    monkeypatch.setattr(tail, "_look", look)
    found = read(tail)
    assert list(found.values()) == [b"other\n" + b"y" * 400 + b"\n"]
    assert source not in found


def test_a_file_truncated_before_its_first_read_is_not_read_as_what_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "event_A.log").write_bytes(b"first\n")
    tail = tailer(folder)
    look = tail._look

    def then_truncate(folders: dict) -> Iterator:
        yield from look(folders)
        (folder / "event_A.log").write_bytes(b"other\nfile\n")

    monkeypatch.setattr(tail, "_look", then_truncate)
    assert read(tail) == {}
    monkeypatch.setattr(tail, "_look", look)
    (source,) = read(tail)
    assert source.endswith(fingerprint(b"other\n"))


def test_a_position_is_only_used_on_the_bytes_it_was_taken_from(folder: Path) -> None:
    (folder / "event_A.log").write_bytes(b"first\nsecond\n")
    source = f"export_events/event_A~{fingerprint(b'first' + bytes([10]))}"
    right, wrong = tail_checksum(b"first\n"), tail_checksum(b"other\n")
    assert read(tailer(folder, {source: Position(6, right)})) == {source: b"second\n"}
    assert read(tailer(folder, {source: Position(6, wrong)})) == {f"{source}.1": b"first\nsecond\n"}
    assert read(tailer(folder, {source: Position(600, right)})) == {f"{source}.1": b"first\nsecond\n"}


def test_half_a_first_line_is_no_source_yet(folder: Path) -> None:
    (folder / "event_A.log").write_bytes(b"half a li")
    tail = tailer(folder)
    assert read(tail) == {}
    assert tail.positions == {}
    with (folder / "event_A.log").open("ab") as out:
        out.write(b"ne\n")
    assert list(read(tail).values()) == [b"half a line\n"]


def test_a_long_first_line_is_known_by_its_beginning(folder: Path) -> None:
    assert first_line(b"x" * (FIRST - 1)) is None
    assert first_line(b"x" * FIRST) == b"x" * FIRST
    assert first_line(b"x" * (FIRST + 5) + b"\n") == b"x" * FIRST
    assert first_line(b"x\ny\n") == b"x\n"


def test_lines_end_in_newline_and_nothing_else(folder: Path) -> None:
    text = "a\x0bb\x0cc\x1cd\u2028e\rf\x85g\n".encode()
    (folder / "event_A.log").write_bytes(text + b"half\r")
    assert list(read(tailer(folder)).values()) == [text]


def test_links_and_pipes_and_other_names_are_not_followed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.log"
    outside.write_bytes(b"secret\n")
    (folder / "event_LINK.log").symlink_to(outside)
    (folder / "event_NEXT.log").symlink_to("event_A.log")
    os.mkfifo(folder / "event_FIFO.log")
    (folder / "event_FOLDER.log").mkdir()
    for name in ("notes.txt", ".hidden.log", "a.log.gz", "a b.log", "a\nb.log", "x" * 240 + ".log"):
        (folder / name).write_bytes(b"no\n")
    (folder / os.fsdecode(b"bad\xff.log")).write_bytes(b"no\n")
    (folder / "event_A.log").write_bytes(b"yes\n")
    tail = tailer(folder)
    assert list(read(tail).values()) == [b"yes\n"]
    assert list(tail.positions) == [f"export_events/event_A~{fingerprint(b'yes' + bytes([10]))}"]


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "event_A.log").write_bytes(b"secret\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "export_events").symlink_to(tmp_path / "elsewhere")
    assert read(tailer(tmp_path / "logs" / "export_events")) == {}


def test_a_file_replaced_by_a_link_while_it_is_followed_is_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.log").write_bytes(b"first\nsecret\n")
    (folder / "event_A.log").write_bytes(b"first\n")
    tail = tailer(folder)
    read(tail)
    (folder / "event_A.log").unlink()
    (folder / "event_A.log").symlink_to(tmp_path / "outside.log")
    assert read(tail) == {}


def test_only_event_files_are_followed_in_the_events_folder() -> None:
    assert EVENTS.stem("event_GCS.log") == "event_GCS"
    assert EVENTS.stem("event_CORE_WORKER_17.3.log") == "event_CORE_WORKER_17"
    assert EVENTS.stem("something.log") is None
    assert SPOOL.stem("00001-2-3.jsonl") == "00001-2-3.jsonl"
    assert SPOOL.stem(".00001-2-3.jsonl.tmp") is None


def test_a_read_is_bounded_and_every_file_has_its_turn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.read.tail.CHUNK", 1000)
    for name in "ABCDE":
        (folder / f"event_{name}.log").write_bytes(b"".join(b"%s %05d\n" % (name.encode(), n) for n in range(5000)))
    tail = tailer(folder)
    sizes = []
    seen: set[str] = set()
    for _ in range(100):
        round_ = tail.read(2500)
        sizes.append(sum(item.end - item.start for item in round_.items))
        seen |= {item.source for item in round_.items[:2]}
        if not round_.more:
            break
    assert max(sizes) <= 3500
    assert len(seen) == 5
    assert {at.end for at in tail.positions.values()} == {5000 * 8}
    assert tail.unread() == 0


def test_the_search_for_the_end_of_a_line_that_is_too_long_is_bounded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"CHUNK": 100, "LINE_LIMIT": 1000, "SEARCH": 500}.items():
        monkeypatch.setattr(f"pipeline.read.tail.{name}", value)
    (folder / "event_A.log").write_bytes(b"x" * 3000)
    tail = tailer(folder)
    monkeypatch.setattr("pipeline.read.tail.FIRST", 50)
    monkeypatch.setattr("pipeline.read.source.FIRST", 50)
    rounds = [tail.read(ROUND) for _ in range(6)]
    assert [round_.items for round_ in rounds] == [[]] * 6
    assert [round_.more for round_ in rounds] == [True] * 4 + [False] * 2
    with (folder / "event_A.log").open("ab") as out:
        out.write(b"x\nnext\n")
    long, lines = tail.read(ROUND).items
    assert (long.start, long.end) == (0, 3002)
    assert tail.slice(long.source, 2999, 3002) == b"xx\n"
    assert isinstance(lines, Lines)
    assert (lines.start, lines.data) == (3002, b"next\n")


def test_of_a_spool_file_only_what_is_durable_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"one\ntwo\nthree\n")
    durable = {"a.jsonl": 4}
    tail = Tailer([Place(SPOOL, tmp_path, (), durable.get)], {})
    assert read(tail) == {"spool/a.jsonl": b"one\n"}
    assert tail.drained("spool/a.jsonl")
    durable["a.jsonl"] = 8
    assert read(tail) == {"spool/a.jsonl": b"two\n"}
    del durable["a.jsonl"]
    assert read(tail) == {}


def test_a_file_that_lies_still_is_not_opened_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "event_A.log").write_bytes(b"first\n")
    now = (folder / "event_A.log").stat().st_mtime_ns
    tail = tailer(folder, now_ns=lambda: now + 3_000_000_000)
    read(tail)
    monkeypatch.setattr("pipeline.files.regular", None)  # opening anything fails from here on
    assert read(tail) == {}


def test_a_checksum_covers_the_last_bytes_only() -> None:
    assert tail_checksum(b"a" * 1000) == tail_checksum(b"b" + b"a" * TAIL)
    assert tail_checksum(b"a" * TAIL) != tail_checksum(b"b" + b"a" * (TAIL - 1))

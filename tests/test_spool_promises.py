"""What the spool has said it holds it holds: durable, once, within its limit, whatever the disk does."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread
from support.posted import SESSION, body, line, quarantined, spooled

from pipeline.errors import Full
from pipeline.receive import spool as module
from pipeline.receive import spool_aside, spool_files
from pipeline.receive.post import BadRecord, PostRecord, split_post
from pipeline.receive.spool import Spool

pytestmark = pytest.mark.anyio

OTHER = "session_2026-11-23_00-00-00_000000_1"
SIZE = len(line(1)) + 1


class Clock:
    def __init__(self) -> None:
        self.ns = 1_795_379_295_000_000_000

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_spool(tmp_path: Path, clock: Clock) -> Callable[..., Spool]:
    def open_spool(**settings: Any) -> Spool:
        return Spool(tmp_path, **{"limit_bytes": 1 << 30, "time_ns": clock, **settings})

    return open_spool


def records(numbers: Any, session: str = SESSION) -> list[PostRecord]:
    return split_post(body(numbers, session)).records


def files(data_dir: Path, session: str = SESSION) -> list[str]:
    return sorted(path.name for path in (data_dir / "spool" / session).glob("*.jsonl"))


def on_disk(data_dir: Path) -> int:
    return sum(path.stat().st_size for path in data_dir.rglob("*") if path.is_file())


async def add(spool: Spool, numbers: Any, session: str = SESSION) -> tuple[int, int]:
    result = await spool.append(records(numbers, session), [])
    return result.accepted, result.duplicates


class Failing:
    """Makes one of the next calls of one function fail, a write after some bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def __call__(self, function: str, code: int, *, after_bytes: int = 0, times: int = 1) -> None:
        real: Any = getattr(os, function)
        left, room = times, after_bytes

        def fails(fd: int, *more: Any) -> Any:
            nonlocal left, room
            if left and function == "write" and room:
                data = bytes(more[0])[:room]
                room -= len(data)
                return real(fd, data)
            if left:
                left -= 1
                raise OSError(code, os.strerror(code))
            return real(fd, *more)

        self._patch.setattr(spool_files.os, function, fails)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    return Failing(monkeypatch)


# once


async def test_a_post_is_on_disk_line_by_line_as_it_came(tmp_path: Path, open_spool: Callable[..., Spool]) -> None:
    assert await add(open_spool(), [1, 2, 3]) == (3, 0)
    [name] = files(tmp_path)
    assert (tmp_path / "spool" / SESSION / name).read_bytes() == b"".join(line(n) + b"\n" for n in (1, 2, 3))


async def test_a_post_that_comes_again_is_stored_once(tmp_path: Path, open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    assert await add(spool, [1, 2, 2]) == (2, 1)
    assert await add(spool, [2, 3]) == (1, 1)
    assert await add(spool, [2, 3]) == (0, 2)
    assert spooled(tmp_path) == [1, 2, 3]


async def test_a_post_that_comes_again_after_a_restart_is_stored_once(
    tmp_path: Path, open_spool: Callable[..., Spool]
) -> None:
    for restart in range(3):
        spool = open_spool()
        assert await add(spool, [1, 2, 3]) == ((0, 3) if restart else (3, 0))
        assert await add(spool, [10 + restart]) == (1, 0)
    assert spooled(tmp_path) == [1, 2, 3, 10, 11, 12]


async def test_the_same_post_twice_at_one_time_is_stored_once(tmp_path: Path, open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    results = []

    async def one() -> None:
        results.append(await add(spool, range(20)))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(one)
    assert sorted(results) == [(0, 20)] * 4 + [(20, 0)]
    assert spooled(tmp_path) == list(range(20))


async def test_records_without_an_id_are_stored_each_time(tmp_path: Path, open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    nameless = PostRecord(SESSION, "", b"", line(7))
    result = await spool.append([nameless, nameless], [])
    assert (result.accepted, result.duplicates) == (2, 0)
    assert spooled(tmp_path) == [7, 7]


async def test_the_window_is_bounded_but_holds_a_whole_post(tmp_path: Path, open_spool: Callable[..., Spool]) -> None:
    spool = open_spool(window=10)
    assert await add(spool, range(50)) == (50, 0)
    assert await add(spool, range(50)) == (0, 50), "the last post, however large"
    assert await add(spool, range(50, 60)) == (10, 0)
    assert await add(spool, range(50, 60)) == (0, 10)
    assert await add(spool, [0]) == (1, 0), "long ago"
    again = open_spool(window=10)
    assert await add(again, range(51, 60)) == (0, 9)
    assert await add(again, [1]) == (1, 0)


async def test_the_window_is_read_back_over_several_files(open_spool: Callable[..., Spool]) -> None:
    spool = open_spool(file_bytes=SIZE * 3)
    for first in range(0, 40, 4):
        await add(spool, range(first, first + 4))
    assert await add(open_spool(), range(40)) == (0, 40)


async def test_sessions_have_folders_and_windows_of_their_own(tmp_path: Path, open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    result = await spool.append([*records([1]), *records([1, 2], OTHER)], [])
    assert (result.accepted, result.duplicates) == (3, 0)
    assert spooled(tmp_path) == [1]
    assert spooled(tmp_path, OTHER) == [1, 2]
    assert spool.sessions() == [SESSION, OTHER]
    assert open_spool().sessions() == [SESSION, OTHER]


async def test_a_session_closed_for_many_others_still_knows_its_ids(
    tmp_path: Path, open_spool: Callable[..., Spool], clock: Clock
) -> None:
    spool = open_spool()
    names = [f"session_{number}" for number in range(module.MAX_OPEN + 4)]
    for name in [*names, *names]:
        clock.ns += 1
        await add(spool, [1], name)
    assert [spooled(tmp_path, name) for name in names] == [[1]] * len(names)
    assert sum(session.open for session in spool._sessions.values()) <= module.MAX_OPEN


# durable


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Writes and fsyncs in their order, with the names of what they were done to."""
    done: list[tuple[str, str]] = []
    write, fsync = os.write, os.fsync

    def name(fd: int) -> str:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        return "file" if path.suffix in (".jsonl", ".tmp") else path.name

    def spy_write(fd: int, data: Any) -> int:
        done.append(("write", name(fd)))
        return write(fd, data)

    def spy_fsync(fd: int) -> None:
        done.append(("fsync", name(fd)))
        fsync(fd)

    monkeypatch.setattr(spool_files.os, "write", spy_write)
    monkeypatch.setattr(spool_files.os, "fsync", spy_fsync)
    return done


async def test_what_is_answered_is_synced_the_folders_too(
    tmp_path: Path, open_spool: Callable[..., Spool], calls: list[tuple[str, str]]
) -> None:
    spool = open_spool()
    await add(spool, [1])
    assert calls == [
        ("fsync", tmp_path.name),
        ("fsync", "spool"),
        ("fsync", SESSION),
        ("write", "file"),
        ("fsync", "file"),
    ]
    calls.clear()
    await add(spool, [2])
    assert calls == [("write", "file"), ("fsync", "file")]
    calls.clear()
    await add(spool, [2])
    assert calls == [], "nothing new"


async def test_what_an_earlier_process_left_is_synced_before_it_counts_as_stored(
    open_spool: Callable[..., Spool], calls: list[tuple[str, str]]
) -> None:
    await add(open_spool(), [1])
    calls.clear()
    assert await add(open_spool(), [1]) == (0, 1)
    assert calls == [("fsync", "file")]


async def test_posts_that_come_together_share_one_fsync(
    tmp_path: Path, open_spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool()
    await add(spool, [0])
    entered, go, count = threading.Event(), threading.Event(), 0
    fsync = os.fsync

    def slow(fd: int) -> None:
        nonlocal count
        count += 1
        entered.set()
        assert go.wait(30)
        fsync(fd)

    monkeypatch.setattr(spool_files.os, "fsync", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(add, spool, [1])
        await to_thread.run_sync(entered.wait)
        for number in range(2, 30):
            tasks.start_soon(add, spool, [number])
        await anyio.wait_all_tasks_blocked()
        assert spool.durable(SESSION, str(spool.active(SESSION))) == SIZE, "only what is synced counts"
        go.set()
    assert count == 2
    assert sorted(spooled(tmp_path)) == list(range(30))


async def test_a_sender_that_goes_away_takes_nobody_along(
    tmp_path: Path, open_spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool()
    entered, go = threading.Event(), threading.Event()
    fsync = os.fsync

    def slow(fd: int) -> None:
        entered.set()
        assert go.wait(30)
        fsync(fd)

    monkeypatch.setattr(spool_files.os, "fsync", slow)
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as leaving:
        leaving.start_soon(add, spool, [1])
        await to_thread.run_sync(entered.wait)
        leaving.start_soon(add, spool, [2])
        tasks.start_soon(add, spool, [3])
        await anyio.wait_all_tasks_blocked()
        leaving.cancel_scope.cancel()
        go.set()
    assert spooled(tmp_path) == [1, 3], "who left before his turn has left nothing"
    assert await add(spool, [4]) == (1, 0)


@pytest.mark.parametrize("steps", range(8))
async def test_a_sender_that_goes_away_at_any_step_takes_nobody_along(
    tmp_path: Path, open_spool: Callable[..., Spool], steps: int
) -> None:
    spool = open_spool()
    answers: list[tuple[int, int]] = []

    async def stays() -> None:
        answers.append(await add(spool, [2]))

    async with anyio.create_task_group() as tasks, anyio.create_task_group() as leaving:
        leaving.start_soon(add, spool, [1])
        tasks.start_soon(stays)
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        leaving.cancel_scope.cancel()
    assert answers == [(1, 0)]
    assert sorted(spooled(tmp_path)) in ([2], [1, 2])


# files


@pytest.mark.parametrize("written", [1, 50, SIZE - 1])
async def test_a_file_is_never_appended_to_by_a_later_process(
    tmp_path: Path, open_spool: Callable[..., Spool], written: int
) -> None:
    await add(open_spool(), [1])
    [old] = files(tmp_path)
    torn = tmp_path / "spool" / SESSION / old
    torn.write_bytes(torn.read_bytes() + line(2)[:written])
    spool = open_spool()
    assert await add(spool, [1, 2]) == (1, 1), "a torn line was never stored"
    assert spooled(tmp_path) == [1, 2]
    assert torn.read_bytes().endswith(line(2)[:written])
    assert spool.active(SESSION) == files(tmp_path)[1]


async def test_names_are_in_order_and_never_come_twice_whatever_the_clock_does(
    tmp_path: Path, open_spool: Callable[..., Spool], clock: Clock
) -> None:
    for step in (0, -(10**12), 0, 5, -7):
        clock.ns += step
        before = files(tmp_path) if (tmp_path / "spool").exists() else []
        spool = open_spool(file_bytes=1)
        await add(spool, [len(before) * 10])
        await add(spool, [len(before) * 10 + 1])
        after = files(tmp_path)
        assert after[: len(before)] == before
        assert len(after) == len(before) + 2
    assert open_spool().sessions() == [SESSION]


async def test_a_file_is_closed_when_it_is_large_and_active_says_which_is_open(
    tmp_path: Path, open_spool: Callable[..., Spool]
) -> None:
    spool = open_spool(file_bytes=SIZE * 2)
    assert spool.active(SESSION) is None
    await add(spool, [1])
    assert [spool.active(SESSION)] == files(tmp_path)
    await add(spool, [2])
    assert spool.active(SESSION) is None
    await add(spool, [3])
    assert spool.active(SESSION) == files(tmp_path)[1]


async def test_a_released_file_is_deleted_once_there_is_a_newer_one(
    tmp_path: Path, open_spool: Callable[..., Spool]
) -> None:
    spool = open_spool(file_bytes=1)
    await add(spool, [1])
    [first] = files(tmp_path)
    spool.release(SESSION, first)
    assert files(tmp_path) == [first], "what is posted again is known by the newest"
    assert await add(spool, [1]) == (0, 1)
    await add(spool, [2])
    [second] = files(tmp_path)
    assert second > first
    spool.release(SESSION, "unknown")
    spool.release(OTHER, second)
    assert files(tmp_path) == [second]
    assert spool.used_bytes == on_disk(tmp_path)


async def test_ids_outlive_the_files_they_were_in(
    tmp_path: Path, open_spool: Callable[..., Spool], clock: Clock, failing: Failing
) -> None:
    """A post of which the first half got into one file and the second into another, before a kill."""
    spool = open_spool()
    failing("write", errno.ENOSPC, after_bytes=SIZE * 2)
    with pytest.raises(Full):
        await add(spool, [1, 2, 3])
    assert await add(spool, [1, 2, 3]) == (1, 2)
    first, second = files(tmp_path)
    spool.release(SESSION, first)
    assert files(tmp_path) == [second]
    for _ in range(2):
        assert await add(open_spool(), [1, 2, 3]) == (0, 3)


@pytest.mark.parametrize("spoilt", [b"", b"[5]", b"{", b"\xff" * 100, b"[" * 100_000])
async def test_remembered_ids_that_cannot_be_read_stop_nothing(
    tmp_path: Path, open_spool: Callable[..., Spool], spoilt: bytes
) -> None:
    await add(open_spool(), [1])
    (tmp_path / "spool" / SESSION / "ids.json").write_bytes(spoilt)
    assert await add(open_spool(), [1, 2]) == (1, 1)


async def test_an_open_file_is_not_released(tmp_path: Path, open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    await add(spool, [1])
    [name] = files(tmp_path)
    spool.release(SESSION, name)
    await add(spool, [2])
    assert spooled(tmp_path) == [1, 2]


async def test_a_file_that_nobody_appends_to_is_closed(
    tmp_path: Path, open_spool: Callable[..., Spool], clock: Clock
) -> None:
    spool = open_spool()
    await add(spool, [1])
    clock.ns += module.IDLE_NS + 1
    await add(spool, [1], OTHER)
    assert spool.active(SESSION) is None
    assert spool.active(OTHER) is not None


# full


async def test_over_the_limit_posts_are_refused_until_something_is_released(
    tmp_path: Path, open_spool: Callable[..., Spool]
) -> None:
    spool = open_spool(limit_bytes=SIZE * 4, file_bytes=SIZE * 2)
    await add(spool, [1, 2])
    await add(spool, [3, 4])
    with pytest.raises(Full, match="spool is full"):
        await add(spool, [5])
    assert spool.full is not None
    assert spooled(tmp_path) == [1, 2, 3, 4]
    assert await add(spool, [4]) == (0, 1), "what is stored may be said again"
    spool.release(SESSION, files(tmp_path)[0])
    assert await add(spool, [5]) == (1, 0)
    assert spool.full is None
    assert spool.used_bytes == on_disk(tmp_path)


async def test_the_limit_counts_what_earlier_processes_left(open_spool: Callable[..., Spool]) -> None:
    await add(open_spool(), range(4))
    with pytest.raises(Full):
        await add(open_spool(limit_bytes=SIZE * 4), [5])


async def test_a_post_too_large_is_refused_and_a_small_one_beside_it_is_taken(
    tmp_path: Path, open_spool: Callable[..., Spool]
) -> None:
    spool = open_spool(limit_bytes=SIZE * 3)
    outcomes: list[Any] = []

    async def one(numbers: Any) -> None:
        try:
            outcomes.append(await add(spool, numbers))
        except Full:
            outcomes.append("full")

    async with anyio.create_task_group() as tasks:
        for numbers in ([1], range(10, 20), [2]):
            tasks.start_soon(one, numbers)
    assert sorted(map(str, outcomes)) == ["(1, 0)", "(1, 0)", "full"]
    assert sorted(spooled(tmp_path)) == [1, 2]


async def test_a_session_that_is_all_stored_makes_room_for_another(
    tmp_path: Path, open_spool: Callable[..., Spool]
) -> None:
    spool = open_spool(limit_bytes=SIZE * 3, file_bytes=1)
    await add(spool, [1, 2])
    spool.release(SESSION, files(tmp_path)[0])
    assert spooled(tmp_path) == [1, 2]
    assert await add(spool, [1, 2], OTHER) == (2, 0)
    assert spool.sessions() == [OTHER]
    assert not (tmp_path / "spool" / SESSION).exists()


async def test_sessions_are_bounded_in_number(
    open_spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SESSIONS", 3)
    spool = open_spool(file_bytes=1)
    for number in range(3):
        await add(spool, [1], f"session_{number}")
    with pytest.raises(Full, match="3 sessions"):
        await add(spool, [1], "session_3")
    [name] = spool._sessions["session_1"].files
    spool.release("session_1", name)
    assert await add(spool, [1], "session_3") == (1, 0)


# a disk that fails


@pytest.mark.parametrize("whole", [0, 1, 2])
@pytest.mark.parametrize("torn", [0, 40])
async def test_a_disk_that_fills_up_in_the_middle_tears_nothing_and_doubles_nothing(
    tmp_path: Path, open_spool: Callable[..., Spool], failing: Failing, whole: int, torn: int
) -> None:
    spool = open_spool()
    await add(spool, [1])
    failing("write", errno.ENOSPC, after_bytes=whole * SIZE + torn)
    with pytest.raises(Full, match="No space left on device"):
        await add(spool, [2, 3, 4])
    assert spooled(tmp_path) == [1, 2, 3, 4][: 1 + whole]
    assert all((tmp_path / "spool" / SESSION / name).stat().st_size % SIZE == 0 for name in files(tmp_path))
    failed = files(tmp_path)[-1]
    assert spool.active(SESSION) is None
    assert await add(spool, [2, 3, 4]) == (3 - whole, whole)
    assert spooled(tmp_path) == [1, 2, 3, 4]
    assert spool.active(SESSION) != failed, "a file that failed is not gone on with"
    assert spool.used_bytes == SIZE * 4


async def test_a_file_that_never_held_anything_is_not_left_behind(
    tmp_path: Path, open_spool: Callable[..., Spool], failing: Failing
) -> None:
    spool = open_spool()
    failing("write", errno.ENOSPC, times=5)
    for _ in range(5):
        with pytest.raises(Full):
            await add(spool, [1])
    assert files(tmp_path) == []
    assert spool.sessions() == []
    assert await add(spool, [1]) == (1, 0)


async def test_what_a_failed_sync_may_not_have_written_is_written_again(
    tmp_path: Path, open_spool: Callable[..., Spool], failing: Failing
) -> None:
    spool = open_spool()
    await add(spool, [1])
    failing("fsync", errno.EIO)
    with pytest.raises(Full, match="Input/output error"):
        await add(spool, [2, 3])
    assert spooled(tmp_path) == [1]
    assert await add(spool, [2, 3]) == (2, 0)
    assert spooled(tmp_path) == [1, 2, 3]
    assert len(files(tmp_path)) == 2


async def test_one_sessions_failure_is_not_anothers(
    tmp_path: Path, open_spool: Callable[..., Spool], failing: Failing
) -> None:
    spool = open_spool()
    await add(spool, [1])
    await add(spool, [1], OTHER)
    failing("write", errno.EIO)
    with pytest.raises(Full):
        await spool.append([*records([2]), *records([2], OTHER)], [])
    assert spooled(tmp_path) == [1]
    assert spooled(tmp_path, OTHER) == [1, 2]
    again = await spool.append([*records([2]), *records([2], OTHER)], [])
    assert (again.accepted, again.duplicates) == (1, 1)


@pytest.mark.parametrize("function", ["open", "mkdir"])
async def test_a_folder_or_file_that_cannot_be_made_is_a_refusal(
    tmp_path: Path, open_spool: Callable[..., Spool], failing: Failing, function: str
) -> None:
    spool = open_spool()
    failing(function, errno.EDQUOT)
    with pytest.raises(Full, match="quota"):
        await add(spool, [1])
    assert await add(spool, [1]) == (1, 0)
    assert spooled(tmp_path) == [1]


async def test_an_unforeseen_error_reaches_all_who_wait(
    open_spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool()
    monkeypatch.setattr(module.Spool, "_admit", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await add(spool, [1])
    monkeypatch.undo()
    assert await add(spool, [1]) == (1, 0)


# bad records


async def test_bad_records_are_kept_aside_with_why_and_once(tmp_path: Path, open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    bad = [
        BadRecord(b'{"x": "\xff"}', "malformed", "no session name"),
        BadRecord(b"[" * 10, "malformed", "nested", SESSION),
        BadRecord(b"yy", "too_long", "2 bytes", SESSION),
    ]
    result = await spool.append(records([1]), bad)
    assert (result.accepted, result.quarantined) == (1, 3)
    assert sorted((one["folder"], one["why"], one["detail"], one["raw"]) for one in quarantined(tmp_path)) == [
        ("_unknown", "malformed", "no session name", '{"x": "\ufffd"}'),
        (SESSION, "malformed", "nested", "[" * 10),
        (SESSION, "too_long", "2 bytes", "yy"),
    ]
    for kept in result.kept:
        assert kept.record.detail.encode() in (tmp_path / kept.file).read_bytes()
    again = await spool.append(records([1]), bad)
    assert (again.accepted, again.duplicates, again.quarantined) == (0, 4, 0)
    assert len(quarantined(tmp_path)) == 3


async def test_a_quarantine_file_is_there_whole_or_not_at_all(
    tmp_path: Path, open_spool: Callable[..., Spool], failing: Failing
) -> None:
    spool = open_spool()
    failing("fsync", errno.ENOSPC)
    with pytest.raises(Full):
        await spool.append([], [BadRecord(b"x", "malformed", "bad")])
    assert [path for path in (tmp_path / "quarantine").rglob("*") if path.is_file()] == []
    result = await spool.append([], [BadRecord(b"x", "malformed", "bad")])
    assert result.quarantined == 1


async def test_a_long_bad_record_is_kept_in_parts(
    tmp_path: Path, open_spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_aside, "FILE_BYTES", 10)
    raw = b"0123456789abcdefghijABC"
    await open_spool().append([], [BadRecord(raw, "too_long", "x"), BadRecord(b"zz", "malformed", "y")])
    lines = quarantined(tmp_path)
    assert "".join(one["raw"] for one in lines if one["why"] == "too_long") == raw.decode()
    assert [one["part"] for one in lines] == [0, 1, 2, 0]
    assert len(list((tmp_path / "quarantine").glob("*/*.jsonl"))) == 3


async def test_quarantine_is_bounded_and_what_was_shipped_makes_room(
    tmp_path: Path, open_spool: Callable[..., Spool]
) -> None:
    spool = open_spool(limit_bytes=16_000)
    for number in range(20):
        await spool.append([], [BadRecord(b"%d" % number * 100, "malformed", "x")])
    kept = sum(path.stat().st_size for path in (tmp_path / "quarantine").glob("*/*.jsonl"))
    assert kept <= 16_000 // module.QUARANTINE_SHARE
    assert spool.used_bytes == kept
    assert spool.quarantine_dropped == 20 - len(quarantined(tmp_path)) > 0
    assert quarantined(tmp_path)[-1]["raw"].startswith("19"), "the oldest goes"
    room = (16_000 - kept) // SIZE
    await add(spool, range(room))
    with pytest.raises(Full):
        await add(spool, [room, room + 1])
    for path in (tmp_path / "quarantine").glob("*/*.jsonl"):
        path.unlink()
    assert await add(spool, [room, room + 1]) == (2, 0)

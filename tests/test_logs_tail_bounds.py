"""What is pushed of logs is bounded on both ends, and whatever anybody says, no other file is read and no other log is changed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.loggers import KEY, NODE, Clock, follower, logs_folder

from api.live import log_tails
from api.live.log_tails import LogTails, Tail
from pipeline.errors import BadPush
from pipeline.logs import logtail
from pipeline.logs.logs import LogFollower
from pipeline.logs.logtail import LogTail
from pipeline.push.pushed import MAX_LOG_BODY, MAX_LOGS, LogAsk, LogId, LogSpan, Push, pack_push, read_head, unpack_push
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio

LOG = LogId("raylet.out")


def push(*spans: LogSpan, node: str = NODE) -> Push:
    return Push(
        namespace=KEY.namespace,
        cluster=KEY.cluster,
        session=KEY.session,
        node=node,
        seq=0,
        sources=[],
        reason="push",
        word="log",
        logs=list(spans),
    )


class Server:
    """A server's end, told spans of logs as messages."""

    def __init__(self) -> None:
        self.asked = 0
        self.tails = LogTails(self._ask)

    def _ask(self, key: object) -> None:
        self.asked += 1

    def hear(self, start: int, content: bytes, log: LogId = LOG, then: LogId | None = None) -> bool:
        message = push(LogSpan(log, start, start + len(content), then=then))
        return self.tails.take(KEY, message, pack_push(message, [content]))

    def lacks(self) -> list[int]:
        return [ask.start for ask in self.tails.asks(KEY, NODE)]


@pytest.fixture
def server() -> Server:
    return Server()


# what is said


@pytest.mark.parametrize(
    "span",
    [
        LogSpan(LogId("../x"), 0, 1),
        LogSpan(LogId("a/../x"), 0, 1),
        LogSpan(LogId("a//x"), 0, 1),
        LogSpan(LogId("/x"), 0, 1),
        LogSpan(LogId(""), 0, 1),
        LogSpan(LogId("x" * 1025), 0, 1),
        LogSpan(LogId("x\n"), 0, 1),
        LogSpan(LogId("x", -1), 0, 1),
        LogSpan(LogId("x", 1_000_000), 0, 1),
        LogSpan(LOG, -1, 0),
        LogSpan(LOG, 1, 0),
        LogSpan(LOG, (1 << 53) - 1, 1 << 53),
        LogSpan(LOG, 0, 1, tail=-1),
        LogSpan(LOG, 0, 1, checked=-1),
        LogSpan(LOG, 0, 1, then=LogId("../x")),
    ],
)
def test_a_span_that_is_none_is_refused(span: LogSpan) -> None:
    with pytest.raises(BadPush):
        read_head(pack_push(push(span), [b"x" * max(0, span.end - span.start)]))


def test_no_more_logs_and_bytes_are_taken_than_may_be() -> None:
    with pytest.raises(BadPush, match="100 logs"):
        read_head(pack_push(push(*[LogSpan(LOG, 0, 0)] * (MAX_LOGS + 1)), []))
    with pytest.raises(BadPush, match="bytes of logs"):
        read_head(pack_push(push(LogSpan(LOG, 0, MAX_LOG_BODY + 1)), [b"x" * (MAX_LOG_BODY + 1)]))


def test_bytes_that_are_not_what_the_header_says_are_refused() -> None:
    sent = pack_push(push(LogSpan(LOG, 0, 3)), [b"abc"])
    assert bytes(unpack_push(sent)[1]) == b"abc"
    with pytest.raises(BadPush, match="the header says 4"):
        pack_push(push(LogSpan(LOG, 0, 4)), [b"abc"])
    batch = msgspec.structs.replace(push(LogSpan(LOG, 0, 3)), word="alive")
    with pytest.raises(BadPush):
        pack_push(batch, [b"abc"])


# the server's end


def test_what_nobody_follows_is_dropped_unread(server: Server) -> None:
    message = push(LogSpan(LOG, 0, 3))
    assert server.tails.take(KEY, message, b"not even unpacked")
    with server.tails.following(KEY, (NODE, "raylet.out", LogId("raylet.out", 1)), 0) as it:
        assert server.hear(0, b"abc")
        assert it.take() == b""
    assert (server.tails.nbytes, server.tails.count, server.lacks()) == (0, 0, [])


def test_only_the_log_of_that_node_and_session_is_told(server: Server) -> None:
    other = msgspec.structs.replace(push(LogSpan(LOG, 0, 3)), node="cd" * 28)
    with server.tails.following(KEY, (NODE, "raylet.out", LOG), 0) as it:
        assert server.tails.take(KEY, other, pack_push(other, [b"abc"]))
        assert it.take() == b""


def test_bytes_behind_a_hole_are_not_shown_and_asked_for_again(server: Server) -> None:
    with server.tails.following(KEY, (NODE, "raylet.out", LOG), 0) as it:
        assert server.hear(0, b"ab")
        assert not server.hear(3, b"d")
        assert not server.hear((1 << 53) - 2, b"z")
        assert (it.take(), server.lacks()) == (b"ab", [2])
        assert server.hear(1, b"bcd")
        assert (it.take(), server.lacks()) == (b"cd", [4])


def test_who_comes_later_takes_from_its_own_position_and_who_leaves_takes_nothing_along(server: Server) -> None:
    with server.tails.following(KEY, (NODE, "raylet.out", LOG), 0) as first:
        server.hear(0, b"abcd")
        assert first.take() == b"abcd"
        with server.tails.following(KEY, (NODE, "raylet.out", LOG), 2) as second:
            assert second.take() == b"cd"
        server.hear(4, b"ef")
        assert first.take() == b"ef"
        assert server.tails.nbytes == 6
    assert server.asked == 2, "when the first came and when the last went"


def test_what_the_store_had_first_is_not_asked_for(server: Server) -> None:
    with server.tails.following(KEY, (NODE, "raylet.out", LOG), 0) as it:
        server.hear(0, b"ab")
        it.at = 10
        assert server.lacks() == [10]
        assert not server.hear(12, b"z")
        assert server.hear(8, b"ijkl")
        assert it.take() == b"kl"


def test_memory_is_bounded_for_each_log_and_for_all(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_tails, "LOG_BYTES", 100)
    monkeypatch.setattr(log_tails, "ALL_BYTES", 150)
    others = [LogId("a.out"), LogId("b.out")]
    with (
        server.tails.following(KEY, (NODE, "a.out", others[0]), 0) as slow,
        server.tails.following(KEY, (NODE, "b.out", others[1]), 0),
    ):
        for at in range(0, 1000, 10):
            for log in others:
                assert server.hear(at, b"x" * 10, log)
            assert server.tails.nbytes <= 150
        assert slow.take() == b"", "what it lacks comes from the store"
        slow.at = 950
        assert slow.take() == b"x" * 50
    assert server.tails.nbytes == 0


def test_a_session_has_so_many_followed_logs_and_others_come_from_the_store_alone(server: Server) -> None:
    with ExitStack() as stack:
        enter = stack.enter_context
        for number in range(MAX_LOGS):
            assert enter(server.tails.following(KEY, (NODE, f"{number}", LogId(f"{number}")), 0)).tail is not None
        assert enter(server.tails.following(KEY, (NODE, "more", LogId("more")), 0)).tail is None
        assert enter(server.tails.following(KEY, (NODE, "0", LogId("0")), 0)).tail is not None, "this one is followed"
        assert len(server.lacks()) == MAX_LOGS
    assert server.tails.count == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12), st.booleans()), max_size=40))
def test_whatever_ranges_come_what_is_taken_is_the_log_from_the_position_on(
    ranges: list[tuple[int, int, bool]],
) -> None:
    whole = bytes(range(64))
    tail = Tail("raylet.out", LOG, 0)
    taken = 0
    for start, length, drop in ranges:
        tail.add(LogSpan(LOG, start, start + length), whole[start : start + length])
        if drop and tail.nbytes:
            tail.drop_oldest()
        found = tail.after(taken)
        assert found == whole[taken : taken + len(found)]
        taken += len(found)
    assert taken <= tail.end


# the collector's end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return logs_folder(tmp_path)


@pytest.fixture
async def logs(tmp_path: Path, folder: Path) -> LogFollower:
    each = follower(MemoryStore(), tmp_path, Clock())
    await each.begin()
    return each


@pytest.fixture
async def tail(logs: LogFollower, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LogTail]:
    monkeypatch.setattr(logtail, "EVERY", 0.001)
    async with anyio.create_task_group() as group:
        group.start_soon(logs.tail.run)
        yield logs.tail
        group.cancel_scope.cancel()


async def taken(tail: LogTail) -> list[tuple[LogSpan, bytes]]:
    with anyio.fail_after(10):
        while not tail.ready:  # noqa: ASYNC110 - what it waits for has no event
            await anyio.sleep(0.001)
    return tail.take()


async def test_only_what_is_a_log_is_read_whatever_is_asked_for(logs: LogFollower, tail: LogTail, folder: Path) -> None:
    (folder.parent / "secret").write_bytes(b"secret\n")
    (folder / "link.out").symlink_to(folder.parent / "secret")
    (folder / "a.out").write_bytes(b"shown\n")
    await logs.round()
    names = ["../secret", "link.out", "/etc/passwd", "%2E%2E/secret", "a.out/../../secret", "a.out"]

    tail.ask([LogAsk(name, LogId(name), 0) for name in names])

    assert [(span.log.path, content) for span, content in await taken(tail)] == [("a.out", b"shown\n")]


async def test_a_message_and_a_log_in_it_have_so_many_bytes_and_all_logs_have_their_turn(
    logs: LogFollower, tail: LogTail, folder: Path
) -> None:
    names = [f"{number}.out" for number in range(9)]
    for name in names:
        (folder / name).write_bytes(b"%s\n" % (b"x" * 99) * 5000)
    await logs.round()
    position = dict.fromkeys(names, 0)
    while min(position.values()) < 300_000:
        tail.ask([LogAsk(name, LogId(name), at) for name, at in position.items()])
        parts = await taken(tail)
        assert sum(len(content) for _, content in parts) <= logtail.MESSAGE
        for span, content in parts:
            assert len(content) == span.end - span.start <= logtail.PART
            assert span.start == position[span.log.path]
            position[span.log.path] = span.end
        assert max(position.values()) - min(position.values()) <= 3 * logtail.PART


async def test_what_is_asked_again_is_read_again_from_there_and_what_is_not_asked_is_not(
    logs: LogFollower, tail: LogTail, folder: Path
) -> None:
    (folder / "a.out").write_bytes(b"one\ntwo\n")
    await logs.round()
    tail.ask([LogAsk("a.out", LogId("a.out"), 0)])
    assert [content for _, content in await taken(tail)] == [b"one\ntwo\n"]
    tail.ask([LogAsk("a.out", LogId("a.out"), 4)])
    assert [content for _, content in await taken(tail)] == [b"two\n"]
    tail.ask([])
    (folder / "a.out").write_bytes(b"one\ntwo\nthree\n")
    await logs.round()
    await anyio.wait_all_tasks_blocked()
    assert not tail.ready


async def test_a_position_in_another_file_is_known_by_the_bytes_before_it(
    logs: LogFollower, tail: LogTail, folder: Path
) -> None:
    """A collector begins anew, nothing is stored, and the file is another one, longer than the position."""
    (folder / "a.out").write_bytes(b"now quite another file\nmore of it\n")
    await logs.round()
    tail.ask([LogAsk("a.out", LogId("a.out"), 4, tail=123456)])
    (span, content), *_ = await taken(tail)
    assert (span.start, content, span.then) == (4, b"", LogId("a.out", 1))
    tail.ask([LogAsk("a.out", LogId("a.out", 1), 0)])
    assert [content for _, content in await taken(tail)] == [b"now quite another file\nmore of it\n"]


async def test_a_question_whether_that_is_all_is_answered_once_and_only_when_it_is(
    logs: LogFollower, tail: LogTail, folder: Path
) -> None:
    (folder / "a.out").write_bytes(b"one\n")
    await logs.round()
    tail.ask([LogAsk("a.out", LogId("a.out"), 0, check=7)])
    (span, content), *_ = await taken(tail)
    assert (content, span.checked) == (b"one\n", 0)
    (span, content), *_ = await taken(tail)
    assert (span.start, content, span.checked) == (4, b"", 7)
    await anyio.wait_all_tasks_blocked()
    assert not tail.ready


SECRETS = (
    b"a line\nprogress 10 %\rprogress 20 %\r\n"
    b'{"runtime_env": {"env_vars": {"A": "secret-1", "B": "secret-2 } and more"}}}\n'
    b'"env_vars": {\n  "A": "secret-3 }",\n  "B": "secret-4"\n}\n'
    b'{"x": "{\\"env_vars\\": {\\"A\\": \\"secret-5\\"}}"}\nlast\n'
)


@given(st.lists(st.tuples(st.integers(1, len(SECRETS)), st.booleans(), st.booleans()), max_size=30))
def test_secrets_are_masked_wherever_and_whenever_the_pieces_are_cut(cuts: list[tuple[int, bool, bool]]) -> None:
    shown, at = b"", 0
    for end, whole, full in [*sorted(cuts), (len(SECRETS), False, False)]:
        if end > at:
            shown += logtail._content(
                SECRETS[:at], SECRETS[at:end], whole=whole, full=full, from_start=True, redact=True
            )
            at = len(shown)
    assert shown == re.sub(rb"secret-[^\\\x22]*", lambda found: b"*" * len(found[0]), SECRETS)

"""The collector's end of the channel: one message at a time, in order, begun again after failures, and never in anyone's way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from support.collecting import NODE, key

from pipeline.errors import PushFailed
from pipeline.layout import SessionKey
from pipeline.push import push
from pipeline.push.outbox import OVERHEAD
from pipeline.push.push import Pusher
from pipeline.push.pushed import Answer, Push, unpack_push
from pipeline.segments.batch import Chunk
from pipeline.segments.segment import Header, Span, runs

pytestmark = pytest.mark.anyio

SOURCE = "spool/1.jsonl"


class Recorder:
    """A channel that keeps what it was given, answers as told, and can fail or hang."""

    def __init__(self) -> None:
        self.said: list[Push] = []
        self.bytes: dict[int, int] = {}
        self.answers: list[Answer | PushFailed] = []
        self.plain = Answer()
        self.hanging: anyio.Event | None = None
        self.under_way = 0
        self.most = 0
        self.hurry: Callable[[], None] | None = None
        self._spoke = anyio.Event()

    async def send(self, message: Push, data: bytes) -> Answer:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.hanging is not None:
                await self.hanging.wait()
            await anyio.lowlevel.checkpoint()
            answer = self.answers.pop(0) if self.answers else self.plain
            if isinstance(answer, PushFailed):
                raise answer
            head, body = unpack_push(data)
            assert head == message
            self.said.append(message)
            for span, part in runs(head, body) if message.word == "batch" else ():
                self.bytes |= {span.start + at: byte for at, byte in enumerate(bytes(part))}
            return answer
        finally:
            self.under_way -= 1
            self._spoke.set()
            self._spoke = anyio.Event()

    def on_ask(self, of: SessionKey, hurry: Callable[[], None]) -> None:
        self.hurry = hurry

    @property
    def words(self) -> list[str]:
        return [message.word for message in self.said]

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(5):
            while not condition():
                await self._spoke.wait()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST", "LONGEST", "REFUSED"):
        monkeypatch.setattr(push, name, 0.001)


@asynccontextmanager
async def pushing(channel: Recorder, **changed: Any) -> AsyncIterator[Pusher]:
    asked = changed.pop("seal", lambda: None)
    pusher = Pusher(channel, key(), changed.pop("role", "worker"), changed.pop("limit", 1 << 20), asked)
    async with anyio.create_task_group() as group:
        group.start_soon(pusher.run, NODE)
        yield pusher
        group.cancel_scope.cancel()


def chunk(start: int, end: int) -> Chunk:
    return Chunk(SOURCE, "ray_event", start, end, bytes(at % 251 for at in range(start, end)), tail=end, records=1)


def sealed(seq: int, end: int) -> Header:
    return Header("default", "ray", key().session, NODE, seq, [Span(SOURCE, "ray_event", 0, end, 1)])


async def test_it_says_hello_then_what_there_is_one_message_at_a_time() -> None:
    channel = Recorder()
    async with pushing(channel) as pusher:
        for at in range(0, 100, 10):
            pusher.offer([chunk(at, at + 10)])
            await anyio.lowlevel.checkpoint()
        await channel.until(lambda: len(channel.bytes) == 100)
    assert channel.words[0] == "hello"
    assert set(channel.words[1:]) == {"batch"}
    assert channel.most == 1
    assert channel.bytes == {at: at % 251 for at in range(100)}


async def test_what_failed_is_said_again_from_where_the_other_side_is() -> None:
    channel = Recorder()
    channel.answers = [PushFailed("no"), Answer(), Answer(), PushFailed("gone"), Answer(cursor={SOURCE: 10})]
    async with pushing(channel) as pusher:
        await channel.until(lambda: channel.words == ["hello"])
        pusher.offer([chunk(0, 10)])
        await channel.until(lambda: channel.words == ["hello", "batch"])
        pusher.offer([chunk(10, 20)])
        await channel.until(lambda: len(channel.bytes) == 20)
    assert channel.words == ["hello", "batch", "hello", "batch"]
    assert [span.start for span in channel.said[-1].sources] == [10]


async def test_who_does_not_know_it_any_more_is_told_everything_that_is_not_sealed() -> None:
    channel = Recorder()
    async with pushing(channel) as pusher:
        pusher.offer([chunk(0, 10), chunk(10, 20)])
        await channel.until(lambda: len(channel.bytes) == 20)
        pusher.sealed(sealed(1, 10))
        await channel.until(lambda: channel.words[-1] == "sealed")
        channel.bytes = {}
        channel.answers = [Answer(again=True), Answer(cursor={})]
        pusher.offer([chunk(20, 30)])
        await channel.until(lambda: len(channel.bytes) == 20 and channel.words[-1] == "batch")
    assert sorted(channel.bytes) == list(range(10, 30))
    hello = [message for message in channel.said if message.word == "hello"][-1]
    assert hello.seq == 1


async def test_a_segment_is_told_of_as_soon_as_it_is_stored() -> None:
    channel = Recorder()
    async with pushing(channel) as pusher:
        await channel.until(lambda: channel.words == ["hello"])
        pusher.sealed(sealed(7, 10))
        await channel.until(lambda: channel.words == ["hello", "sealed"])
    told = channel.said[-1]
    assert (told.seq, told.sources, told.node) == (7, sealed(7, 10).sources, NODE)


async def test_it_closes_a_segment_when_asked_and_not_again_at_once() -> None:
    asked: list[float] = []
    channel = Recorder()
    async with pushing(channel, seal=lambda: asked.append(anyio.current_time())) as pusher:
        await channel.until(lambda: channel.words == ["hello"])
        channel.plain = Answer(seal=True)
        for at in range(0, 100, 10):
            pusher.offer([chunk(at, at + 10)])
            await channel.until(lambda at=at: len(channel.bytes) == at + 10)
    assert len(asked) == 1


async def test_somebody_who_begins_to_watch_is_answered_though_nothing_is_new() -> None:
    channel = Recorder()
    async with pushing(channel) as pusher:
        await channel.until(lambda: channel.words == ["hello"])
        channel.answers = [Answer(watched=True)]
        pusher.offer([chunk(0, 10)])
        await channel.until(lambda: channel.words == ["hello", "batch", "alive"])


async def test_who_listens_can_hurry_it() -> None:
    channel = Recorder()
    async with pushing(channel):
        await channel.until(lambda: channel.words == ["hello"])
        assert channel.hurry is not None
        channel.hurry()
        await channel.until(lambda: channel.words == ["hello", "alive"])


async def test_without_news_it_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "ALIVE_EVERY", 0.01)
    channel = Recorder()
    async with pushing(channel, role="head"):
        await channel.until(lambda: channel.words.count("alive") == 3)
    assert {(message.role, message.node) for message in channel.said} == {("head", NODE)}


async def test_a_channel_that_hangs_holds_nobody_up_and_costs_a_bounded_buffer() -> None:
    channel = Recorder()
    channel.hanging = anyio.Event()
    limit = 20 * (OVERHEAD + 10)
    async with pushing(channel, limit=limit) as pusher:
        await anyio.wait_all_tasks_blocked()
        for at in range(0, 100_000, 10):
            pusher.offer([chunk(at, at + 10)])
        assert pusher._outbox.nbytes <= limit
        channel.hanging.set()
        channel.hanging = None
        await channel.until(lambda: 99_999 in channel.bytes)
    assert sorted(channel.bytes) == list(range(100_000 - 20 * 10, 100_000))


async def test_what_is_refused_is_not_said_again() -> None:
    channel = Recorder()
    channel.answers = [Answer(), PushFailed("too large", refused=True)]
    async with pushing(channel) as pusher:
        await channel.until(lambda: channel.words == ["hello"])
        pusher.offer([chunk(0, 10)])
        await channel.until(lambda: channel.words == ["hello", "hello"])
        pusher.offer([chunk(10, 20)])
        await channel.until(lambda: channel.words[-1] == "batch")
    assert sorted(channel.bytes) == list(range(10, 20))


async def test_the_end_is_said_after_everything_else() -> None:
    channel = Recorder()
    async with pushing(channel, role="head") as pusher:
        pusher.offer([chunk(0, 10)])
        await channel.until(lambda: len(channel.bytes) == 10)
    await pusher.bye(1234)
    assert (channel.words[-1], channel.said[-1].ended_ms) == ("bye", 1234)


async def test_the_end_waits_for_nobody_who_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "BYE_SECONDS", 0.01)
    channel = Recorder()
    async with pushing(channel) as pusher:
        await channel.until(lambda: channel.words == ["hello"])
    channel.hanging = anyio.Event()
    with anyio.fail_after(2):
        await pusher.bye(None)
    channel.hanging = None
    channel.answers = [PushFailed("gone")]
    await pusher.bye(None)
    assert channel.words == ["hello"]


async def test_who_never_said_hello_says_no_good_bye() -> None:
    channel = Recorder()
    await Pusher(channel, key(), "head", 1 << 20, lambda: None).bye(1)
    assert channel.said == []

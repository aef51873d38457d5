"""What collectors push, from NATS: for several servers that share them.

Every server hears the words of all sessions (small: that somebody is there). The records of a session are taken from
the stream only while somebody wants it here, from as far back as the stream goes; what the store holds already is
passed over by its position. While a session is wanted its collectors are told so every few seconds, and which of its
logs are followed here; those come by a way of their own, where nothing is kept.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import msgspec
import nats
import structlog
from anyio.abc import TaskGroup
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from api.live.live import Live
from api.metrics import PUSHES_REFUSED
from pipeline.errors import BadKey, BadPush, Full
from pipeline.layout import SessionKey
from pipeline.push.nats_link import Ask, Link, linked, parse_nats, place_of, subject
from pipeline.push.pushed import read_head

ASK_EVERY = 5.0
HEARTBEAT = 1.0
SILENT = 3.5
"""Seconds without a word from the stream after which it is asked anew."""
RETRY = 0.5

_encode = msgspec.json.Encoder().encode
log = structlog.get_logger()


def from_nats(url: str, live: Live) -> Callable[[], Coroutine[Any, Any, None]]:
    """What takes pushes, until cancelled. NATS need not be there. Raises ``ConfigError`` for what isn't its address."""
    place = parse_nats(url)

    async def follow() -> None:
        async with linked(place) as link, anyio.create_task_group() as tasks:
            await _Follower(link, live, tasks).run()

    return follow


class _Follower:
    def __init__(self, link: Link, live: Live, tasks: TaskGroup) -> None:
        self._link, self._live, self._tasks = link, live, tasks
        self._followed: dict[SessionKey, anyio.CancelScope] = {}
        self._news = anyio.Event()
        self._urgent: set[SessionKey] = set()
        self._logs: dict[SessionKey, Subscription] = {}
        self._id = uuid.uuid4().hex

    async def run(self) -> None:
        self._live.on_want = self._wanted
        await self._link.up.wait()
        assert self._link.client is not None
        await self._link.client.subscribe(f"{self._link.place.prefix}.word.>", cb=self._word)
        for key in self._live.wanted_keys():
            self._wanted(key)
        while True:
            self._news = anyio.Event()
            await self._ask()
            with anyio.move_on_after(ASK_EVERY):
                await self._news.wait()

    def _wanted(self, key: SessionKey) -> None:
        """Somebody wants a session, or a segment of it closed."""
        self._urgent.add(key)
        if key not in self._followed and self._link.client is not None and self._live.wanted(key):
            self._live.fell_behind(key)
            self._followed[key] = scope = anyio.CancelScope()
            self._tasks.start_soon(self._follow, key, scope)
        self._news.set()

    async def _ask(self) -> None:
        """Tell the collectors of what is wanted, and let go of what isn't any more."""
        wanted, urgent = set(self._live.wanted_keys()), self._urgent
        self._urgent = set()
        for key in [key for key in self._followed if key not in wanted]:
            self._followed.pop(key).cancel()
        for key in wanted | urgent:
            logs = self._live.tails.asks_of(key)
            ask = Ask(watched=key in wanted, seal=self._live.take_seals(key), logs=logs, server=self._id)
            message = _encode(ask)
            try:
                assert self._link.client is not None
                await self._hear_logs(key, bool(logs))
                await self._link.client.publish(subject(self._link.place.prefix, "ask", key), message)
            except (nats.errors.Error, OSError) as exc:
                log.debug("collectors not asked", session=str(key), reason=str(exc))

    async def _hear_logs(self, key: SessionKey, followed: bool) -> None:
        """Listen to what is pushed of logs while somebody follows one, before it is asked for."""
        assert self._link.client is not None
        if followed and key not in self._logs:
            of_all_nodes = subject(self._link.place.prefix, "log", key) + ".*"
            self._logs[key] = await self._link.client.subscribe(of_all_nodes, cb=self._word)
        elif not followed and key in self._logs:
            await self._logs.pop(key).unsubscribe()

    async def _word(self, message: Msg) -> None:
        self._take(message, int(time.time() * 1000))

    async def _follow(self, key: SessionKey, scope: anyio.CancelScope) -> None:
        """A session's records, from one failure to the next."""
        consumer = _Consumer(self._link, key, self._take, partial(self._live.caught_up, key))
        with scope:
            try:
                while True:
                    try:
                        await consumer.run()
                    except (nats.errors.Error, APIError, OSError, TimeoutError) as exc:
                        log.debug("stream interrupted", session=str(key), reason=repr(exc))
                    self._live.fell_behind(key)
                    await anyio.sleep(RETRY)
            finally:
                self._live.caught_up(key)
                self._live.let_go(key)

    def _take(self, message: Msg, at_ms: int) -> None:
        """Note a message; what is wrong with it is its sender's."""
        try:
            push = read_head(message.data)
            if (push.key, push.node) != place_of(message.subject):
                raise BadPush(f"the header is of {push.key}, node {push.node}")
            self._live.take(push.key, push, message.data, durable=True, at_ms=at_ms)
        except (BadPush, BadKey, Full) as exc:
            PUSHES_REFUSED.labels("nats").inc()
            log.warning("push refused", subject=message.subject[:200], reason=str(exc))


class _Consumer:
    """Reads a session's subjects in order and without a gap; after an interruption it goes on where it was."""

    def __init__(
        self,
        link: Link,
        key: SessionKey,
        take: Callable[[Msg, int], None],
        caught_up: Callable[[], None],
    ) -> None:
        self._last = 0
        self._stream_made: datetime | None = None
        self._link, self._key, self._take, self._caught_up = link, key, take, caught_up
        self._next = 1
        self._heard = anyio.current_time()
        self._broken = False

    async def run(self) -> None:
        """Returns where the stream fell silent or skipped; raises what nats-py raises."""
        client, stream = self._link.client, self._link.place.stream
        assert client is not None
        if not client.is_connected:
            return
        await self._link.ensure_stream()
        info = await self._link.stream.stream_info(stream)
        if info.created != self._stream_made:
            self._last = 0  # another one of the same name
        self._stream_made, self._next, self._broken = info.created, 1, False
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=self._message)
        try:
            made = await self._link.stream.add_consumer(stream, self._config(inbox))
            if not made.num_pending:
                self._caught_up()
            self._heard = anyio.current_time()
            while not self._broken and anyio.current_time() - self._heard < SILENT:  # noqa: ASYNC110 - silence has no event
                await anyio.sleep(HEARTBEAT)
            await self._link.stream.delete_consumer(stream, made.name)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await subscription.unsubscribe()

    def _config(self, inbox: str) -> ConsumerConfig:
        return ConsumerConfig(
            deliver_subject=inbox,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE if self._last else DeliverPolicy.ALL,
            opt_start_seq=self._last + 1 if self._last else None,
            ack_policy=AckPolicy.NONE,
            max_deliver=1,
            filter_subject=subject(self._link.place.prefix, "push", self._key) + ".*",
            flow_control=True,
            idle_heartbeat=HEARTBEAT,
            inactive_threshold=30.0,
            mem_storage=True,
            num_replicas=1,
        )

    async def _message(self, message: Msg) -> None:
        self._heard = anyio.current_time()
        if message.headers and message.headers.get("Status") == "100":
            await self._status(message)
            return
        told = message.metadata
        if self._broken or told.sequence.consumer != self._next:
            self._broken = True
            return
        self._next += 1
        self._last = told.sequence.stream
        self._take(message, int(told.timestamp.astimezone(UTC).timestamp() * 1000))
        if not told.num_pending:
            self._caught_up()

    async def _status(self, message: Msg) -> None:
        """A heartbeat, or a question whether we keep pace."""
        assert self._link.client is not None
        assert message.headers is not None
        said = message.headers.get("Nats-Last-Consumer")
        if message.reply:
            await self._link.client.publish(message.reply)
        elif said is not None and said.isdigit() and int(said) >= self._next:
            self._broken = True

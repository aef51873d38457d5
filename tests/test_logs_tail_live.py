"""A log of a live session is followed as it is written, long before it is stored: each byte once, whatever happens meanwhile."""

# ruff: noqa: ASYNC240 - small files on a local disk

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from support.collecting import NODE, RayFolder, Running, collecting, key, settings, settled
from support.livechannel import LiveServer, cuttable, serving, wait_heard
from support.natsserver import nats_server
from support.processes import on_disk, start_collector
from support.tailing import NOT_STORED, following, listed, logs_of, write

from api.live import live
from api.metrics import PUSHES_TAKEN
from pipeline.config import LogConfig
from pipeline.logs import logs
from pipeline.logs.logfiles import LogKeys
from pipeline.stores.filestore import FileStore
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio

NAME = "raylet.out"
SOON = 20.0
"""Seconds: what is followed is stored after an hour, so whatever comes at all was pushed. How soon is for `make bench` to say."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are in the list at once, and collectors speak often; bytes wait for their age as ever."""
    monkeypatch.setattr(logs, "LIST_AGE", 0.0)
    monkeypatch.setattr(logs, "RESCAN", 0.05)
    monkeypatch.setattr(live, "LEAST_IDLE", 0.1)
    monkeypatch.setattr(live, "LEAST_WITHIN", 0.1)


class HangingStore(MemoryStore):
    """While ``hanging``, no request is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.answering = anyio.Event()
        self.answering.set()

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        await self.answering.wait()
        return await super().put(key, data, if_absent=if_absent)

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        await self.answering.wait()
        return await super().get(key, start=start, end=end)

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None):  # type: ignore[no-untyped-def]
        await self.answering.wait()
        return await super().list(prefix, after=after, limit=limit)


@pytest.fixture
def store() -> HangingStore:
    return HangingStore()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    ray = RayFolder(tmp_path / "ray")
    ray.begin()
    written = logs_of(ray) / NAME
    write(written, b"first\n")
    return written


@asynccontextmanager
async def collected(
    tmp_path: Path, store: MemoryStore, at: LiveServer, *, how: LogConfig = NOT_STORED, **changed: object
) -> AsyncIterator[Running]:
    """The session's collector, once the server knows of its log."""
    async with collecting(settings(tmp_path, **{"server": at.url, "logs": how, **changed}), store) as it:
        await wait_heard(at)
        await listed(at, NAME)
        yield it


async def chunks(store: MemoryStore) -> list[str]:
    keys = LogKeys(key(), NODE)
    return [info.key for info in await store.list(keys.prefix) if keys.parse(info.key)]


def logs_pushed() -> float:
    return PUSHES_TAKEN.labels("log")._value.get()


async def test_a_line_is_there_though_nothing_is_stored(tmp_path: Path, store: HangingStore, file: Path) -> None:
    async with serving(store) as server, collected(tmp_path, store, server), following(server, NAME) as it:
        await it.until(b"first\n", within=SOON)
        for number in range(10):
            write(file, b"line %d\n" % number)
            await it.until(b"line %d\n" % number, within=SOON)
        assert it.got == file.read_bytes()
        assert await chunks(store) == []


async def test_two_servers_show_it_by_way_of_nats_and_one_goes_on_when_the_other_has_stopped(
    tmp_path: Path, store: HangingStore, file: Path
) -> None:
    with nats_server(tmp_path / "nats") as nats:
        async with serving(store, live=nats.url) as one, serving(store, live=nats.url) as other:
            async with collected(tmp_path, store, one, server=None, push=nats.url), following(one, NAME) as first:
                await first.until(b"first\n")
                write(file, b"for one\n")
                await first.until(b"for one\n", within=SOON)
                async with following(other, NAME) as second:
                    await second.until(b"first\nfor one\n", within=SOON)
                    write(file, b"for both\n")
                    await first.until(b"for both\n", within=SOON)
                    await second.until(b"for both\n", within=SOON)
                write(file, b"for one again\n")
                await first.until(b"for one again\n", within=SOON)
                assert first.got == file.read_bytes()
                assert second.got == b"first\nfor one\nfor both\n"
            assert await chunks(store) == [LogKeys(key(), NODE).chunk(NAME, 0, 0)], "at the end"


async def test_each_byte_comes_once_while_some_come_from_the_store(
    tmp_path: Path, store: HangingStore, file: Path
) -> None:
    soon = LogConfig(age=0.05, puts_per_second=1000.0)
    async with serving(store) as server, collected(tmp_path, store, server, how=soon), following(server, NAME) as it:
        for number in range(20):
            write(file, b"line %d, and some\n" % number * 10)
            await it.until(b"line %d, and some\n" % number)
        assert it.got == file.read_bytes()
        assert len(await chunks(store)) > 1


async def test_without_a_way_to_push_the_store_shows_it(tmp_path: Path, store: HangingStore, file: Path) -> None:
    soon = LogConfig(age=0.05, puts_per_second=1000.0)
    async with serving(store) as server, collecting(settings(tmp_path, logs=soon), store):
        await listed(server, NAME)
        async with following(server, NAME, interval=0.1) as it:
            await it.until(b"first\n")
            write(file, b"second\n")
            await it.until(b"second\n")
            file.rename(file.with_name(f"{NAME}.1"))
            write(file, b"of another file\n")
            await it.until(b"second\nof another file\n")


async def test_a_store_that_hangs_holds_up_no_line_not_even_over_a_rotation(
    tmp_path: Path, store: HangingStore, file: Path
) -> None:
    soon = LogConfig(age=0.05, puts_per_second=1000.0)
    async with (
        serving(store) as server,
        collected(tmp_path, store, server, how=soon),
        following(server, NAME, interval=0.1) as it,
    ):
        await it.until(b"first\n")
        store.answering = anyio.Event()
        for number in range(3):
            write(file, b"line %d\n" % number)
            await it.until(b"line %d\n" % number, within=SOON)
        file.rename(file.with_name(f"{NAME}.1"))
        write(file, b"of another file\n")
        await it.until(b"line 2\nof another file\n", within=3 * SOON)
        store.answering.set()
        write(file, b"last\n")
        await it.until(b"last\n", within=SOON)
        assert it.got == file.with_name(f"{NAME}.1").read_bytes() + file.read_bytes()


async def test_rotation_shows_the_rest_of_the_old_file_and_then_the_new_one(
    tmp_path: Path, store: HangingStore, file: Path
) -> None:
    async with serving(store) as server, collected(tmp_path, store, server), following(server, NAME) as it:
        await it.until(b"first\n")
        for number in range(3):
            write(file, b"last of %d, and no line end" % number)
            for older in range(number, 0, -1):
                file.with_name(f"{NAME}.{older}").rename(file.with_name(f"{NAME}.{older + 1}"))
            file.rename(file.with_name(f"{NAME}.1"))
            write(file, b"first of %d\n" % (number + 1))
            await it.until(b"last of %d, and no line endfirst of %d\n" % (number, number + 1), within=3 * SOON)
        whole = b"".join(file.with_name(f"{NAME}.{older}").read_bytes() for older in (3, 2, 1)) + file.read_bytes()
        assert it.got == whole


@pytest.mark.parametrize("longer", [False, True], ids=["shorter than before", "longer than before"])
async def test_a_truncated_file_is_followed_from_its_new_beginning(
    tmp_path: Path, store: HangingStore, file: Path, longer: bool
) -> None:
    async with serving(store) as server, collected(tmp_path, store, server), following(server, NAME) as it:
        write(file, b"before\n")
        await it.until(b"before\n")
        with file.open("r+b") as out:
            os.ftruncate(out.fileno(), 0)
            out.write(b"it began again, " * (20 if longer else 0) + b"x\n")
        now = file.read_bytes()
        await it.until(b"first\nbefore\n" + now, within=3 * SOON)
        write(file, b"after\n")
        await it.until(b"after\n", within=SOON)
        assert it.got == b"first\nbefore\n" + now + b"after\n"


async def test_a_progress_bar_and_a_line_without_end_are_shown(tmp_path: Path, store: HangingStore, file: Path) -> None:
    async with serving(store) as server, collected(tmp_path, store, server), following(server, NAME) as it:
        await it.until(b"first\n")
        write(file, b" 10 %\r 20 %\r")
        await it.until(b" 20 %\r", within=SOON)
        write(file, b"password? ")
        await it.until(b"password? ", within=SOON)
        assert it.got == file.read_bytes()


async def test_no_secret_is_shown(tmp_path: Path, store: HangingStore, file: Path) -> None:
    async with serving(store) as server, collected(tmp_path, store, server), following(server, NAME) as it:
        await it.until(b"first\n")
        write(
            file,
            b'{"runtime_env": {"env_vars": {"A": "secret-1", "B": "secret-2"}}}\n"env_vars": {\n  "A": "secret-3"\n}\n',
        )
        await it.until(b"\n}\n")
        assert b"secret" not in it.got
        assert b'"B": "********"' in it.got
        assert len(it.got) == file.stat().st_size


async def test_nothing_is_pushed_while_nobody_follows_and_no_more_when_nobody_does_any_more(
    tmp_path: Path, store: HangingStore, file: Path
) -> None:
    async with serving(store) as server, collected(tmp_path, store, server):
        tails = server.sessions.live.tails
        before = logs_pushed()
        write(file, b"for nobody\n")
        await two_more_words(server)
        assert logs_pushed() == before
        async with following(server, NAME) as it:
            await it.until(b"for nobody\n")
            assert logs_pushed() > before

        async def left() -> bool:
            return tails.count == 0 and tails.nbytes == 0

        await settled(left)
        await two_more_words(server)
        before = logs_pushed()
        write(file, b"for nobody either\n")
        await two_more_words(server)
        assert logs_pushed() == before


async def two_more_words(server: LiveServer) -> None:
    """Until the collector, which is asked for nothing, has said so much more."""
    (before,) = server.sessions.live.words(key()).values()

    async def spoke() -> bool:
        return server.sessions.live.words(key())[NODE] >= before + 2

    await settled(spoke)


async def test_a_cut_network_costs_no_byte_and_repeats_none(tmp_path: Path, store: HangingStore, file: Path) -> None:
    async with (
        serving(store) as server,
        cuttable(server.port) as network,
        collected(tmp_path, store, server, server=network.url),
        following(server, NAME) as it,
    ):
        await it.until(b"first\n")
        for number in range(3):
            network.cut()
            write(file, b"unheard %d\n" % number)
            await network.reset()
            network.heal()
            await it.until(b"unheard %d\n" % number)
        assert it.got == file.read_bytes()


async def test_a_collector_that_was_killed_goes_on_where_the_follower_is(tmp_path: Path, file: Path) -> None:
    store = FileStore(tmp_path / "store")
    arguments = [on_disk(tmp_path / "store"), tmp_path, tmp_path / "ray"]
    async with serving(store) as server:
        options = [f"--server={server.url}", f"--node-id={NODE}", "--no-poll", "--log-age=3600s"]
        programs = [await to_thread.run_sync(lambda: start_collector(*arguments, *options))]  # type: ignore[arg-type]
        try:
            await wait_heard(server)
            await listed(server, NAME)
            async with following(server, NAME) as it:
                await it.until(b"first\n")
                programs[-1].kill()
                write(file, b"while it was dead\n")
                port = programs[-1].port
                programs.append(
                    await to_thread.run_sync(lambda: start_collector(*arguments, *options, port=port))  # type: ignore[arg-type]
                )
                await it.until(b"while it was dead\n")
                write(file, b"and after\n")
                await it.until(b"and after\n", within=SOON)
                assert it.got == file.read_bytes()
        finally:
            for each in programs:
                each.end()


async def test_a_server_that_begins_again_shows_all_of_it_though_nothing_is_stored(
    tmp_path: Path, store: HangingStore, file: Path
) -> None:
    async with serving(store) as server, collected(tmp_path, store, server):
        async with following(server, NAME) as it:
            await it.until(b"first\n")
            await server.stop()
            await it.ended.wait()
        write(file, b"second\n")
        await server.start()
        await wait_heard(server)
        async with following(server, NAME) as it:
            await it.until(b"first\nsecond\n")
            write(file, b"third\n")
            await it.until(b"third\n", within=SOON)
            assert it.got == file.read_bytes()


async def test_the_answer_ends_with_the_session_and_all_of_it_was_sent(
    tmp_path: Path, store: HangingStore, file: Path
) -> None:
    async with (
        serving(store) as server,
        collected(tmp_path, store, server) as collector,
        following(server, NAME, interval=0.1) as it,
    ):
        await it.until(b"first\n")
        write(file, b"the last word, and no line end")
        collector.stop.set()
        with anyio.fail_after(20):
            await it.ended.wait()
        assert it.got == file.read_bytes()


async def test_no_more_logs_are_followed_than_may_be_and_who_leaves_makes_room(
    tmp_path: Path, store: HangingStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.logs.log_stream.MAX_FOLLOWED", 2)
    async with serving(store) as server, collected(tmp_path, store, server):
        async with following(server, NAME) as first, following(server, NAME) as second:
            with pytest.raises(AssertionError, match=r"503: .*2 logs are being followed"):
                async with following(server, NAME):
                    pass
            write(file, b"still\n")
            await first.until(b"still\n")
            await second.until(b"still\n")

        async def room() -> bool:
            try:
                async with following(server, NAME) as again:
                    await again.until(b"still\n")
            except AssertionError:
                return False
            return True

        await settled(room)

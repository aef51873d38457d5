"""Collector and server killed with SIGKILL while records flow: each record is in the index, in the answers and in the store once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from support.collecting import NODE, SESSION, RayFolder, key, settled
from support.livechannel import ask, post, posted, serving, total_tasks, wait_heard, witnessed
from support.processes import Program, both_in_one, on_disk, session_url, start_collector, start_server
from support.rayhead import fetch
from support.storecheck import stored_lines

from pipeline.stores.filestore import FileStore

pytestmark = pytest.mark.anyio

NOT_SEALED = "--segment-age=3600s"


class Collector:
    """The command, which can be killed and begun again on the same folders and port."""

    def __init__(self, root: Path, server: str, *options: str) -> None:
        self._root, self._options = root, [f"--server={server}", f"--node-id={NODE}", *options]
        self._begun: list[Program] = []
        RayFolder(root / "ray").begin()
        self.begin()

    @property
    def program(self) -> Program:
        return self._begun[-1]

    def begin(self) -> None:
        port = self.program.port if self._begun else None
        without = ["--no-logs", "--no-poll"]
        options = [*self._options, *without]
        self._begun.append(
            start_collector(on_disk(self._root / "store"), self._root, self._root / "ray", *options, port=port)
        )

    def end(self) -> None:
        for each in self._begun:
            each.end()


@contextmanager
def collector(root: Path, server: str, *options: str) -> Iterator[Collector]:
    it = Collector(root, server, *options)
    try:
        yield it
    finally:
        it.end()


@pytest.mark.parametrize("age", [NOT_SEALED, "--segment-age=50ms"])
async def test_a_collector_that_was_killed_repeats_nothing_and_leaves_nothing_out(tmp_path: Path, age: str) -> None:
    store = FileStore(tmp_path / "store")
    async with serving(store) as server:
        with collector(tmp_path, server.url, age) as it:
            await wait_heard(server)
            async with witnessed(server) as witness:
                for at in range(0, 30, 10):
                    await post(it.program.url, posted(range(at, at + 10)))
                    if at != 10:
                        await witness.until(2 * at + 20)
                    it.program.kill()
                    await to_thread.run_sync(it.begin)
                await post(it.program.url, posted(range(30, 40)))
                await witness.until(80)
                assert await total_tasks(server) == 40
                assert await to_thread.run_sync(it.program.stop) == 0
                reader = await server.sessions.open(key())
                assert {source: seen.end for (_, source), seen in reader.completeness.sources.items()} == {
                    source: end for (_, source), end in witness.ends.items()
                }
            assert len(await stored_lines(store, key())) == 80


async def test_a_server_that_was_killed_answers_with_every_record_once(tmp_path: Path) -> None:
    server = start_server(on_disk(tmp_path / "store"), tmp_path)
    port = server.port
    programs = [server]
    try:
        with collector(tmp_path, server.url, NOT_SEALED) as it:
            for at in range(0, 20, 10):
                await post(it.program.url, posted(range(at, at + 10)))
                await settled(lambda at=at: answered(programs[-1], 3 * at + 20))
                programs[-1].kill()
                await post(it.program.url, posted(range(100 + at, 105 + at)))
                programs.append(await to_thread.run_sync(restart, tmp_path, port))
                await settled(lambda at=at: answered(programs[-1], 3 * at + 30), within=30)
            assert await stored_lines(FileStore(tmp_path / "store"), key()) == []
            assert it.program.stop() == 0
        assert await answered(programs[-1], 60)
        assert len(await stored_lines(FileStore(tmp_path / "store"), key())) == 60
    finally:
        for each in programs:
            each.end()


def restart(root: Path, port: int) -> Program:
    return start_server(on_disk(root / "store"), root, port=port)


async def answered(program: Program, records: int) -> bool:
    """Whether the server has so many records; it never has more."""
    status, body = await to_thread.run_sync(fetch, f"{session_url(program, SESSION)}/completeness")
    if status != 200:
        return False
    found = json.loads(body)
    assert found["records"] <= records
    assert found["missing_bytes"] == 0
    return bool(found["records"] == records)


async def test_up_shows_news_before_they_are_sealed(tmp_path: Path) -> None:
    RayFolder(tmp_path / "ray").begin()
    with both_in_one(tmp_path, tmp_path / "ray", f"--node-id={NODE}", "--no-logs", "--no-poll", NOT_SEALED) as program:
        await settled(lambda: taking_posts(program))
        (taking,) = [line for line in program.log().splitlines() if "taking posts" in line]
        await post(f"http://127.0.0.1:{json.loads(taking)['port']}", posted(range(5)))
        await settled(lambda: answered(program, 10))
        assert list((tmp_path / "up" / "store").glob("**/*.jsonl.zst")) == []
        assert await to_thread.run_sync(program.stop) == 0
    assert len(await stored_lines(FileStore(tmp_path / "up" / "store"), key())) == 10


async def taking_posts(program: Program) -> bool:
    return "taking posts" in program.log()


async def test_a_session_whose_collector_died_has_what_was_pushed_last(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    async with serving(store) as server:
        with collector(tmp_path, server.url, NOT_SEALED) as it:
            await wait_heard(server)
            await post(it.program.url, posted(range(5)))

            async def pushed() -> bool:
                return (
                    sum(span.records for b in server.sessions.live.ring.batches(key()) for span in b.push.sources) == 10
                )

            await settled(pushed)
            it.program.kill()
            assert await stored_lines(store, key()) == []
            assert await total_tasks(server) == 5
            assert (await ask(server, "/completeness")).json()["records"] == 10
            with anyio.fail_after(10):
                assert (await server.sessions.resolve("default", "ray", "live")) == key()

"""Plain logs are in the store as they are on disk, whatever is done to the files and whenever the collector dies."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import anyio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.loggers import KEYS, Clock, content, follower, logs_folder, on_disk, shown

from pipeline.logs.logfiles import rebuilt
from pipeline.stores.store import MemoryStore

NAMES = ["raylet.out", "old/raylet.out", "raylet.out.1"]
name = st.sampled_from(NAMES)
word = st.sampled_from([b"a", b"b", b"c\n", b"long line %d\n" % 10**60])
text = st.builds(lambda word, times: word * times, word, st.sampled_from([1, 2, 3, 20, 40]))
then = st.sampled_from([0, 0, 1, 25, 25, 100])


class Logs(RuleBasedStateMachine):
    """Generated file actions against the plainest model there is: the disk itself."""

    def __init__(self) -> None:
        super().__init__()
        self.tmp = Path(tempfile.mkdtemp(prefix="logs"))
        self.folder = logs_folder(self.tmp)
        (self.folder / "old").mkdir()
        self.store = MemoryStore()
        self.clock = Clock()
        self.begin()

    def teardown(self) -> None:
        try:
            anyio.run(self.end)
        finally:
            shutil.rmtree(self.tmp)

    def begin(self) -> None:
        self.follower = follower(self.store, self.tmp, self.clock, chunk_bytes=64, age=10)
        anyio.run(self.follower.begin)

    async def end(self) -> None:
        """At the end of a session the store shows every file as it lies on disk."""
        while await self.follower.round(final=True):
            pass
        now, there = await shown(self.store), on_disk(self.folder)
        assert {name: now.get(name) for name in there} == there

    @rule(name=name, text=text, then=then)
    def append(self, name: str, text: bytes, then: int) -> None:
        with (self.folder / name).open("ab") as file:
            file.write(text)
        self.wait(then)

    @rule(name=name, then=then)
    def touch(self, name: str, then: int) -> None:
        (self.folder / name).touch()
        self.wait(then)

    @rule(name=name, to=name, then=then)
    def rename(self, name: str, to: str, then: int) -> None:
        if (self.folder / name).exists():
            (self.folder / name).rename(self.folder / to)
        self.wait(then)

    @rule(name=name, then=then)
    def rotate(self, name: str, then: int) -> None:
        if (self.folder / name).exists():
            (self.folder / name).rename(self.folder / f"{name}.1")
            (self.folder / name).touch()
        self.wait(then)

    @rule(name=name, to=name, then=then)
    def copy_and_truncate(self, name: str, to: str, then: int) -> None:
        if (self.folder / name).exists() and name != to:
            shutil.copyfile(self.folder / name, self.folder / to)
            (self.folder / name).write_bytes(b"")
        self.wait(then)

    @rule(name=name, keep=st.integers(0, 100), then=then)
    def truncate(self, name: str, keep: int, then: int) -> None:
        if (self.folder / name).exists():
            with (self.folder / name).open("r+b") as file:
                file.truncate(min(keep, (self.folder / name).stat().st_size))
        self.wait(then)

    @rule(name=name, text=text, then=then)
    def overwrite(self, name: str, text: bytes, then: int) -> None:
        (self.folder / name).write_bytes(text)
        self.wait(then)

    @rule(name=name, text=text, then=then)
    def replace(self, name: str, text: bytes, then: int) -> None:
        (self.folder / "new").write_bytes(text)
        (self.folder / "new").rename(self.folder / name)
        self.wait(then)

    @rule(name=name, then=then)
    def delete(self, name: str, then: int) -> None:
        (self.folder / name).unlink(missing_ok=True)
        self.wait(then)

    def wait(self, seconds: int) -> None:
        """Time passes, and the follower looks at both its ends; with 0 it sees nothing of what was done."""
        if seconds:
            anyio.run(self.follower.round)
            self.clock.now += seconds
            anyio.run(self.follower.round)

    @rule()
    def crash_and_restart(self) -> None:
        self.begin()

    @rule()
    def stop_and_restart(self) -> None:
        anyio.run(self.end)
        self.begin()

    @rule()
    def lose_the_list(self) -> None:
        anyio.run(self.store.delete, KEYS.list)
        self.begin()

    @invariant()
    def chunks_follow_on_one_another(self) -> None:
        anyio.run(self.check_chunks)

    async def check_chunks(self) -> None:
        names = [found for info in await self.store.list(KEYS.prefix) if (found := KEYS.parse(info.key))]
        for entry in rebuilt(names).files:
            await content(self.store, entry)


Logs.TestCase.settings = settings(
    max_examples=150, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLogs = Logs.TestCase

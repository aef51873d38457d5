"""Any order of posts, lost answers, failing disks, kills, restarts and releases: what was answered is there once.

The model is Ray's sender: one post at a time for each session, repeated until it hears an answer.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.posted import body, line, spooled

from pipeline.errors import Full
from pipeline.receive import spool_files
from pipeline.receive.post import split_post
from pipeline.receive.spool import Spool

SESSIONS = ["session_a", "session_b"]
SIZE = len(line(1))


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.data_dir = Path(tempfile.mkdtemp(prefix="spool-model-"))
        self.now = 10**18
        self.next = 0
        self.unheard: dict[str, list[int]] = {}
        self.answered: dict[str, set[int]] = {name: set() for name in SESSIONS}
        self.released: dict[Path, list[int]] = {}
        self.shipped: dict[str, list[int]] = {name: [] for name in SESSIONS}
        self.start()

    def start(self) -> None:
        self.spool = Spool(
            self.data_dir, limit_bytes=200 * SIZE, file_bytes=5 * SIZE, window=50, time_ns=lambda: self.now
        )

    def post(self, session: str, count: int) -> list[int] | None:
        """Send what wasn't heard of, or something new; None where it was refused."""
        if session not in self.unheard:
            self.unheard[session] = list(range(self.next, self.next + count))
            self.next += count
        numbers = self.unheard[session]
        try:
            result = self.runner.run(self.spool.append(split_post(body(numbers, session)).records, []))
        except Full:
            return None
        assert result.accepted + result.duplicates == len(numbers)
        self.answered[session].update(numbers)
        return numbers

    @rule(session=st.sampled_from(SESSIONS), count=st.integers(1, 8), heard=st.booleans(), later=st.integers(-5, 10))
    def posts(self, session: str, count: int, heard: bool, later: int) -> None:
        self.now += later * 10**9
        if self.post(session, count) is not None and heard:
            del self.unheard[session]

    @rule(session=st.sampled_from(SESSIONS), count=st.integers(1, 8), written=st.integers(0, 4 * SIZE))
    def posts_to_a_full_disk(self, session: str, count: int, written: int) -> None:
        real, room = os.write, written

        def write(fd: int, data: Any) -> int:
            nonlocal room
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            done = real(fd, bytes(data)[:room])
            room -= done
            return done

        with patch.object(spool_files.os, "write", write):
            self.post(session, count)

    @rule(session=st.sampled_from(SESSIONS), count=st.integers(1, 8))
    def posts_to_a_failing_disk(self, session: str, count: int) -> None:
        with patch.object(spool_files.os, "fsync", side_effect=OSError(errno.EIO, "Input/output error")):
            self.post(session, count)

    @rule(session=st.sampled_from(SESSIONS), count=st.integers(1, 8), written=st.integers(0, 8 * SIZE))
    def is_killed_while_it_writes(self, session: str, count: int, written: int) -> None:
        """As much of a post as got into a file, and nobody answered."""
        if session not in self.unheard:
            self.unheard[session] = list(range(self.next, self.next + count))
            self.next += count
        self.see_what_is_gone()
        known = {*spooled(self.data_dir, session), *self.shipped[session]}
        new = [number for number in self.unheard[session] if number not in known]
        data = b"".join(line(number, session) + b"\n" for number in new)
        folder = self.data_dir / "spool" / session
        folder.mkdir(parents=True, exist_ok=True)
        last = max((int(path.name.partition("-")[0]) for path in folder.glob("*.jsonl")), default=self.now)
        (folder / f"{last + 1:020d}-1.jsonl").write_bytes(data[:written])
        self.start()

    @rule()
    def is_restarted(self) -> None:
        self.start()

    @rule()
    def all_is_shipped(self) -> None:
        """As the collector does: whole files that are not being appended to."""
        for session in self.spool.sessions():
            for path in sorted((self.data_dir / "spool" / session).iterdir()):
                if path.suffix == ".jsonl" and path.name != self.spool.active(session) and path.exists():
                    self.released[path] = self.numbers(path)
                    self.spool.release(session, path.name)

    def numbers(self, path: Path) -> list[int]:
        whole = self.data_dir / "one" / "spool" / "x"
        whole.mkdir(parents=True)
        shutil.copy(path, whole)
        found = spooled(whole.parents[1], "x")
        shutil.rmtree(self.data_dir / "one")
        return found

    def see_what_is_gone(self) -> None:
        for path in [path for path in self.released if not path.exists()]:
            self.shipped[path.parent.name] += self.released.pop(path)

    @invariant()
    def what_was_answered_is_there_once(self) -> None:
        self.see_what_is_gone()
        for session in SESSIONS:
            there = [*self.shipped[session], *spooled(self.data_dir, session)]
            assert self.answered[session] <= set(there)
            assert len(there) == len(set(there)), "twice"

    @invariant()
    def what_is_counted_is_what_is_used(self) -> None:
        used = sum(path.stat().st_size for path in (self.data_dir / "spool").rglob("*.json*"))
        assert self.spool.used_bytes == used <= 200 * SIZE

    def teardown(self) -> None:
        self.runner.close()
        shutil.rmtree(self.data_dir)


SpoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSpoolModel = SpoolMachine.TestCase

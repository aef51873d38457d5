"""Whatever is done to a file, each whole line comes out of it once; only what was destroyed unread may be missing.

Generated actions against a model. The allowance, exactly: a line may be missing if, when its last copy on
disk was truncated or deleted, it had not been committed. A line written with the same bytes more than once
(``HEAD``, the first line of some files) comes out at most as often as it was written, at least once if any.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.read.places import Place
from pipeline.read.source import EXPORT_EVENTS
from pipeline.read.tail import Lines, Long, Tailer
from pipeline.segments.batch import Gap
from pipeline.segments.cursor import Cursor
from pipeline.segments.segment import Header, Span

HEAD = b'{"file": "begins"}\n'
LINE_LIMIT = 200
SMALL = {"CHUNK": 64, "LINE_LIMIT": LINE_LIMIT, "SEARCH": 256}


styles = st.sampled_from(["a.{}.log", "a.log.{}"])  # spdlog's and Python's names for rotated files


class Model:
    """What was written, where it lies, what may be missing."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.written: list[bytes] = []
        self.may: set[bytes] = set()

    def append(self, name: str, data: bytes) -> None:
        before = self.files.get(name, b"")
        self.files[name] = before + data
        self.written += lines(before[before.rfind(b"\n") + 1 :] + data)

    def destroy(self, name: str, committed: Counter[bytes]) -> None:
        gone = lines(self.files.pop(name))
        left = {line for data in self.files.values() for line in lines(data)}
        self.may |= {line for line in gone if line not in left and not committed[line]}


def lines(data: bytes) -> list[bytes]:
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


class FileActions(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.patch = mock.patch.multiple("pipeline.read.tail", **SMALL)
        self.patch.start()
        self.root = Path(tempfile.mkdtemp(prefix="actions"))
        self.places = [Place(EXPORT_EVENTS, self.root, ())]
        self.model = Model()
        self.number = 0
        self.half = b""
        self.cursor = Cursor()
        self.stored: Counter[bytes] = Counter()
        self.pending: list[Lines | Long] = []
        self.tailer = Tailer(self.places, {})

    def teardown(self) -> None:
        if not hasattr(self, "root"):
            return
        try:
            self.drain()
            self.commit()
            self.check_all()
        finally:
            self.patch.stop()
            shutil.rmtree(self.root)

    # Ray's side

    def unique(self, size: int) -> bytes:
        self.number += 1
        return f'{{"n": {self.number}, "pad": "{"p" * size}", "id": {self.number}}}\n'.encode()

    def put(self, name: str, data: bytes) -> None:
        with (self.root / name).open("ab") as out:
            out.write(data)
        self.model.append(name, data)

    @rule(
        count=st.integers(1, 6),
        size=st.sampled_from([0, 0, 10, 60, 300, 900]),
        name=st.sampled_from(["a.log", "a.log", "b.log"]),
    )
    def write(self, count: int, size: int, name: str) -> None:
        half, self.half = (self.half, b"") if name == "a.log" else (b"", self.half)
        self.put(name, half + b"".join(self.unique(size if n == 0 else 0) for n in range(count)))

    @rule(size=st.sampled_from([0, 40, 400]))
    def half_write(self, size: int) -> None:
        if not self.half:
            whole = self.unique(size)
            cut = len(whole) // 2
            self.put("a.log", whole[:cut])
            self.half = whole[cut:]

    @rule()
    def begin_with_head(self) -> None:
        if not self.model.files.get("a.log"):
            self.put("a.log", HEAD)

    def shift(self, style: str) -> str:
        """Make room for the first rotated name, the older ones move up; the fourth is deleted, as Ray does."""
        names = [style.format(n) for n in range(1, 5)]
        if names[-1] in self.model.files:
            self.delete(names[-1])
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer in self.model.files:
                (self.root / newer).rename(self.root / older)
                self.model.files[older] = self.model.files.pop(newer)
        return names[0]

    @rule(style=styles)
    def rotate(self, style: str) -> None:
        if "a.log" in self.model.files:
            self.put("a.log", self.half)
            self.half = b""
            to = self.shift(style)
            (self.root / "a.log").rename(self.root / to)
            self.model.files[to] = self.model.files.pop("a.log")

    @rule(style=styles, look_between=st.booleans(), partly=st.booleans(), restart=st.booleans())
    def copy_truncate(self, style: str, look_between: bool, partly: bool, restart: bool) -> None:
        if self.model.files.get("a.log"):
            data = (self.root / "a.log").read_bytes()
            to = self.shift(style)
            if partly:
                (self.root / to).write_bytes(data[: len(data) // 2])
                if restart:
                    self.crash_and_restart()
                self.take(1 << 20)
            (self.root / to).write_bytes(data)
            self.model.files[to] = data
            if look_between:
                self.take(100)
            self.truncate()

    @rule()
    def rewrite(self) -> None:
        """Truncated and at once as long as before: neither size nor time need tell."""
        size = len(self.model.files.get("a.log", b""))
        if size > 2 * len(self.unique(0)):
            self.truncate()
            self.put("a.log", self.unique(size - len(self.unique(0))))

    @rule()
    def truncate(self) -> None:
        if "a.log" in self.model.files:
            (self.root / "a.log").write_bytes(b"")
            self.half = b""
            self.model.destroy("a.log", self.stored)
            self.model.files["a.log"] = b""

    @rule(name=st.sampled_from(["a.log", "b.log", "a.1.log", "a.log.1", "a.2.log"]))
    def delete(self, name: str) -> None:
        if name in self.model.files:
            (self.root / name).unlink()
            self.half = b"" if name == "a.log" else self.half
            self.model.destroy(name, self.stored)

    # our side

    @rule(budget=st.sampled_from([1, 100, 1000, 1 << 20]))
    def read(self, budget: int) -> None:
        self.take(budget)

    def take(self, budget: int) -> bool:
        round_ = self.tailer.read(budget)
        for item in round_.items:
            if isinstance(item, Long):
                data = self.tailer.slice(item.source, item.start, item.end)
                assert len(data) == item.end - item.start > LINE_LIMIT
                assert data.endswith(b"\n")
                assert data.count(b"\n") == 1
                self.kept = data
                item = Lines(item.source, item.dialect, item.start, item.end, data, item.tail)
            if not isinstance(item, Gap):
                self.pending.append(item)
        return round_.more

    @rule()
    def drain(self) -> None:
        while self.take(1 << 20):
            pass

    @rule()
    def commit(self) -> None:
        spans = [Span(i.source, i.dialect, i.start, i.end, 0, i.tail) for i in self.pending if isinstance(i, Lines)]
        header = Header("n", "c", "s", "node", self.cursor.seq + 1, spans)
        self.cursor.commit(header)
        for item in self.pending:
            assert isinstance(item, Lines)
            assert len(item.data) == item.end - item.start
            self.stored.update(lines(item.data))
        self.pending = []

    @rule()
    def drain_and_commit(self) -> None:
        self.drain()
        self.commit()

    @rule()
    def crash_and_restart(self) -> None:
        self.pending = []
        self.tailer = Tailer(self.places, self.cursor.sources)

    # what must hold

    @invariant()
    def nothing_twice(self) -> None:
        written = Counter(self.model.written) if hasattr(self, "model") else Counter()
        more = {line: n for line, n in getattr(self, "stored", Counter()).items() if n > written[line]}
        assert not more

    def check_all(self) -> None:
        missing = {line for line in self.model.written if not self.stored[line]} - self.model.may
        assert not missing
        self.nothing_twice()


FileActions.TestCase.settings = settings(
    max_examples=400, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestEveryWholeLineComesOutOnceWhateverIsDoneToTheFiles = pytest.mark.timeout(300)(FileActions.TestCase)

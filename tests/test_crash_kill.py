"""SIGKILL, at every named point and at any moment, while Ray writes and posts: every record is stored exactly once."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from support.collecting import POINTS, RayFolder, append, event, key, line
from support.storecheck import stored_lines

from pipeline.stores.filestore import FileStore

TESTS = Path(__file__).resolve().parent


class Process:
    """A collector process and what stands below its root."""

    def __init__(self, root: Path, where: str = "-") -> None:
        self.root = root
        (root / "port").unlink(missing_ok=True)
        with (root / "collector.log").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "support.collector_process", str(root), where],
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
            )

    @property
    def port(self) -> int | None:
        try:
            return int((self.root / "port").read_text())
        except FileNotFoundError:
            return None

    def wait(self, within: float = 40) -> int:
        return self.process.wait(within)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop_when_up(self) -> int:
        until(lambda: self.port)
        return self.stop()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(where: str = "-") -> Process:
        started.append(Process(tmp_path, where))
        return started[-1]

    yield begin
    for each in started:
        if each.process.poll() is None:
            each.kill()


def until(condition: Callable[[], object], within: float = 40) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def post(process: Process, numbers: range) -> bool:
    """Whether it was answered 200: until it is, Ray posts the same again."""
    port = process.port
    if port is None:
        return False
    try:
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/events", json=[event(n) for n in numbers], timeout=3)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


def stored(root: Path) -> Counter[bytes]:
    return Counter(anyio.run(stored_lines, FileStore(root / "store"), key()))


def identity(each: bytes) -> bytes:
    return json.loads(each)["eventId"].encode() if b"eventId" in each else each


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_and_started_again(tmp_path: Path, start: Callable[..., Process], point: str) -> None:
    ray = RayFolder(tmp_path / "ray")
    ray.begin()
    for n in range(3):  # a segment each
        append(ray.export(name=f"event_EXPORT_TASK_{n}.log"), *[line(each, size=100, of=f"{n}") for each in range(50)])
    first = start(f"{point}:2")
    if point == "released":  # only what another process has written is released
        until(lambda: first.port)
        assert post(first, range(10))
        first.kill()
        first = start(f"{point}:1")
    assert first.wait() == -signal.SIGKILL
    if point in ("put", "released"):
        shutil.rmtree(tmp_path / "data" / "checkpoints", ignore_errors=True)
    append(ray.export(name="event_EXPORT_TASK_0.log"), line(50, size=100, of="0"))
    assert start().stop_when_up() == 0
    expected = [line(each, size=100, of=f"{n}") for n in range(3) for each in range(50)] + [line(50, size=100, of="0")]
    expected += [b"id-%d" % n for n in range(10 if point == "released" else 0)]
    assert Counter(map(identity, stored(tmp_path).elements())) == Counter(expected)


@pytest.mark.timeout(240)
def test_killed_at_any_moment_while_ray_writes_and_posts(tmp_path: Path, start: Callable[..., Process]) -> None:
    chance = random.Random(20260116)
    ray = RayFolder(tmp_path / "ray")
    ray.begin()
    current: list[Process] = [start()]
    over = threading.Event()
    written: list[bytes] = []
    taken: list[int] = []

    def write() -> None:
        while not over.wait(0.003):
            number = len(written)
            append(ray.export(), line(number, size=number % 50))
            written.append(line(number, size=number % 50))
            if number % 400 == 399:  # Ray rotates
                ray.export().rename(ray.export(name=f"event_EXPORT_TASK_1.{number}.log"))

    def post_for_ever() -> None:
        number = 0
        while not over.is_set():
            if post(current[0], range(number, number + 5)):
                taken.extend(range(number, number + 5))
                number += 5
            over.wait(0.01)

    threads = [threading.Thread(target=write), threading.Thread(target=post_for_ever)]
    for thread in threads:
        thread.start()
    try:
        for kill in range(20):
            until(lambda: current[0].port)
            time.sleep(chance.uniform(0, 0.5))
            current[0].kill()
            if kill % 4 == 3:
                shutil.rmtree(tmp_path / "data" / "checkpoints", ignore_errors=True)
            current[0] = start()
        until(lambda: current[0].port)
        assert taken
    finally:
        over.set()
        for thread in threads:
            thread.join()
    ended = current[0].stop()
    assert ended == 0, (tmp_path / "collector.log").read_text()[-4000:]
    found = Counter(map(identity, stored(tmp_path).elements()))
    assert {each: n for each, n in found.items() if n > 1} == {}
    assert [each for each in written if not found[each]] == []
    assert [number for number in taken if not found[b"id-%d" % number]] == []

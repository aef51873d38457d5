"""How long it takes from a record that Ray writes or posts to those who follow the session: ``python -m bench.live_stream``.

Four processes as in life: a writer that keeps its pace, the collector command, the server command, and subscribers, each
with an event stream of its own over HTTP. Records are those of a recorded session with other ids. Clocks agree because
they are one machine's; time runs from before the write, or before the post begins, to the bytes' arrival.

Every subscriber must have been told of every change, once. The first few parse what they get and give the times; the
others only count, so that the clients leave processor to what is measured.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import click  # noqa: E402
from support.captures import DATA, posts, session_name  # noqa: E402
from support.processes import Program, collector, on_disk, server  # noqa: E402
from support.rayhead import until  # noqa: E402

from bench.generate import templates  # noqa: E402
from bench.templates import Attempt, Worker  # noqa: E402

NODE = "a1" * 28
WRITES = 50  # a second
PARSED = 10
SETTLED = 2.0
"""Seconds until a collector that has just found a session watches its folders; until then it looks once a second."""
MB = 1_000_000
_TOLD = re.compile(rb'"task_id":"([0-9a-f]{48})","attempt_number":0,"state":"([A-Z_]+)"')

Key = tuple[str, str]
Records = Iterator[tuple[bytes, list[Key]]]


class Found(NamedTuple):
    """What one run took. ``waited``: seconds, sorted; ``cpu``: processor seconds a second, of each process."""

    how: str
    records: int
    events: int
    subscribers: int
    seconds: float
    waited: list[float]
    received: int
    cpu: dict[str, float]
    rss: int

    def at(self, share: float) -> float:
        return self.waited[min(int(len(self.waited) * share), len(self.waited) - 1)]


# -- what is written ---------------------------------------------------------------------------


def posted_records(session: str) -> Records:
    """Events as Ray posts them, and the changes each tells of: five an attempt, those of 50 attempts mixed."""
    recorded = DATA / "posted"
    made = templates([event for body in posts(recorded) for event in json.loads(body)])[False]
    chance, start = random.Random(1), time.time_ns()
    for block in itertools.count():
        mixed = []
        for number in range(block * 50, block * 50 + 50):
            task = number.to_bytes(8, "big") + b"\xff" * 12 + bytes.fromhex("02000000")
            attempt = Attempt(task, 0, "step", Worker(number.to_bytes(28, "big"), 100), start)
            mixed += [(made[at].render(attempt, chance).encode(), task.hex(), made[at]) for at in range(5)]
        chance.shuffle(mixed)
        for text, task_id, _ in mixed:
            states = re.findall(r'"state": "([A-Z_]+)"', text.decode())
            yield text, [(task_id, state) for state in states]


def exported_records(session: str) -> Records:
    """Lines as Ray's export API writes them."""
    lines = [
        line
        for file in sorted((DATA / "export" / "logs" / "export_events").glob("event_EXPORT_TASK_*.log"))
        for line in file.read_bytes().splitlines(keepends=True)
    ]
    said = [(line, json.loads(line)["event_data"]) for line in lines]
    of_leaf = next(data["task_id"] for _, data in said if data.get("task_info", {}).get("func_or_class_name") == "leaf")
    own = [(line, data) for line, data in said if data["task_id"] == of_leaf]
    numbers = {str(number): name for number, name in enumerate(_states())}
    for number in itertools.count():
        task = number.to_bytes(8, "big") + b"\xff" * 12 + bytes.fromhex("02000000")
        as_text = base64.b64encode(task)
        for line, data in own:
            times = (data.get("state_updates") or {}).get("state_ts_ns") or {}
            yield line.replace(of_leaf.encode(), as_text), [(task.hex(), numbers[state]) for state in times]


def _states() -> tuple[str, ...]:
    from pipeline.events import TASK_STATUS

    return TASK_STATUS


def write(how: str, target: str, rate: int, seconds: float) -> list[tuple[float, list[Key]]]:
    """Keep the pace; when each write began, and what it told of."""
    session = session_name(DATA / "posted")
    records = posted_records(session) if how == "post" else exported_records(session)
    put = _poster(target) if how == "post" else _appender(target)
    done: list[tuple[float, list[Key]]] = []
    written, begin = 0, time.monotonic()
    while written < rate * seconds:
        due = int((time.monotonic() - begin) * rate)
        if due > written:
            batch = list(itertools.islice(records, due - written))
            at = time.monotonic()
            put([line for line, _ in batch])
            done.append((at, [key for _, keys in batch for key in keys]))
            written = due
        time.sleep(1 / WRITES)
    return done


def _appender(target: str) -> Callable[[list[bytes]], None]:
    out = Path(target).open("ab", buffering=0)  # noqa: SIM115

    def put(lines: list[bytes]) -> None:
        for line in lines:  # Ray flushes each line
            out.write(line)

    return put


def _poster(target: str) -> Callable[[list[bytes]], None]:
    import http.client
    from urllib.parse import urlsplit

    client = http.client.HTTPConnection(str(urlsplit(target).netloc))

    def put(events: list[bytes]) -> None:
        body = b"[" + b", ".join(events) + b"]"
        client.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
        answer = client.getresponse()
        answer.read()
        if answer.status != 200:
            raise AssertionError(f"the collector answered {answer.status}")

    return put


# -- who follows -------------------------------------------------------------------------------


class Subscriber(asyncio.Protocol):
    """One event stream. ``times``: of the changes that it was told of, where it looks."""

    def __init__(self, path: str, looks: bool) -> None:
        self.path, self.looks = path, looks
        self.times: dict[Key, float] = {}
        self.events = 0
        self.bytes = 0
        self.repeated = 0
        self.started = False
        self.lost = False
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(f"GET {self.path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self.bytes += len(data)
        data = self._rest + data
        cut = data.rfind(b"\n\n")
        whole, self._rest = (data[:cut], data[cut:]) if cut >= 0 else (b"", data)
        self.started = self.started or b"event: session" in whole
        self.events += whole.count(b"\nevent: task\n")
        if self.looks:
            for task_id, state in _TOLD.findall(whole):
                key = task_id.decode(), state.decode()
                self.repeated += key in self.times
                self.times.setdefault(key, now)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Hanging(Subscriber):
    """One that reads its first bytes and no more."""

    def data_received(self, data: bytes) -> None:
        self.started = True
        self.transport.pause_reading()


async def follow(url: str, count: int, hanging: int, ready: Path, goal: Path) -> dict[str, Any]:
    """Follow with ``count`` streams until each has as many events as ``goal`` says once it is there, beside ``hanging``."""
    loop = asyncio.get_running_loop()
    address, _, path = url.removeprefix("http://").partition("/")
    host, port = address.split(":")
    streams = [Subscriber(f"/{path}", number < PARSED) for number in range(count)]
    beside = [Hanging(f"/{path}", False) for _ in range(hanging)]
    for stream in [*streams, *beside]:
        await loop.create_connection(lambda stream=stream: stream, host, int(port))  # type: ignore[misc]
    await _settled(lambda: all(stream.started for stream in [*streams, *beside]))
    await asyncio.to_thread(ready.touch)
    await _settled(goal.exists)
    wanted = int(await asyncio.to_thread(goal.read_text))
    await _settled(lambda: all(stream.events >= wanted for stream in streams), 15)
    return {
        "events": [stream.events for stream in streams],
        "lost": sum(stream.lost for stream in streams),
        "repeated": sum(stream.repeated for stream in streams),
        "bytes": sum(stream.bytes for stream in streams),
        "times": [[[*key, at] for key, at in stream.times.items()] for stream in streams[:PARSED]],
    }


async def _settled(condition: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


# -- all together ------------------------------------------------------------------------------


def measure(how: str, folder: Path, rate: int, seconds: float, subscribers: int, hanging: int = 0) -> Found:
    """One run."""
    session = session_name(DATA / "posted")
    logs = folder / "ray" / session / "logs"
    (logs / "export_events").mkdir(parents=True)
    (folder / "ray" / "session_latest").symlink_to(folder / "ray" / session)
    store = on_disk(folder / "store")
    with server(store, folder) as serving:
        options = [f"--server={serving.url}", f"--node-id={NODE}", "--no-logs", "--no-poll"]
        with collector(store, folder, folder / "ray", *options) as collecting:
            url = f"{serving.url}/sessions/default/ray/{session}/live?kind=task"
            target = f"http://127.0.0.1:{collecting.port}/v1/events"
            if how == "file":
                target = str(logs / "export_events" / "event_EXPORT_TASK_1.log")
            until(lambda: session in _get(f"{serving.url}/clusters"), "the session", timeout=30)
            ready, goal = folder / "ready", folder / "goal"
            clients = _start("--follow", url, str(subscribers), str(hanging), str(ready), str(goal))
            try:
                until(ready.exists, "the subscribers", timeout=60)
            except BaseException:
                clients.kill()
                raise
            time.sleep(SETTLED)
            before = {name: program.cpu_seconds() for name, program in (("server", serving), ("collector", collecting))}
            began = time.monotonic()
            wrote = json.loads(_finish(_start("--write", how, target, str(rate), str(seconds))))
            took = time.monotonic() - began
            keys = {tuple(key): at for at, told in wrote for key in told}
            cpu = {
                name: (program.cpu_seconds() - before[name]) / took
                for name, program in (("server", serving), ("collector", collecting))
            }
            goal.with_suffix(".new").write_text(str(len(keys)))
            goal.with_suffix(".new").rename(goal)
            heard = json.loads(_finish(clients))
            return _found(how, int(rate * seconds), keys, heard, subscribers, seconds, cpu, serving)


def _found(
    how: str,
    records: int,
    keys: dict[Any, float],
    heard: dict[str, Any],
    subscribers: int,
    seconds: float,
    cpu: dict[str, float],
    serving: Program,
) -> Found:
    told = set(heard["events"])
    if told != {len(keys)} or heard["repeated"] or heard["lost"]:
        raise AssertionError(
            f"{len(keys)} changes were written, subscribers were told of {sorted(told)}; {heard['repeated']} repeated,"
            f" {heard['lost']} connections lost\n{serving.log()[-2000:]}"
        )
    waited = sorted(at - keys[task, state] for times in heard["times"] for task, state, at in times)
    return Found(how, records, len(keys), subscribers, seconds, waited, heard["bytes"], cpu, serving.peak_rss())


def _start(*arguments: str) -> Any:
    import subprocess

    return subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)


def _finish(process: Any) -> bytes:
    out, _ = process.communicate(timeout=600)
    if process.returncode:
        raise AssertionError(f"a part of the benchmark ended with {process.returncode}")
    return bytes(out)


def _get(url: str) -> str:
    from support.rayhead import fetch

    return fetch(url)[1].decode()


def report(found: Found) -> str:
    """One line of the table."""
    figures = " ".join(f"{found.at(share) * 1000:>8.1f}" for share in (0.5, 0.9, 0.99, 1.0))
    used = " ".join(f"{found.cpu[name] * 100:>8.0f} %" for name in ("server", "collector"))
    return (
        f"{found.how:<6} {found.records / found.seconds:>9,.0f} {found.events / found.seconds:>9,.0f}"
        f" {found.subscribers:>6} {found.received / found.seconds / MB:>7.1f} {figures} {used} {found.rss / MB:>7.0f} MB"
    )


HEADING = (
    f"{'':<6} {'records/s':>9} {'events/s':>9} {'subs':>6} {'MB/s':>7} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8}"
    f" {'most':>8} {'server':>10} {'collector':>10} {'memory':>10}"
)


@click.command()
@click.option("--rate", default=1000, show_default=True, help="Records a second.")
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--subscribers", default="100", show_default=True, help="How many follow, one run for each.")
@click.option("--hanging", default=0, show_default=True, help="How many more connect and read nothing.")
@click.option("--how", default="file,post", show_default=True)
@click.option("--write", "writing", nargs=4, hidden=True, default=None)
@click.option("--follow", "following", nargs=5, hidden=True, default=None)
def main(
    rate: int,
    seconds: float,
    subscribers: str,
    hanging: int,
    how: str,
    writing: tuple[str, str, str, str] | None,
    following: tuple[str, str, str, str, str] | None,
) -> None:
    """Print how long changes are on their way to those who follow, written to a file and posted."""
    if writing is not None:
        click.echo(json.dumps(write(writing[0], writing[1], int(writing[2]), float(writing[3]))))
    elif following is not None:
        import uvloop

        url, count, hung, ready, goal = following
        click.echo(json.dumps(uvloop.run(follow(url, int(count), int(hung), Path(ready), Path(goal)))))
    else:
        click.echo(HEADING)
        for count in map(int, subscribers.split(",")):
            for each in how.split(","):
                with tempfile.TemporaryDirectory(prefix="live-") as folder:
                    click.echo(report(measure(each, Path(folder), rate, seconds, count, hanging)))


if __name__ == "__main__":
    main()

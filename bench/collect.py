"""What a collector takes in: a real process, posted to over HTTP as Ray posts, until all of it is in the store."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from support.processes import Program, start_collector
from support.rayhead import until

from bench.generate import Generated
from bench.stores import Place


class Collected(NamedTuple):
    """Seconds are wall clock from the first post, but ``cpu``: processor's; ``latencies`` are the posts', in order."""

    connections: int
    posted: float
    stored: float
    stopped: float
    cpu: float
    latencies: list[float]
    peak_rss: int
    stored_bytes: int
    segments: int


def collect(generated: Generated, place: Place, folder: Path, *, connections: int = 1) -> Collected:
    """Post all of it to a new collector, wait until the store holds every record, then SIGTERM it."""
    ray_tmp = folder / "ray"
    ray_tmp.mkdir(parents=True)
    program = start_collector(place.options, folder, ray_tmp, environment=place.environment)
    try:
        begin = time.perf_counter()
        latencies = post_all(generated.path, program, connections)
        posted = time.perf_counter() - begin
        until(lambda: place.records() >= generated.records, "every record in the store", timeout=600, pause=0.1)
        stored = time.perf_counter() - begin
        cpu, peak = program.cpu_seconds(), program.peak_rss()
        code = program.stop()
        stopped = time.perf_counter() - begin
        if code != 0:
            raise AssertionError(f"the collector ended with {code}:\n{program.log()[-3000:]}")
    finally:
        program.end()
    records = place.records()
    if records != generated.records:
        raise AssertionError(f"posted {generated.records} records, the store has {records}")
    return Collected(connections, posted, stored, stopped, cpu, latencies, peak, place.size(), place.segments())


def post_all(path: Path, program: Program, connections: int) -> list[float]:
    """Ray's sender: a post at a time on a connection it keeps, here on ``connections`` of them at once; each post's seconds."""
    latencies: list[float] = []
    lock = threading.Lock()
    failures: list[BaseException] = []
    with path.open("rb") as lines:

        def send() -> None:
            try:
                with connection(program.port) as client:
                    while body := _next_line(lines, lock):
                        latencies.append(_post(client, body))
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=send) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return latencies


@contextmanager
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        yield client
    finally:
        client.close()


def decode_only(path: Path) -> tuple[float, float]:
    """Seconds, and of them processor's, that the standard library takes to decode the same bytes: what to compare other machines by."""
    begin, used = time.perf_counter(), time.process_time()
    with path.open("rb") as lines:
        for line in lines:
            json.loads(line)
    return time.perf_counter() - begin, time.process_time() - used


def _next_line(lines: Iterator[bytes], lock: threading.Lock) -> bytes:
    with lock:
        return next(lines, b"")


def _post(client: http.client.HTTPConnection, body: bytes) -> float:
    """Post until it is taken: a 503 is an answer Ray repeats after."""
    begin = time.perf_counter()
    while True:
        client.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
        answer = client.getresponse()
        answer.read()
        if answer.status == 200:
            return time.perf_counter() - begin
        if answer.status != 503:
            raise AssertionError(f"the collector answered {answer.status}")
        time.sleep(0.01)

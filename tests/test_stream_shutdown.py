"""A server that is told to stop ends its streams and goes, whoever reads them or doesn't; its clients come back to the next."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from anyio import to_thread
from support.captures import DATA
from support.processes import Program, on_disk, server, start_server
from support.recorded_store import put_recording

from api.streams.sse_reader import EventReader, ServerEvent
from pipeline.stores.filestore import FileStore

pytestmark = pytest.mark.anyio

STREAMS = 50
SECONDS = 3.0
"""Longer than any stream may take to say its last words, shorter than what uvicorn gives requests to finish."""


async def stored(root: Path, **known: int) -> str:
    """The address of a recorded session's stream, in a store on the disk; nobody said that it is over."""
    key = await put_recording(FileStore(root / "store"), DATA / "posted", "default", "demo", **known)
    return f"/sessions/{key}/live"


def opened(port: int, path: str, *, reads: bool) -> socket.socket:
    """A stream that has begun. One that doesn't read has no room for more, and more is on its way to it."""
    stream = socket.socket()
    if not reads:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    stream.settimeout(10)
    stream.connect(("127.0.0.1", port))
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    got = b""
    while b"event: session" not in got:
        got += stream.recv(256)
    assert got.startswith(b"HTTP/1.1 200")
    return stream


def left(stream: socket.socket) -> bytes:
    """All until the connection ends; how it ends is in the last bytes."""
    got = b""
    while chunk := stream.recv(65536):
        got += chunk
    return got


@contextmanager
def streams(port: int, path: str) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        kinds = [
            (path, True),
            (f"{path}?since=0", False),
            (f"{path}?since=0&speed=1", True),
            (f"{path}?since=0&speed=0.1", False),
        ]
        yield [stack.enter_context(opened(port, *kinds[at % 4][:1], reads=kinds[at % 4][1])) for at in range(STREAMS)]


def asks_to_stop(program: Program) -> tuple[int, float]:
    begun = time.monotonic()
    code = program.stop()
    return code, time.monotonic() - begun


async def test_sigterm_ends_a_server_with_many_streams_at_once_and_cleanly(tmp_path: Path) -> None:
    path = await stored(tmp_path)
    with server(on_disk(tmp_path / "store"), tmp_path) as program:

        def scene() -> tuple[int, float, list[bytes]]:
            with streams(program.port, path) as open_ones:
                code, took = asks_to_stop(program)
                return code, took, [left(stream) for stream in open_ones[::4]]

        code, took, ends = await to_thread.run_sync(scene)
        said = program.log()
    assert (code, [line for line in said.splitlines() if '"error"' in line or "Traceback" in line]) == (0, [])
    assert took < SECONDS
    assert all(end.endswith(b"0\r\n\r\n") for end in ends), "a body that ends is no broken connection"


async def test_a_second_server_goes_on_where_the_first_one_stopped(tmp_path: Path) -> None:
    path = await stored(tmp_path, ended_ms=1)
    first = start_server(on_disk(tmp_path / "store"), tmp_path)
    try:
        reader, before = EventReader(), []
        async with httpx.AsyncClient(timeout=10) as http:
            async with http.stream("GET", f"{first.url}{path}?since=0&speed=20") as answer:
                async for chunk in answer.aiter_raw():
                    before += reader.feed(chunk)
                    if len(before) > 40 and first.running():
                        assert await to_thread.run_sync(first.stop) == 0
            with server(on_disk(tmp_path / "store"), tmp_path) as second:
                rest = await http.get(f"{second.url}{path}", headers={"Last-Event-ID": reader.last_id})
                whole = await http.get(f"{second.url}{path}?since=0")
        assert told([*before, *EventReader().feed(rest.content)]) == told(EventReader().feed(whole.content))
        assert 40 <= len(told(before)) < len(told(EventReader().feed(whole.content)))
    finally:
        first.end()


def told(events: list[ServerEvent]) -> list[str]:
    return [event.data for event in events if event.kind != "session"]

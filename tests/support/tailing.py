"""Somebody who follows a log of a session over HTTP, and the file that a process writes: both ends of a log's tail.

async with following(server, "raylet.out") as it:
    write(file, b"line\n")
    await it.until(b"line\n")
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
from support.collecting import NODE, SESSION, RayFolder, settled
from support.livechannel import LiveServer, ask

from pipeline.config import LogConfig

NOT_STORED = LogConfig(age=3600.0)


class Following:
    """What has come so far. ``ended``: the answer is complete."""

    def __init__(self) -> None:
        self.got = b""
        self.ended = anyio.Event()
        self._news = anyio.Event()

    async def read(self, answer: httpx.Response) -> None:
        async for piece in answer.aiter_raw():
            self.got += piece
            self._speak()
        self.ended.set()
        self._speak()

    async def until(self, text: bytes, within: float = 20.0) -> None:
        """Until what came ends with this."""
        with anyio.fail_after(within):
            while not self.got.endswith(text):
                assert not self.ended.is_set(), f"ended with {self.got[-200:]!r}"
                await self._news.wait()

    def _speak(self) -> None:
        self._news.set()
        self._news = anyio.Event()


@asynccontextmanager
async def following(server: LiveServer, filename: str, **asked: object) -> AsyncIterator[Following]:
    """Follow a log of the session's node until the context is left."""
    path = f"/sessions/default/ray/{SESSION}/api/v0/logs/stream"
    query = {"node_id": NODE, "filename": filename, "lines": -1, **asked}
    it = Following()
    async with (
        httpx.AsyncClient(timeout=None) as client,
        client.stream("GET", f"{server.url}{path}", params=query) as answer,  # type: ignore[arg-type]
    ):
        if answer.status_code != 200:
            raise AssertionError(f"{answer.status_code}: {(await answer.aread())[:500]!r}")
        async with anyio.create_task_group() as group:
            group.start_soon(it.read, answer)
            yield it
            group.cancel_scope.cancel()


def logs_of(ray: RayFolder) -> Path:
    """The folder of the session's logs."""
    return ray.root / SESSION / "logs"


def write(file: Path, text: bytes) -> None:
    with file.open("ab") as out:
        out.write(text)


async def listed(server: LiveServer, filename: str) -> None:
    """Until the server knows of the log."""

    async def there() -> bool:
        answer = await ask(server, f"/api/v0/logs?node_id={NODE}&glob={filename}")
        return answer.status_code == 200 and filename in answer.text

    await settled(there)

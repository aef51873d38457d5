"""A log of a live session is followed as it is written, long before it is stored: each byte once, whatever happens meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.collecting import RayFolder, collecting, settings
from support.livechannel import serving, wait_heard
from support.tailing import NOT_STORED, following, listed, logs_of, write

from pipeline.store import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_a_line_is_there_within_a_second_though_nothing_is_stored(tmp_path: Path, store: MemoryStore) -> None:
    async with serving(store) as server:
        config = settings(tmp_path, server=server.url, logs=NOT_STORED)
        ray = RayFolder(config.ray_tmp)
        ray.begin()
        file = logs_of(ray) / "raylet.out"
        write(file, b"first\n")
        async with collecting(config, store):
            await wait_heard(server)
            await listed(server, "raylet.out")
            async with following(server, "raylet.out") as it:
                await it.until(b"first\n")
                for number in range(10):
                    write(file, b"line %d\n" % number)
                    await it.until(b"line %d\n" % number, within=1.0)

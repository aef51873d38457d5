"""What Ray posts and writes reaches the store, exactly once, while the collector runs and when it is told to stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.collecting import RayFolder, append, collecting, key, line, settings, settled
from support.storecheck import stored_lines

from pipeline.store import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_lines_of_every_kind_of_file_are_stored_while_it_runs(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    append(ray.export(), line(1), line(2))
    async with collecting(config, store):
        append(ray.events(), line(3))
        await settled(lambda: stored(store, {line(1), line(2), line(3)}))


async def stored(store: MemoryStore, lines: set[bytes]) -> bool:
    return set(await stored_lines(store, key())) == lines

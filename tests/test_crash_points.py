"""Killed at any named point, with the checkpoint or without it: after a restart every record is stored exactly once.

In this process a kill is a ``BaseException`` that nothing catches; ``test_crash_kill.py`` does it with SIGKILL.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anyio
import httpx
import msgspec
import pytest
from support.collecting import POINTS, RayFolder, append, collecting, event, has_count, key, line, settings, settled
from support.storecheck import stored_lines

from pipeline.collector import run_collector
from pipeline.config import CollectorConfig
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio


class Killed(BaseException):
    """Stands for SIGKILL: no ``except Exception`` sees it."""


class KillAt:
    def __init__(self, point: str, times: int) -> None:
        self.point, self.times = point, times

    def __call__(self, point: str) -> None:
        if point == self.point:
            self.times -= 1
            if self.times == 0:
                raise Killed(point)


def posted(lines: list[bytes]) -> list[str]:
    return [json.loads(each)["eventId"] for each in lines if b"eventId" in each]


async def until_killed(config: CollectorConfig, store: MemoryStore, at: KillAt) -> None:
    """Run until the kill."""
    with pytest.raises(BaseExceptionGroup) as raised, anyio.fail_after(20):
        await run_collector(config, store, at=at)
    assert raised.value.subgroup(Killed) is not None
    assert raised.value.split(Killed)[1] is None


async def fill_spool(config: CollectorConfig, store: MemoryStore, numbers: range) -> None:
    """Post through a collector that ships nothing: it never learns which node this is. A file holds two."""
    quiet = msgspec.structs.replace(config, node_id=None, ray_tmp=config.data_dir.parent / "nothing")
    async with collecting(quiet, store) as it, httpx.AsyncClient() as client:
        for number in numbers:
            answer = await client.post(f"{it.url}/v1/events", json=[event(number) | {"message": "x" * 1000}])
            assert answer.status_code == 200
    assert len(list((config.data_dir / "spool").rglob("*.jsonl"))) >= len(numbers) // 2
    assert it.clean is False


@pytest.mark.parametrize("checkpoint", ["kept", "lost"])
@pytest.mark.parametrize(
    ("point", "times"), [(point, times) for point in POINTS for times in (1, 2) if (point, times) != ("released", 2)]
)
async def test_every_record_is_stored_once(tmp_path: Path, point: str, times: int, checkpoint: str) -> None:
    store = MemoryStore()
    config = settings(tmp_path, segment_bytes=2000, segment_age=0.02, rescan=0.02, disk_limit=16_000)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    await fill_spool(config, store, range(10))
    append(ray.export(), *[line(n, of="export") for n in range(10)])
    append(ray.events(), *[line(n, of="event") for n in range(10)])
    await until_killed(config, store, KillAt(point, times))
    if checkpoint == "lost":
        shutil.rmtree(config.data_dir / "checkpoints", ignore_errors=True)
    append(ray.export(), line(10, of="export"))
    async with collecting(config, store) as it:
        await settled(lambda: has_count(store, 31))
    assert it.clean
    lines = await stored_lines(store, key())
    assert sorted(each for each in lines if b"eventId" not in each) == sorted(
        [line(n, of="export") for n in range(11)] + [line(n, of="event") for n in range(10)]
    )
    assert sorted(posted(lines)) == sorted(f"id-{n}" for n in range(10))

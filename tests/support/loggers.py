"""A Ray session's log folder to write into, the follower that stores it, and what the store then says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio

from pipeline.config import LogConfig
from pipeline.layout import SessionKey
from pipeline.logs.logfiles import LogEntry, LogKeys, LogList, chunk_length, decode_path, unpack_chunk, unpack_list
from pipeline.logs.logs import LogFollower
from pipeline.stores.patience import Patience
from pipeline.stores.store import MemoryStore, ObjectStore

KEY = SessionKey("default", "ray", "session_2026-01-16_02-00-00_123456_1")
NODE = "ab" * 28
KEYS = LogKeys(KEY, NODE)


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def logs_folder(ray_tmp: Path) -> Path:
    folder = ray_tmp / KEY.session / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def follower(
    store: ObjectStore, ray_tmp: Path, clock: Callable[[], float], *, redact: bool = True, **config: float
) -> LogFollower:
    patience = Patience(store, first=0.001, longest=0.001)
    settings = LogConfig(**{"puts_per_second": 1e6, **config})  # type: ignore[arg-type]
    return LogFollower(settings, store, patience, KEY, NODE, ray_tmp, redact=redact, clock=clock, now_ms=lambda: 1)


async def store_all(store: ObjectStore, ray_tmp: Path, **config: float) -> None:
    """Everything that is there now, as at the end of a session."""
    each = follower(store, ray_tmp, Clock(), **config)
    each.finish("stopped")
    with anyio.fail_after(30):
        await each.run()


async def listed(store: ObjectStore) -> LogList:
    return unpack_list(await store.get(KEYS.list))


async def content(store: ObjectStore, entry: LogEntry) -> bytes:
    """What is stored of a log; its chunks must follow on one another."""
    found = b""
    for info in await store.list(KEYS.log(entry.path)):
        name = KEYS.parse(info.key)
        if name is None or (name.path, name.generation) != (entry.path, entry.generation):
            continue
        data = await store.get(info.key)
        assert name.offset == len(found), f"{info.key} begins elsewhere than the one before ended ({len(found)})"
        assert chunk_length(data[:18]) == len(unpack_chunk(data))
        found += unpack_chunk(data)
    return found


async def shown(store: ObjectStore) -> dict[str, bytes]:
    """Every file that the list names, with its content."""
    return {name: await content(store, entry) for name, entry in (await listed(store)).names().items()}


def on_disk(folder: Path) -> dict[str, bytes]:
    """Every file that there is."""
    files = (file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


async def chunk_keys(store: MemoryStore) -> list[str]:
    return [info.key for info in await store.list(KEYS.prefix) if KEYS.parse(info.key)]


__all__ = [
    "KEY",
    "KEYS",
    "NODE",
    "Clock",
    "chunk_keys",
    "content",
    "decode_path",
    "follower",
    "listed",
    "logs_folder",
    "on_disk",
    "shown",
    "store_all",
]

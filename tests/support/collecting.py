"""A collector's surroundings in a test: Ray's folder, a data folder, a store, settings that don't wait."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
from anyio.abc import TaskStatus
from blockbuster import blockbuster_ctx
from support.storecheck import stored_lines

from pipeline.collector import run_collector
from pipeline.config import CollectorConfig, StoreConfig
from pipeline.layout import SessionKey
from pipeline.stores.store import ObjectStore

NODE = "a1" * 28
SESSION = "session_2026-01-16_02-00-00_123456_1"
POINTS = ["read", "before_put", "put", "announced", "checkpoint_written", "committed", "released"]
"""Where a collector can be killed, in the order in which they are passed."""
LATER = "session_2026-01-17_02-00-00_123456_9"


def settings(root: Path, **changed: Any) -> CollectorConfig:
    """Fast settings with everything below ``root``."""
    plain = CollectorConfig(
        store=StoreConfig(url=f"file://{root}/store"),
        data_dir=root / "data",
        ray_tmp=root / "ray",
        node_id=NODE,
        logs=None,
        poll=None,
        events_port=0,
        segment_age=0.2,
        linger=0.0,
        rescan=0.05,
        shutdown_budget=10.0,
    )
    return msgspec.structs.replace(plain, **changed)


def key(session: str = SESSION) -> SessionKey:
    return SessionKey("default", "ray", session)


class RayFolder:
    """Ray's folder as Ray makes it, but for Ray."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def begin(self, session: str = SESSION, node: str | None = NODE) -> Path:
        """Start a session and point ``session_latest`` at it."""
        folder = self.root / session
        for name in ("export_events", "events"):
            (folder / "logs" / name).mkdir(parents=True, exist_ok=True)
        if node is not None:
            (folder / f"metrics_agent_port_{node}").write_text("1")
        link = self.root / "session_latest.new"
        link.symlink_to(folder)
        link.replace(self.root / "session_latest")
        return folder

    def export(self, session: str = SESSION, name: str = "event_EXPORT_TASK_1.log") -> Path:
        return self.root / session / "logs" / "export_events" / name

    def events(self, session: str = SESSION, name: str = "event_GCS.log") -> Path:
        return self.root / session / "logs" / "events" / name


def line(number: int, *, size: int = 0, of: str = "x") -> bytes:
    """A record that is like no other."""
    return (
        json.dumps({"source_type": "EXPORT_NOTHING", "event_id": f"{of}-{number}", "pad": "p" * size}).encode() + b"\n"
    )


def append(file: Path, *lines: bytes) -> None:
    with file.open("ab") as out:
        out.write(b"".join(lines))


async def settled(condition: Callable[[], Awaitable[bool]], within: float = 20.0) -> None:
    """Return once the condition holds; fail if it doesn't in time."""
    with anyio.fail_after(within):
        while not await condition():  # noqa: ASYNC110 - what it waits for has no event
            await anyio.sleep(0.01)


class Running:
    """A collector that runs: where it takes posts, how to stop it, what it said at its end."""

    def __init__(self) -> None:
        self.stop = anyio.Event()
        self.port = 0
        self.clean: bool | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def collecting(
    config: CollectorConfig, store: ObjectStore, *, may_block: bool = False, **hooks: Any
) -> AsyncIterator[Running]:
    """Run a collector; it is told to stop at the end. Nothing of it may block the event loop."""
    it = Running()

    async def run(*, task_status: TaskStatus[int]) -> None:
        it.clean = await run_collector(config, store, stop=it.stop, task_status=task_status, **hooks)

    with nullcontext() if may_block else blockbuster_ctx("pipeline"):
        async with anyio.create_task_group() as tasks:
            it.port = await tasks.start(run)
            yield it
            it.stop.set()


def event(number: int, session: str = SESSION) -> dict[str, str]:
    """A posted record that is like no other, of a type nobody knows."""
    return {"eventId": f"id-{number}", "eventType": "NOTHING_KNOWN", "sessionName": session, "message": f"m{number}"}


async def post(url: str, *events: object) -> int:
    """The status that Ray would see."""
    async with httpx.AsyncClient() as client:
        return (await client.post(f"{url}/v1/events", json=list(events))).status_code


async def has(store: ObjectStore, of: SessionKey, lines: set[bytes]) -> bool:
    return set(await stored_lines(store, of)) == lines


async def has_count(store: ObjectStore, count: int, of: SessionKey | None = None) -> bool:
    return len(await stored_lines(store, of or key())) == count

"""One collector a data folder: two would each take the other's spool file for closed, and delete it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import structlog
from anyio import to_thread

RETRY = 0.2

log = structlog.get_logger()


@asynccontextmanager
async def alone(data_dir: Path, stop: anyio.Event) -> AsyncIterator[bool]:
    """Waits for whoever uses the folder to be gone; False if told to stop before. A killed process lets go by dying."""
    lock = await to_thread.run_sync(_open, data_dir)
    try:
        yield await _locked(lock, data_dir, stop)
    finally:
        os.close(lock)


async def _locked(lock: int, data_dir: Path, stop: anyio.Event) -> bool:
    said = False
    while not stop.is_set():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not said:
                log.warning("another collector uses the data folder, waiting until it is gone", data_dir=str(data_dir))
                said = True
            with anyio.move_on_after(RETRY):
                await stop.wait()
        except OSError as exc:  # a file system without locks
            log.warning("the data folder can't be locked, see that no other collector uses it", error=str(exc))
            return True
        else:
            return True
    return False


def _open(data_dir: Path) -> int:
    data_dir.mkdir(parents=True, exist_ok=True)
    return os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

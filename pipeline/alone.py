"""One collector a data folder: two would each take the other's spool file for closed, and delete it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import structlog

RETRY = 0.2

log = structlog.get_logger()


async def wait_until_alone(lock: int, data_dir: Path, stop: anyio.Event) -> bool:
    """Wait for whoever uses the folder to be gone; False if told to stop before. Kept until the lock is closed."""
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


@contextmanager
def lock_file(data_dir: Path) -> Iterator[int]:
    """The file that is locked. A killed process lets go of it by dying."""
    data_dir.mkdir(parents=True, exist_ok=True)
    fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)

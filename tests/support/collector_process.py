"""A collector in a process of its own that can be killed at a named point: ``python -m support.collector_process``.

    root          everything below it, the store (a FileStore) too
    point:n       SIGKILL itself when the point is passed the n-th time (``-``: never)

It writes the port it takes posts on into ``root/port``, and ends by SIGTERM like the command does.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import structlog
from support.collecting import settings

from pipeline.collector import run_collector
from pipeline.stores.filestore import FileStore


class KillAt:
    """SIGKILL this process when ``point`` is passed the n-th time."""

    def __init__(self, point: str, times: int) -> None:
        self.point, self.times = point, times

    def __call__(self, point: str) -> None:
        if point == self.point:
            self.times -= 1
            if self.times == 0:
                os.kill(os.getpid(), signal.SIGKILL)


async def main(root: Path, where: str) -> int:
    point, _, times = where.partition(":")
    stop = anyio.Event()
    clean = False

    async def run(*, task_status: anyio.abc.TaskStatus[int]) -> None:
        nonlocal clean
        at = KillAt(point, int(times or 1))
        config = settings(root, segment_age=0.05, segment_bytes=4096, disk_limit=80_000)
        clean = await run_collector(config, FileStore(root / "store"), stop=stop, at=at, task_status=task_status)

    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            port = await tasks.start(run)
            await anyio.Path(root / "port.new").write_text(str(port))
            await anyio.Path(root / "port.new").rename(root / "port")
            async for _ in signals:
                stop.set()
                break
    return 0 if clean else 1


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sys.exit(anyio.run(main, Path(sys.argv[1]), sys.argv[2]))

"""A process that kills itself with SIGKILL at a chosen system call of the spool.

    python -m support.dies append DATA_DIR FROM TO CALL WHEN
    python -m support.dies serve DATA_DIR CALL WHEN

``append`` stores the records FROM..TO and a bad one, and prints the calls it made; ``serve`` takes posts and
prints its port. CALL is the number of the call (from 0) among all that change the disk; WHEN is ``before``,
``half`` (a write writes half of its bytes first) or ``after``. A CALL that never comes is no death.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from support.posted import body

from pipeline.receive.ingest import ingest_app
from pipeline.receive.post import BadRecord, split_post
from pipeline.receive.spool import Spool

CALLS = ("mkdir", "open", "write", "fsync", "rename", "unlink", "ftruncate")
LIMIT = 1 << 30
made: list[str] = []


def dies_at(number: int, when: str) -> None:
    """Replace the calls that change the disk by ones that count."""

    def wrap(name: str, real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **options)
            mine = len(made) == number
            made.append(name)
            if mine and when == "half" and name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            if mine and when in ("before", "half"):
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **options)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in CALLS:
        setattr(os, name, wrap(name, getattr(os, name)))


async def append(data_dir: Path, start: int, end: int) -> None:
    post = split_post(body(range(start, end)))
    await Spool(data_dir, limit_bytes=LIMIT).append(post.records, [BadRecord(b"?", "malformed", "bad")])
    sys.stdout.write(" ".join(made))


def serve(data_dir: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    app = ingest_app(Spool(data_dir, limit_bytes=LIMIT))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off")).run(sockets=[listener])


def main() -> None:
    what, folder, *rest = sys.argv[1:]
    *numbers, call, when = rest
    dies_at(int(call), when)
    if what == "append":
        anyio.run(append, Path(folder), *map(int, numbers))
    else:
        serve(Path(folder))


if __name__ == "__main__":
    main()

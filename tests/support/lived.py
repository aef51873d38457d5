"""A real Ray session, lived to its end: started, put to work, asked, killed. What is left is what it was collected as."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from support import workload
from support.compare import differences
from support.processes import Program, server, session_url, wait_for_session
from support.rayhead import RayHead, until
from support.receiver import Receiver
from support.workload import Rows

QUIET = 2.5
"""Seconds: Ray holds nothing back for longer than one."""


@dataclass
class Lived:
    """A session that is over, and the live dashboard's last word on it."""

    session: str
    live: dict[str, Rows] = field(default_factory=dict)


def live_through(
    head: RayHead,
    received: Receiver | None = None,
    *,
    work: Callable[[RayHead], None] = workload.run,
    meanwhile: Callable[[Lived], None] = lambda _: None,
) -> Lived:
    """Let the head ``work``, note what the dashboard says, wait until Ray has said all of it too, then SIGKILL.

    ``meanwhile`` is done before that, while the session lives.
    """
    work(head)
    workload.rest(head)
    lived = Lived(head.session_name, workload.live_rows(head))
    if received is not None:
        until(lambda: received.quiet(QUIET), "Ray to have posted everything", timeout=30)
    else:
        until(
            _unchanged(head.session_dir / "logs" / "export_events"),
            "Ray to have written everything",
            timeout=30,
            pause=QUIET,
        )
    meanwhile(lived)
    head.kill()
    return lived


def answers(
    store: list[str], folder: Path, lived: Lived, *, environment: dict[str, str] | None = None
) -> dict[str, Rows]:
    """What a server that has nothing but the store says of the session."""
    folder.mkdir(parents=True, exist_ok=True)
    with server(store, folder, environment=environment) as program:
        wait_for_session(program, lived.session)
        base = session_url(program, lived.session)
        return {kind: workload.rows(base, kind) for kind in lived.live}


def assert_same(kind: str, lived: Lived, answered: dict[str, Rows], *, untold: frozenset[str] = frozenset()) -> None:
    """Every row of the live dashboard is answered, once, and no other; each difference is a line of the message."""
    assert lived.live[kind]
    lines = differences(kind, lived.live[kind], answered[kind], untold=untold)
    assert not lines, "\n".join(lines)


def in_background(work: Callable[[], object]) -> Callable[[], bool]:
    """Start ``work`` in a thread; the answer says whether it is done, and raises what it raised."""
    failed: list[BaseException] = []

    def go() -> None:
        try:
            work()
        except BaseException as failure:
            failed.append(failure)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()

    def done() -> bool:
        thread.join(0)
        if failed:
            raise failed[0]
        return not thread.is_alive()

    return done


def assert_stopped(program: Program) -> None:
    """SIGTERM: it seals and uploads what it has and exits 0."""
    code = program.stop()
    assert code == 0, program.log()[-4000:]


def _unchanged(written: Path) -> Callable[[], bool]:
    """Whether no line was written since the last time but profiles: the dashboard's own driver writes those for ever."""
    counts: list[int] = [-1]

    def same() -> bool:
        lines = (line for file in written.iterdir() for line in file.read_bytes().splitlines())
        before, counts[0] = counts[0], sum(b'"profile_events"' not in line for line in lines)
        return before == counts[0]

    return same

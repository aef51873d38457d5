"""Which Ray sessions this machine holds: the one that lives now, and those that may not be all in the store yet.

Ray points ``session_latest`` at the session it starts; only the link's last part is used, since the same
folder may be mounted elsewhere here. What stands in a session's own folder, or in the spool folder of
that name, goes to that session and to no other.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from msgspec import Struct

from pipeline.errors import BadKey
from pipeline.files import folder
from pipeline.layout import part
from pipeline.read.places import Place
from pipeline.read.source import EVENTS, EXPORT_EVENTS, SPOOL

LATEST = "session_latest"

State = frozenset[tuple[str, int, int]]
"""Name, size and time of change (ns) of each of a session's files."""


class Sessions(Struct, frozen=True):
    """``current`` is None while nothing was seen at all; ``others`` has the newest first."""

    current: str | None
    others: list[str]


def find(ray_tmp: Path, spooled: Iterable[str]) -> Sessions:
    """All sessions with a folder below ``ray_tmp`` or in the spool. Without ``session_latest`` the newest is current."""
    names = set(_usable(spooled))
    with contextlib.suppress(OSError), os.scandir(ray_tmp) as entries:
        folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        names.update(_usable(name for name in folders if name.startswith("session_")))
    newest_first = sorted(names, reverse=True)
    current = latest(ray_tmp)
    if current not in names:
        current = next(iter(newest_first), None)
    return Sessions(current, [name for name in newest_first if name != current])


def latest(ray_tmp: Path) -> str | None:
    """The session that ``session_latest`` names."""
    try:
        target = os.readlink(ray_tmp / LATEST)
    except OSError:
        return None
    return next(iter(_usable([Path(target).name])), None)


def places(ray_tmp: Path, data_dir: Path, durable: Callable[[str, str], int | None], session: str) -> list[Place]:
    """Where a session's sources stand. Of a spool file only what is ``durable`` may be read."""
    return [
        Place(SPOOL, data_dir / "spool", (session,), partial(durable, session)),
        Place(EXPORT_EVENTS, ray_tmp, (session, "logs", EXPORT_EVENTS.name)),
        Place(EVENTS, ray_tmp, (session, "logs", EVENTS.name)),
    ]


def raylet_answers(ray_tmp: Path, session: str) -> bool | None:
    """Whether Ray lives in a session: its raylet listens there. None where that can't be told. Blocking."""
    with folder(ray_tmp, session, "sockets") as fd, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if fd is None:
            return None
        probe.settimeout(1.0)
        try:
            probe.connect(f"/proc/self/fd/{fd}/raylet")  # however long its path is
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return None
    return True


def newest_ms(state_: State) -> int | None:
    """When a session's files were last changed."""
    return max((mtime_ns // 1_000_000 for _, _, mtime_ns in state_), default=None)


def state(places_: Iterable[Place]) -> State:
    """What changes when a session's sources do."""
    found = set()
    for place in places_:
        with folder(place.root, *place.below) as fd:
            if fd is None:
                continue
            with contextlib.suppress(OSError), os.scandir(fd) as entries:
                for entry in entries:
                    if place.folder.stem(entry.name) is not None:
                        is_ = entry.stat(follow_symlinks=False)
                        found.add((f"{place.folder.name}/{entry.name}", is_.st_size, is_.st_mtime_ns))
    return frozenset(found)


def _usable(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        if name != LATEST:
            with contextlib.suppress(BadKey):
                yield part(name)

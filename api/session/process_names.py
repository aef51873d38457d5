"""Reads which log files the nodes of a session have, for what their names tell of its worker processes.

Only where it is needed: the posted dialect has records of workers, so only a session of export API files is looked
at this way; and the heads of every session, for the drivers inside the dashboard, which no record tells of. A node costs
one get; every failure but the store's own means that nothing is known. ``Looks`` says when it is time for another look: a
process begins, and its log's name is stored, without any record telling of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import anyio
import structlog

from api.groups import first_error
from pipeline.errors import BadKey, FormatError
from pipeline.layout import SessionKey, part
from pipeline.logs.logfiles import LogKeys
from pipeline.logs.logrecover import read_list
from pipeline.stores.store import ObjectStore

MAX_NODES = 2000
AT_ONCE = 8
EVERY, OF_MANY = 15.0, 300.0
"""Seconds between two looks, and where there are many nodes."""
SETTLED = 60.0
"""Seconds after the last news of a session by which all names are in the store."""

log = structlog.get_logger()


class Looks:
    """When one session's names are to be looked at. ``news`` is any number that grows with what is known of the session."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._news = -1
        self._news_at = 0.0
        self._at_end = False

    def due(self, now: float, news: int, *, often: bool, many: bool, ended: bool) -> bool:
        """Whether it is time. ``often``: whenever there is news; in any case once when the session has ended."""
        new, self._news = news != self._news, news
        if new:
            self._news_at = now
        if self._last is None or (often and new) or (ended and not self._at_end):
            return True
        return now - self._last >= (OF_MANY if many else EVERY) and self._last < self._news_at + SETTLED

    def done(self, now: float, *, ended: bool) -> None:
        """They were looked at then."""
        self._last, self._at_end = now, ended


async def log_names(store: ObjectStore, key: SessionKey, only: Iterable[str] | None = None) -> dict[str, list[str]]:
    """The names of the log files of every node that has a list of them, or of these ``only``. Raises ``StoreError``."""
    found: dict[str, list[str]] = {}
    nodes = iter(await _nodes(store, key) if only is None else list(only)[:MAX_NODES])

    async def work() -> None:
        for node in nodes:
            try:
                listed = await read_list(store, LogKeys(key, node))
            except FormatError as exc:
                log.info("list of log files can't be read", session=str(key), node=node, reason=str(exc))
                continue
            if listed is not None:
                found[node] = list(listed.names())

    with first_error():
        async with anyio.create_task_group() as group:
            for _ in range(AT_ONCE):
                group.start_soon(work)
    return found


async def _nodes(store: ObjectStore, key: SessionKey) -> list[str]:
    prefix = f"{key.root}logs/"
    found = []
    for each in (await store.list_level(prefix)).prefixes[:MAX_NODES]:
        with contextlib.suppress(BadKey):
            found.append(part(each.removeprefix(prefix).rstrip("/")))
    return found

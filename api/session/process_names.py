"""Reads which log files the nodes of a session have, for what their names tell of its worker processes.

Only where it is needed: the posted dialect has records of workers, so only a session of export API files is looked
at this way; and the heads of every session, for the drivers inside the dashboard, which no record tells of. A node costs one get, and a session that is over is looked at once; every failure but the store's own
means that nothing is known.
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

log = structlog.get_logger()


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

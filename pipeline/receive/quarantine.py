"""Posted records that couldn't be taken, from ``{data_dir}/quarantine/`` into the store beside their session.

Files appear there whole (``spool.py``); each is put under its own name, so doing it twice changes nothing,
and deleted after. A record whose session isn't known goes to the session that lives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import structlog

from pipeline import metrics
from pipeline.config import CollectorConfig
from pipeline.errors import BadKey
from pipeline.files import regular
from pipeline.layout import SessionKey
from pipeline.receive.spool_aside import UNKNOWN
from pipeline.redact import redact_block
from pipeline.stores.patience import Patience
from pipeline.stores.store import ObjectStore

LIMIT = 128 << 20
"""Bytes of a file beyond which it is left where it is: it isn't one of ours."""

WhoIs = Callable[[str | None], tuple[str, str] | None]
"""The session (None: the current one) and its node id, once known."""

log = structlog.get_logger()


async def ship_quarantine(config: CollectorConfig, store: ObjectStore, patience: Patience, who_is: WhoIs) -> None:
    """Store every file that is there now and whose node is known."""
    for folder, file in await anyio.to_thread.run_sync(lambda: list(_files(config.data_dir / "quarantine"))):
        known = who_is(None if folder == UNKNOWN else folder)
        if known is None:
            continue
        session, node = known
        try:
            name = SessionKey(config.namespace, config.cluster, session).quarantine(node, file.name)
        except BadKey:
            continue
        data = await anyio.to_thread.run_sync(_read, file)
        if data:
            await patience.insist(partial(store.put, name, redact_block(data) if config.redact else data))
            await anyio.to_thread.run_sync(partial(file.unlink, missing_ok=True))
            metrics.QUARANTINED.inc()
            log.info("quarantined records stored", session=session, key=name)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            if name.endswith(".jsonl") and not name.startswith("."):
                yield Path(folder).name, Path(folder) / name


def _read(file: Path) -> bytes:
    with regular(file) as fd:
        if fd is None or os.fstat(fd).st_size > LIMIT:
            return b""
        return os.pread(fd, LIMIT, 0)

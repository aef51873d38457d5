"""The list of sessions without a server: the catalog, and what servers have counted and left in the store.

Nothing is counted here. Summaries are asked for of those sessions that are shown, and of all where the order or the
choice depends on them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import anyio

from api.groups import first_error
from api.session.listing import Listing
from api.session.overviews import MAX_OBJECT, parse_summary
from api.views.session_list import Ident, ListQuery, Page, Summary, page
from pipeline.config import StoreConfig
from pipeline.errors import NotFound
from pipeline.layout import SessionKey
from pipeline.stores.open_store import open_store
from pipeline.stores.store import ObjectStore

GETS_AT_ONCE = 16


async def page_of_store(config: StoreConfig, query: ListQuery) -> Page:
    """Raises ``StoreError``."""
    async with open_store(config) as store:
        listing = Listing(store)
        await listing.refresh()
        found = listing.newest_first
        if _takes_counts(query):
            keys = [known.key for known in found if query.namespace in (None, known.namespace)]
        else:
            shown = page(found, {}, query, _now_ms()).sessions
            keys = [SessionKey(line.namespace, line.name, line.session) for line in shown]
        return page(found, await _summaries(store, keys), query, _now_ms())


def _takes_counts(query: ListQuery) -> bool:
    return query.failed or query.status is not None or query.sort not in ("start", "name")


async def _summaries(store: ObjectStore, keys: Iterable[SessionKey]) -> dict[Ident, Summary]:
    """Those there are, a few asked for at a time."""
    found: dict[Ident, Summary] = {}
    waiting = iter(keys)

    async def ask() -> None:
        for key in waiting:
            try:
                summary = parse_summary(await store.get(key.summary, end=MAX_OBJECT + 1))
            except NotFound:
                continue
            if summary is not None:
                found[key.namespace, key.cluster, key.session] = summary

    with first_error():
        async with anyio.create_task_group() as group:
            for _ in range(GETS_AT_ONCE):
                group.start_soon(ask)
    return found


def _now_ms() -> int:
    return int(time.time() * 1000)

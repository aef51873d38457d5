"""Trying again until the store takes it: back-off with jitter, and one log line for each change of its state.

A collector never gives up on the store and never exits because of it; what bounds the waiting is the
caller's cancel scope. ``AlreadyExists`` is an answer, not a failure, and passes through.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import structlog

from pipeline import metrics
from pipeline.errors import AlreadyExists, StoreError
from pipeline.stores.store import ObjectStore

T = TypeVar("T")

FIRST = 0.1
LONGEST = 15.0


class Patience:
    """One store's state as the collector sees it, shared by all that ask it."""

    def __init__(self, store: ObjectStore, *, first: float = FIRST, longest: float = LONGEST) -> None:
        self._url = store.url
        self._first = first
        self._longest = longest
        self._log = structlog.get_logger()
        self.trouble: str | None = None
        self._since = 0.0

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """``call`` until it returns. Raises only ``AlreadyExists`` and what isn't the store's doing."""
        delay = self._first
        while True:
            try:
                result = await call()
            except AlreadyExists:
                self._up()
                raise
            except StoreError as exc:
                self._down(exc)
            else:
                self._up()
                return result
            await anyio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, self._longest)

    def _down(self, exc: StoreError) -> None:
        kind = type(exc).__name__
        metrics.STORE_FAILURES.labels(kind).inc()
        metrics.STORE_UP.set(0)
        if self.trouble != kind:
            self._log.warning("the store can't be used, trying again", store=self._url, kind=kind, error=str(exc))
        if self.trouble is None:
            self._since = anyio.current_time()
        self.trouble = kind

    def _up(self) -> None:
        metrics.STORE_UP.set(1)
        if self.trouble is not None:
            after = round(anyio.current_time() - self._since, 1)
            self._log.info("the store can be used again", store=self._url, after_seconds=after)
        self.trouble = None

"""One piece of work at a time, shared by all who ask for it while it is under way.

The work runs in the server's task group, not in the request that began it: a client that goes away takes
nothing from the others. It is cancelled when the last of them has gone, and the next to ask waits for that
end before it begins anew, so two runs never overlap.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from pipeline.errors import Unavailable


class _Run:
    """One run, and how many wait for it."""

    def __init__(self) -> None:
        self.scope = CancelScope()
        self.ended = anyio.Event()
        self.waiters = 0
        self.finished = False
        self.error: Exception | None = None


class SharedWork:
    """``await shared()`` returns once a run that was under way, or begun for it, has finished; it raises what the run raised."""

    def __init__(self, group: TaskGroup, work: Callable[[], Awaitable[None]]) -> None:
        self._group = group
        self._work = work
        self._run: _Run | None = None

    @property
    def busy(self) -> bool:
        """Whether a run is under way."""
        return self._run is not None

    async def __call__(self) -> None:
        while (run := self._run) is not None and run.scope.cancel_called:
            await run.ended.wait()
        if run is None:
            run = self._run = _Run()
            self._group.start_soon(self._perform, run)
        await self._wait(run)
        if run.error is not None:
            raise run.error
        if not run.finished:
            raise Unavailable("the server is shutting down")

    async def _wait(self, run: _Run) -> None:
        run.waiters += 1
        try:
            await run.ended.wait()
        finally:
            run.waiters -= 1
            if not run.waiters:
                run.scope.cancel()

    async def _perform(self, run: _Run) -> None:
        try:
            with run.scope:
                await self._work()
                run.finished = True
        except Exception as exc:  # an error of those who wait, not of the server
            run.error = exc
        finally:
            self._run = None
            run.ended.set()

"""Which sessions are followed: the one that lives now always, those left from before one at a time.

A session left from before is read to its end, and again whenever its files change (processes of an old
session may write for a while, and Ray may still post for it). Each session is followed by one
``Follower`` at most, so a session's records are read in one place only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup

from pipeline.follow import Follower, Until
from pipeline.session import Sessions, State, newest_ms, state
from pipeline.tail import Place
from pipeline.watch import Wake

log = structlog.get_logger()

Find = Callable[[], Sessions]
Places = Callable[[str], list[Place]]
Make = Callable[[str, list[Place], Until], Follower]


class Roster:
    """``find`` looks which sessions there are, ``places`` says where one's sources stand, ``make`` makes its follower."""

    def __init__(self, find: Find, places: Places, make: Make, rescan: float) -> None:
        self.current: str | None = None
        self._find, self._places, self._make, self._rescan = find, places, make, rescan
        self._running: dict[str, Follower] = {}
        self._finished: dict[str, State] = {}
        self._last_node: str | None = None
        self._wake = Wake()
        self._stopping = False

    def changed(self) -> None:
        """Something may have changed: everybody looks again."""
        self._wake.set()
        for follower in self._running.values():
            follower.wake.set()

    def folders(self) -> list[Path]:
        """The folders of the sessions that are followed now."""
        return [place.path for follower in list(self._running.values()) for place in follower.places]

    def who_is(self, session: str | None) -> tuple[str, str] | None:
        """A session, or the current one, and the node it is on here; None while that isn't known."""
        name = session or self.current
        followers = [self._running.get(name or ""), self.follower()]
        node = next((each.node for each in followers if each is not None and each.node is not None), self._last_node)
        return (name, node) if name and node else None

    def follower(self) -> Follower | None:
        """Who follows the current session."""
        return self._running.get(self.current or "")

    async def run(self, tasks: TaskGroup) -> None:
        """Keep following, until ``finish`` is called."""
        while not self._stopping:
            sessions = await anyio.to_thread.run_sync(self._find)
            if sessions.current not in (None, self.current):
                self._switch(str(sessions.current), tasks)
            if set(self._running) <= {self.current}:
                async for name, before in self._unfinished(sessions.others):
                    tasks.start_soon(self._follow, name, self._begin(name, "read"), before)
                    break
            await self._wake.wait(self._rescan)

    async def finish(self) -> None:
        """Read and store what is there now, the current session first; returns when all that was tried."""
        self._stopping = True
        self._wake.set()
        for follower in self._running.values():
            follower.finish("stopped")
        while self._running:
            await self._wake.wait(self._rescan)
        sessions = await anyio.to_thread.run_sync(self._find)
        self.current = sessions.current or self.current
        async for name, before in self._unfinished(self._unfollowed(sessions)):
            await self._follow(name, self._begin(name, "stopped"), before)

    async def left(self) -> dict[str, int]:
        """Bytes of each session that are not known to be in the store."""
        found = {name: await anyio.to_thread.run_sync(follower.left) for name, follower in self._running.items()}
        sessions = await anyio.to_thread.run_sync(self._find)
        async for name, now in self._unfinished(self._unfollowed(sessions)):
            found[name] = sum(size for _, size, _ in now)
        return {name: size for name, size in found.items() if size}

    def _unfollowed(self, sessions: Sessions) -> list[str]:
        """Sessions that may have more than was read: a current one that came too late to be followed too."""
        late = [name for name in (sessions.current,) if name is not None and name not in self._finished]
        return late + sessions.others

    def _switch(self, current: str, tasks: TaskGroup) -> None:
        """Ray began another session: the one before is read to its end, and this one is followed."""
        log.info("session is current", session=current, before=self.current)
        if (before := self.follower()) is not None:
            before.finish("read")
        self.current = current
        if (running := self.follower()) is not None:
            running.finish("told")
        else:
            tasks.start_soon(self._follow, current, self._begin(current, "told"), frozenset())

    async def _unfinished(self, names: list[str]) -> AsyncIterator[tuple[str, State]]:
        """Of these sessions, those that have changed since they were last read to their end."""
        for name in names:
            if name not in self._running:
                before = await anyio.to_thread.run_sync(state, self._places(name))
                if before != self._finished.get(name):
                    yield name, before

    def _begin(self, name: str, until: Until) -> Follower:
        self._running[name] = follower = self._make(name, self._places(name), until)
        return follower

    async def _follow(self, name: str, follower: Follower, before: State) -> None:
        try:
            await follower.run()
            if follower.done and self._over(name, follower):
                await follower.say_ended(newest_ms(before))
        finally:
            self._last_node = follower.node or self._last_node
            del self._running[name]
            self._wake.set()
        self._finished[name] = before

    def _over(self, name: str, follower: Follower) -> bool:
        """Whether a session is over: we were told to stop, or Ray began a later one (names begin with the time)."""
        return name == self.current if follower.until == "stopped" else name < (self.current or "")

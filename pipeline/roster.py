"""Which sessions are followed: the one that lives now always, those left from before one at a time.

A session left from before is read to its end, and again whenever its files change (processes of an old
session may write for a while, and Ray may still post for it). Each session is followed by one
``Life`` at most, so a session's records are read in one place only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup

from pipeline.life import Life
from pipeline.read.places import Place
from pipeline.read.session import Sessions, State, newest_ms, state
from pipeline.ship.follow import Until
from pipeline.watch import Wake

LOOK_BACK = 5  # times less often than for what is current it is looked at sessions left from before

log = structlog.get_logger()

Find = Callable[[], Sessions]
Places = Callable[[str], list[Place]]
Make = Callable[[str, list[Place], Until], Life]


class Roster:
    """``find`` looks which sessions there are, ``places`` says where one's sources stand, ``make`` makes the ``Life`` that follows it."""

    def __init__(self, find: Find, places: Places, make: Make, rescan: float) -> None:
        self.current: str | None = None
        self._find, self._places, self._make, self._rescan = find, places, make, rescan
        self._running: dict[str, Life] = {}
        self._finished: dict[str, State] = {}
        self._without: set[str] = set()  # sessions that were tried without a node id
        self._last_node: str | None = None
        self._wake = Wake()
        self._look_back_at = 0.0
        self._stopping = False

    def changed(self) -> None:
        """Something may have changed in a session that is followed."""
        for life in self._running.values():
            life.wake()

    def folders(self) -> list[Path]:
        """The folders of the sessions that are followed now."""
        return [place.path for life in list(self._running.values()) for place in life.records.places]

    def who_is(self, session: str | None) -> tuple[str, str] | None:
        """A session, or the current one, and the node it is on here; None while that isn't known."""
        name = session or self.current
        lives = [each for each in (self._running.get(name or ""), self._live()) if each is not None]
        node = next((each.records.node for each in lives if each.records.node is not None), self._last_node)
        return (name, node) if name and node else None

    async def run(self, tasks: TaskGroup) -> None:
        """Keep following, until ``finish`` is called."""
        while True:
            sessions = await anyio.to_thread.run_sync(self._find)
            look_back = anyio.current_time() >= self._look_back_at
            unfinished = await self._unfinished(sessions.others) if look_back else []
            if self._stopping:
                return
            if sessions.current not in (None, self.current):
                self._switch(str(sessions.current))
            if self.current is not None and self.current not in self._running:
                tasks.start_soon(self._follow, self.current, self._begin(self.current, "told"), frozenset())
            for name, before in unfinished[:1]:
                if set(self._running) <= {self.current}:
                    tasks.start_soon(self._follow, name, self._begin(name, "read"), before)
            if look_back and not unfinished:
                self._look_back_at = anyio.current_time() + LOOK_BACK * self._rescan
            await self._wake.wait(self._rescan)

    async def finish(self) -> None:
        """Read and store what is there now, the current session first; returns when all that was tried."""
        self._stopping = True
        self._wake.set()
        for life in self._running.values():
            life.finish("stopped")
        while self._running:
            await self._wake.wait(self._rescan)
        sessions = await anyio.to_thread.run_sync(self._find)
        self.current = sessions.current or self.current
        for name, before in await self._unfinished(self._unfollowed(sessions)):
            await self._follow(name, self._begin(name, "stopped"), before)

    async def left(self) -> dict[str, int]:
        """Bytes of each session that are not known to be in the store."""
        found = {name: await anyio.to_thread.run_sync(life.left) for name, life in list(self._running.items())}
        sessions = await anyio.to_thread.run_sync(self._find)
        rest = dict(await self._unfinished(self._unfollowed(sessions)))
        for name in self._without - rest.keys():
            rest[name] = await anyio.to_thread.run_sync(state, self._places(name))
        found.update((name, sum(size for _, size, _ in now)) for name, now in rest.items())
        return {name: size for name, size in found.items() if size}

    def _unfollowed(self, sessions: Sessions) -> list[str]:
        """Sessions that may have more than was read: a current one that came too late to be followed too."""
        late = [name for name in (sessions.current,) if name is not None and name not in self._finished]
        return late + sessions.others

    def _live(self) -> Life | None:
        return self._running.get(self.current or "")

    def _switch(self, current: str) -> None:
        """Ray began another session: the one before is read to its end."""
        log.info("session is current", session=current, before=self.current)
        if (before := self._live()) is not None:
            before.finish("read")
        self.current = current
        if (running := self._live()) is not None:
            running.finish("told")

    async def _unfinished(self, names: list[str]) -> list[tuple[str, State]]:
        """Of these sessions, those that have changed since they were last read to their end."""
        asleep = [name for name in names if name not in self._running]
        states = await anyio.to_thread.run_sync(lambda: [state(self._places(name)) for name in asleep])
        return [(name, now) for name, now in zip(asleep, states, strict=True) if now != self._finished.get(name)]

    def _begin(self, name: str, until: Until) -> Life:
        self._running[name] = life = self._make(name, self._places(name), until)
        return life

    async def _follow(self, name: str, life: Life, before: State) -> None:
        try:
            await life.run()
            after = await anyio.to_thread.run_sync(state, self._places(name))
            if life.done:
                over = self._over(name, life.until)
                ended_ms = newest_ms(after) if over and await life.records.lives() is not True else None
                if over:
                    await life.records.say_ended(ended_ms)
                await life.say_bye(over, ended_ms)
        finally:
            self._last_node = life.records.node or self._last_node
            del self._running[name]
            self._look_back_at = 0.0
            self._wake.set()
        if life.done:
            self._without.discard(name)
        else:
            self._without.add(name)
        self._finished[name] = after if after <= before else before  # what was released is missing, nothing is new

    def _over(self, name: str, until: Until) -> bool:
        """Whether a session is over: we were told to stop, or Ray began a later one (names begin with the time)."""
        return name == self.current if until == "stopped" else name < (self.current or "")

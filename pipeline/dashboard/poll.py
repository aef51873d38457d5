"""Asks the head's dashboard for what no event carries, round after round, and keeps the best answers in the store.

    every ``interval`` ─▶ /api/version ─▶ of this session? ─▶ each endpoint in turn ─▶ mask ─▶ better? ─▶ put
    a job begins, ends ─▶ the same, the jobs alone              one request at a time      unchanged: nothing

Asking can change a cluster: to answer for Serve, Train and Data the dashboard connects a driver of its own (which
takes a job id), and ``/api/data/datasets`` starts an actor where Ray Data isn't used. So these are only asked
for once the session shows that it uses them (``Uses``).

The dashboard may come late, be restarted, or belong to the session after this one; none of that ends this.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import aiohttp
import anyio
import structlog
from anyio import to_thread
from yarl import URL

from pipeline import metrics
from pipeline.config import PollConfig
from pipeline.dashboard.endpoints import Answer, BadAnswer, Keeper, folder, job_ids, pack, place, session_name, unpack
from pipeline.dashboard.uses import Uses
from pipeline.errors import ConfigError, NotFound
from pipeline.layout import SessionKey
from pipeline.redact import redact_block
from pipeline.stores.patience import Patience
from pipeline.stores.store import ObjectStore
from pipeline.watch import Wake

VERSION = "/api/version"
JOBS = "/api/jobs/"
NODES = "/nodes?view=summary"
"""The load, memory and disks of every machine: large, other at every round, and in no record."""
ALWAYS = (
    "/timezone",
    "/api/v0/cluster_metadata",
    JOBS,
    "/api/v0/placement_groups?detail=1&limit=10000",
    "/api/v0/runtime_envs?detail=1&limit=10000",
    "/api/cluster_status",
    "/api/cluster_status?format=1",
    NODES,
)
WORKERS = "/api/v0/workers?detail=1&limit=10000"
SERVE = "/api/serve/applications/"
TRAIN = "/api/train/v2/runs/v1"
DATASETS = "/api/data/datasets/"
WHERE_USED = {
    "export": (WORKERS,),  # export API files tell of none
    "serve": (SERVE,),
    "train": (TRAIN,),
}

REQUEST_TIME = 20.0
"""Seconds for one answer: the first one that connects a driver takes some."""
LAST_ROUND = 4.0
"""Seconds for the round before the end: the dashboard may be gone already."""
MAX_JOBS = 1000
SOON, LATER = 0.5, 2.5
"""Seconds after which the jobs are asked for where a record told of one: its submission's state follows it."""

Until = Literal["told", "read", "stopped"]

log = structlog.get_logger()


class Poller:
    """The polls of one session. ``until`` as in ``follow.Follower``; a session that is over is not asked for.

    ``on_kept`` is told, after each round that kept something, how many answers this run has put into the store.
    """

    def __init__(
        self,
        config: PollConfig,
        store: ObjectStore,
        patience: Patience,
        key: SessionKey,
        ray_tmp: Path,
        *,
        until: Until = "told",
        redact: bool = True,
        uses: Uses | None = None,
        on_kept: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.until: Until = until
        self.wake = Wake()
        self.uses = uses or Uses()
        self._config, self._store, self._patience, self._key, self._ray_tmp = config, store, patience, key, ray_tmp
        self._redact: Callable[[bytes], bytes] = redact_block if redact else bytes
        self._clock, self._now_ms = clock, now_ms
        self._keeper = Keeper()
        self._on_kept = on_kept
        self._puts = 0
        self._looks: list[float] = []  # when the jobs alone are to be asked for
        self._asking = anyio.CancelScope()
        self._trouble: str | None = None
        self._too_large: set[str] = set()
        self._log = log.bind(session=key.session, dashboard=config.dashboard)

    def finish(self, until: Until) -> None:
        """An answer that is waited for is given up: the last round asks again."""
        self.until = until
        if until != "told":
            self._asking.cancel()
        self.wake.set()

    async def run(self) -> None:
        """Ask round after round; once told to end, one last time."""
        if not self._goes_on():
            return
        await self.begin()
        while self._goes_on():
            with anyio.CancelScope() as self._asking:
                await self.round()
            await self._pause()
        with anyio.move_on_after(LAST_ROUND):
            await self.round(last=True)

    def soon(self) -> None:
        """A record told of a job: ask for the jobs, without waiting for the next round."""
        now = self._clock()
        self._looks = [self._looks[0] if self._looks else now + SOON, now + LATER]
        self.wake.set()

    async def _pause(self) -> None:
        due = self._clock() + self._config.interval
        while self._goes_on() and (now := self._clock()) < due:
            if self._looks and self._looks[0] <= now:
                self._looks.pop(0)
                with anyio.CancelScope() as self._asking:
                    await self.round(only=(JOBS,))
            else:
                await self.wake.wait(min([*self._looks[:1], due]) - now)

    def _goes_on(self) -> bool:
        return self.until == "told"

    async def begin(self) -> None:
        """Take over what an earlier process kept: it must not be replaced by less."""
        self._keeper = Keeper(await self._kept())

    async def round(self, *, last: bool = False, only: tuple[str, ...] = ()) -> None:
        """Ask for everything once, or ``only`` for some of it."""
        before = self._puts
        try:
            await self._ask_all(last, only)
        finally:
            if self._puts > before:
                self._on_kept(self._puts)

    async def _ask_all(self, last: bool, only: tuple[str, ...]) -> None:
        async with self._session() as session:
            version = await self._ask(session, VERSION)
            if version is None or not self._is_ours(version):
                return
            await self._keep(version, last)
            await to_thread.run_sync(self.uses.look, self._ray_tmp, self._key.session)
            for urls in (only,) if only else (self._urls(), self._of_jobs()):
                for url in urls:
                    answer = await self._ask(session, url)
                    if answer is not None:
                        await self._keep(answer, last)

    # asking

    def _urls(self) -> Iterator[str]:
        """What to ask for, each once; of the version was asked already."""
        used = [url for library, urls in WHERE_USED.items() if library in self.uses.found for url in urls]
        return (url for url in dict.fromkeys((*ALWAYS, *used, *self._config.extra)) if url != VERSION)

    def _of_jobs(self) -> Iterator[str]:
        if "data" in self.uses.found:
            yield from (f"{DATASETS}{job}" for job in job_ids(self._keeper.kept.get(JOBS))[:MAX_JOBS])

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        token = await to_thread.run_sync(self._token)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIME, connect=3.0)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            yield session

    def _token(self) -> str | None:
        if self._config.token_file is None:
            return self._config.token
        try:
            return self._config.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as exc:
            self._say(f"token file unreadable: {exc}")
            return self._config.token

    async def _ask(self, session: aiohttp.ClientSession, url: str) -> Answer | None:
        """The answer; None where there is none (the log says why, once)."""
        try:
            where = URL(self._config.dashboard.rstrip("/") + url, encoded=True)
            async with session.get(where, allow_redirects=False) as response:
                body = await _read(response, self._config.body_limit)
                status, content_type = response.status, response.content_type
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            if url == VERSION:
                self._say(f"{type(exc).__name__}: {exc}")
            return None
        if body is None:
            if url not in self._too_large:
                self._too_large.add(url)
                self._log.warning("answer too large, not kept", url=url, limit=self._config.body_limit)
            return None
        if url == VERSION and status != 200:
            self._say(f"status {status}")
            return None
        text = self._redact(body).decode(errors="replace")
        return Answer(url, status, content_type, self._now_ms(), text)

    def _is_ours(self, version: Answer) -> bool:
        """Whether this session's dashboard answered: after a restart it is the next one's."""
        name = session_name(version)
        if name not in (None, self._key.session):
            self._say(f"it belongs to {name!r:.100}")
            return False
        if self._trouble is not None:
            self._log.info("dashboard answers")
        self._trouble = None
        return True

    def _say(self, trouble: str) -> None:
        if self._trouble is None:
            self._log.info("dashboard can't be asked yet, trying again", reason=trouble)
        self._trouble = trouble

    # keeping

    async def _keep(self, answer: Answer, last: bool) -> None:
        if self._keeper.offer(answer, self._clock(), last=last):
            put = partial(self._store.put, place(self._key, answer.url), pack(answer))
            await self._patience.insist(put)
            self._keeper.keep(answer)
            self._puts += 1
            metrics.ANSWERS_KEPT.inc()

    async def _kept(self) -> list[Answer]:
        found = await self._patience.insist(partial(self._store.list, folder(self._key), limit=MAX_JOBS + 100))
        usable = [info.key for info in found if info.size <= self._config.body_limit * 2]
        answers = [await self._patience.insist(partial(self._answer, key)) for key in usable]
        return [answer for answer in answers if answer is not None]

    async def _answer(self, key: str) -> Answer | None:
        try:
            answer = unpack(await self._store.get(key))
        except (NotFound, BadAnswer):
            return None
        return answer if place(self._key, answer.url) == key else None


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The whole body, or None where it is larger than ``limit``."""
    body = bytearray()
    async for piece in response.content.iter_chunked(64 << 10):
        body += piece
        if len(body) > limit:
            return None
    return bytes(body)


def check_extra(url: str) -> str:
    """A further path to ask for, as an option names it. Raises ``ConfigError``."""
    if not url.startswith("/") or not url.isascii() or not url.isprintable() or "#" in url or " " in url:
        raise ConfigError(f"not a path of the dashboard (such as /api/v0/nodes?detail=1): {url[:100]!r}")
    return url

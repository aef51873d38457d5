"""A real Ray session, watched while it lives: by a client of its event stream, by Chromium, by who asks for lists.

    Ray ─▶ receiver ─▶ collector ─▶ server ─▶ stream, lists, pages
                           │ SIGKILL: the session is lost; begun again: live; SIGTERM: ended

``watch`` goes through all of it once and keeps what was seen; tests judge that.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette
from support import workload
from support.browser import chromium, served, visit
from support.lived import QUIET, in_background
from support.processes import Program, on_disk, start_collector
from support.rayhead import RayHead, fetch, ray_head, short_folder, until
from support.receiver import Receiver, receiver
from support.streaming import Client
from support.workload import Rows
from support.workload_runs import by_hand

from api.app import create_app
from api.live.live import wall_ms
from api.session.sessions import ENDED_AGE
from api.status import SILENT_AFTER_MS
from api.streams.sse_reader import ServerEvent
from pipeline.config import ServerConfig, StoreConfig
from pipeline.stores.filestore import FileStore

CLUSTER = "/sessions/default/ray"
MARK = b'"inner-wait"'
"""A name that only one task of the second job has."""
ROWS = "[...document.querySelectorAll('#rows summary')].map(row => [...row.children].slice(1, 4).map(cell => cell.textContent))"


@dataclass
class Moment:
    """What both said of the session at one time: the live dashboard, and we."""

    dashboard: dict[str, Rows]
    ours: dict[str, Rows]


@dataclass
class Watched:
    """What was seen. ``statuses`` in order, as ``/clusters`` and as the open tail page said."""

    told: list[ServerEvent]
    """By a stream that was there from the beginning to the end."""
    replayed: list[ServerEvent]
    """By one that asked for everything when all was over."""
    posted: list[bytes]
    alive: Moment
    over: Moment
    statuses: list[str]
    page_statuses: list[str]
    answer_seconds: float
    """From the taking of a post to a list that has its task."""
    loads: list[float]
    """How many sessions the server had loaded: when this one had been opened, and at the end."""
    page_rows: list[list[str]]
    """Kind, state and name of each row of the tail page, once Ray was at rest."""
    page_counts: list[str]
    """What ``/`` said of the session's tasks: at first, and once Ray was at rest."""


@dataclass
class _Watch:
    """One going through, so far."""

    server: _Site
    collector: _Collector
    received: Receiver
    head: RayHead
    moments: list[Moment] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    page_statuses: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    answer_seconds: float = 0.0

    @property
    def session(self) -> str:
        return self.head.session_name

    def is_now(self, status: str, tail: Page) -> None:
        """Wait until list and page say so."""
        until(lambda: self.server.status(self.session) == status, f"the session to be {status}", timeout=15)
        self.statuses.append(self.server.status(self.session))
        expect(tail.locator("#which .status")).to_have_text(status)
        self.page_statuses.append(tail.locator("#which .status").inner_text())

    def compare(self, name: str) -> None:
        """Wait until Ray has said everything, and ask both."""
        workload.rest(self.head)
        until(lambda: self.received.quiet(QUIET), "Ray to have posted everything", timeout=30)
        dashboard = workload.live_rows(self.head)
        self.moments.append(Moment(dashboard, self.ours(name, dashboard)))

    def ours(self, name: str, kinds: dict[str, Rows]) -> dict[str, Rows]:
        return {kind: workload.rows(self.server.url(name), kind) for kind in kinds}


class _Site:
    """The server, in this process so that its clock can be set, on a real socket."""

    def __init__(self, store: Path) -> None:
        self._store = FileStore(store)
        self.ahead_ms = 0
        self.base = ""
        self.call: Callable[[Callable[[], Awaitable[None]]], None]

    async def make(self) -> Starlette:
        app = create_app(ServerConfig(store=StoreConfig(url=self._store.url), refresh=0.2), self._store)
        app.state.sessions.live.now_ms = app.state.overviews.now_ms = lambda: wall_ms() + self.ahead_ms
        return app

    def url(self, name: str) -> str:
        return f"{self.base}{CLUSTER}/{name}"

    def status(self, session: str) -> str:
        listed = json.loads(fetch(f"{self.base}/clusters")[1])
        return next((str(row["status"]) for row in listed if row["sessionName"] == session), "")

    def loads(self) -> float:
        found = re.search(rb"^ray_history_load_seconds_count ([0-9.e+]+)$", fetch(f"{self.base}/metrics")[1], re.M)
        assert found is not None
        return float(found[1])

    @contextmanager
    def following(self, name: str, **query: str) -> Iterator[Client]:
        """A client of a session's stream, until that ends of itself."""
        client = Client(f"{self.url(name)}/live", **query)
        over = in_background(lambda: self.call(client.connect))
        until(lambda: client.events or over(), "the stream's first event", pause=0.01)
        yield client
        until(over, "the stream's end", timeout=30)


class _Collector:
    """The command, which can be killed and begun again on the same folders and port."""

    def __init__(self, folder: Path, ray_tmp: Path, server: str) -> None:
        self._folder, self._ray_tmp, self._server = folder, ray_tmp, server
        self.program = self._begun(None)

    def again(self) -> None:
        self.program = self._begun(self.program.port)

    def _begun(self, port: int | None) -> Program:
        options = [f"--server={self._server}", "--no-poll", "--no-logs"]
        return start_collector(on_disk(self._folder / "store"), self._folder, self._ray_tmp, *options, port=port)


@contextmanager
def _started(folder: Path) -> Iterator[_Watch]:
    """Server, collector and Ray; the session can be asked for."""
    site = _Site(folder / "store")
    with served(site.make) as server, short_folder() as short:
        site.base, site.call = server.base, server.call
        collector = _Collector(folder, short / "r", site.base)
        try:
            with (
                receiver(forward_to=collector.program.port) as received,
                ray_head("posted", events_port=received.port, folder=short, environment=workload.ENVIRONMENT) as head,
            ):
                nodes = f"{site.url('live')}/api/v0/nodes"
                until(lambda: head.node_id.encode() in fetch(nodes)[1], "the session's answers")
                yield _Watch(site, collector, received, head)
        finally:
            collector.program.end()


def watch(folder: Path) -> Watched:
    """All of it. A page that logs an error, or asks for something it doesn't get, is an error."""
    with (
        _started(folder) as it,
        chromium() as browser,
        _opened(browser, it.server, f"{CLUSTER}/live/tail", "#link[data-state=open]") as tail,
        _opened(browser, it.server, "/", "#sessions tbody tr") as listed,
        it.server.following("live", since="0", speed="0") as client,
    ):
        it.loads.append(it.server.loads())
        counts = [listed.locator("#sessions td.col-tasks").inner_text()]
        _work(it)
        counts.append(_counted(listed, it.moments[-1]))
        rows: list[list[str]] = tail.evaluate(ROWS)
        it.is_now("live", tail)
        _lose_collector(it, tail)
        _end(it, tail)
        with it.server.following(it.session, since="0", speed="0") as again:
            pass
    alive, over = it.moments
    return Watched(
        told=client.events,
        replayed=again.events,
        posted=list(it.received.taken),
        alive=alive,
        over=over,
        statuses=it.statuses,
        page_statuses=it.page_statuses,
        answer_seconds=it.answer_seconds,
        loads=it.loads,
        page_rows=rows,
        page_counts=counts,
    )


@contextmanager
def _opened(browser: Browser, site: _Site, path: str, ready: str) -> Iterator[Page]:
    with visit(browser, site.base) as visited:
        yield visited.open(path, ready)


def _work(it: _Watch) -> None:
    """Both jobs' work, and how soon it can be asked for."""
    worked = in_background(lambda: workload.run(it.head))
    until(lambda: any(MARK in body for body in it.received.taken), "the marked task's post", timeout=90, pause=0.001)
    taken = time.monotonic()
    tasks = f"{it.server.url('live')}/api/v0/tasks?limit=10000"
    until(lambda: MARK in fetch(tasks)[1], "the marked task's answer", pause=0.001)
    it.answer_seconds = time.monotonic() - taken
    until(worked, "the work's end", timeout=90)
    it.compare("live")


def _counted(listed: Page, moment: Moment) -> str:
    """What ``/`` says of the tasks, once it says what the dashboard does."""
    states = Counter(row["state"] for row in moment.dashboard["tasks"] if row["type"] != "DRIVER_TASK")
    cell = listed.locator("#sessions td.col-tasks")
    expect(cell.locator(".pill.bad")).to_have_text(f"{states['FAILED']} failed")
    expect(cell).to_contain_text(f"{states['FINISHED']} finished")
    return cell.inner_text()


def _lose_collector(it: _Watch, tail: Page) -> None:
    """It is killed and begun again while Ray works on: what Ray has to say meanwhile is refused, and said again."""
    it.collector.program.kill()
    it.server.ahead_ms = SILENT_AFTER_MS + 1000
    it.is_now("lost", tail)
    worked = in_background(lambda: by_hand(it.head, "workload_nodes.py"))
    until(lambda: it.received.refused, "Ray to have been refused", timeout=30)
    it.server.ahead_ms = 0
    it.collector.again()
    until(worked, "the end of the job by hand", timeout=90)
    it.is_now("live", tail)


def _end(it: _Watch, tail: Page) -> None:
    """Ray is killed, its collector told to stop; then so much time goes by that nothing more is waited for."""
    it.compare("live")
    it.head.kill()
    code = it.collector.program.stop()
    assert code == 0, it.collector.program.log()[-4000:]
    it.is_now("ended", tail)
    it.moments[-1].ours = it.ours(it.session, it.moments[-1].dashboard)
    it.loads.append(it.server.loads())
    it.server.ahead_ms = int(ENDED_AGE * 1000) + 1000

"""Pages that stay open: nothing is shown twice or lost, they stay with their session, and hear of what comes after an end."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import anyio
import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from support.browser import Served, chromium, served, visit
from support.captures import DATA
from support.rayhead import until
from support.recorded_store import put_recording
from support.sessions import SegmentWriter, WrappedStore, finished_task, tasks

from api.app import create_app
from api.session import sessions
from pipeline.config import ServerConfig, StoreConfig
from pipeline.layout import SessionKey
from pipeline.stores.catalog import new_metadata, write_metadata

pytestmark = pytest.mark.timeout(120)

FIRST = SessionKey("default", "c", "session_2026-01-16_02-00-00_000000_1")
SECOND = SessionKey("default", "c", "session_2026-01-17_02-00-00_000000_1")
ROWS = "#rows li.task"


class Ingress:
    """What stands before a server: while that is away, its streams break off and are answered 502."""

    def __init__(self, app: Starlette) -> None:
        self.state = app.state
        self.refused = 0
        self._app = app
        self._away = False
        self._open: set[anyio.CancelScope] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/live"):
            await self._app(scope, receive, send)
        elif self._away:
            self.refused += 1
            await send({"type": "http.response.start", "status": 502, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            with anyio.CancelScope() as open_:
                self._open.add(open_)
                await self._app(scope, receive, send)
            self._open.discard(open_)

    async def leave(self) -> None:
        self._away = True
        for open_ in self._open:
            open_.cancel()

    async def come_back(self) -> None:
        self._away = False


class Site:
    """A server behind an ingress; the test holds both, and the store."""

    def __init__(self) -> None:
        self.store = WrappedStore()
        self.ingress: Ingress
        self.server: Served

    async def make(self) -> Ingress:
        self.ingress = Ingress(create_app(ServerConfig(store=StoreConfig(url="memory://"), refresh=0.0), self.store))
        return self.ingress

    def begin(self, key: SessionKey, **known: int) -> SegmentWriter:
        writer = SegmentWriter(self.store, key)

        async def work() -> None:
            await writer.begin(**known)

        self.server.call(work)
        return writer

    def write(self, writer: SegmentWriter, lines: list[bytes]) -> None:
        async def work() -> None:
            await writer.write(lines, created_ns=time.time_ns())

        self.server.call(work)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    with served(made.make) as made.server:
        yield made


@contextmanager
def away(site: Site, page: Page) -> Iterator[None]:
    """The server is away for so long that the browser gives up."""
    before = site.ingress.refused
    site.server.call(site.ingress.leave)
    try:
        expect(page.locator("#link")).to_contain_text("The server gave no stream")
        assert site.ingress.refused > before
        yield
    finally:
        site.server.call(site.ingress.come_back)


def shown(page: Page) -> Counter[tuple[str, str]]:
    """State and name of each task's row."""
    rows = page.locator(ROWS).all()
    return Counter((row.locator("span").nth(2).inner_text(), row.locator(".what").inner_text()) for row in rows)


def told(*names: str) -> Counter[tuple[str, str]]:
    """What a page shows of finished tasks."""
    return Counter((state, name) for name in names for state in ("submitted to worker", "running", "finished"))


# -- the tail and a server that restarts ------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?kind=task,session", "?since=0&speed=0"])
def test_each_event_is_shown_once_after_a_time_of_502(browser: Browser, site: Site, query: str) -> None:
    writer = site.begin(FIRST)
    with visit(browser, site.server.base, faults=True) as visited:
        page = visited.open(f"/sessions/{FIRST}/tail{query}", "#link[data-state=open]")
        site.write(writer, finished_task(1, "before"))
        expect(page.locator(ROWS)).to_have_count(3)
        for number in (2, 4):  # twice: the second time nothing may have come since the first
            with away(site, page):
                site.write(writer, finished_task(number, f"meanwhile {number}"))
            expect(page.locator("#link[data-state=open]")).to_be_visible()
            expect(page.locator(ROWS)).to_have_count(3 + 3 * number // 2)
        site.write(writer, finished_task(5, "after"))
        expect(page.locator(ROWS)).to_have_count(12)
        assert shown(page) == told("before", "meanwhile 2", "meanwhile 4", "after")
        expect(page.locator("#rows li.gap")).to_have_count(0)
        said = page.locator("#rows li.session span:nth-child(3)").all_inner_texts()
        assert len(said) == len(set(said)), "a connection begins with the session's status: it is news once"


def test_what_happened_before_the_first_row_came_is_not_missed(browser: Browser, site: Site) -> None:
    writer = site.begin(FIRST)
    site.write(writer, finished_task(1, "long ago"))
    with visit(browser, site.server.base, faults=True) as visited:
        page = visited.open(f"/sessions/{FIRST}/tail", "#link[data-state=open]")
        expect(page.locator("#rows li.session")).to_have_count(1)
        with away(site, page):
            site.write(writer, finished_task(2, "meanwhile"))
        expect(page.locator(ROWS)).to_have_count(3)
        assert shown(page) == told("meanwhile")


def test_another_filter_is_another_stream(browser: Browser, site: Site) -> None:
    writer = site.begin(FIRST)
    with visit(browser, site.server.base) as visited:
        page = visited.open(f"/sessions/{FIRST}/tail?since=0&speed=0", "#link[data-state=open]")
        site.write(writer, finished_task(1, "one"))
        expect(page.locator(ROWS)).to_have_count(3)
        page.get_by_label("State").fill("finished")
        expect(page.locator(ROWS)).to_have_count(1)


# -- an address that means a session of the moment --------------------------------------------


@pytest.mark.parametrize("alias", ["live", "latest"])
@pytest.mark.parametrize("query", ["", "?since=0&speed=0"])
def test_a_tail_stays_with_the_session_that_its_address_meant(
    browser: Browser, site: Site, alias: str, query: str
) -> None:
    first = site.begin(FIRST)
    site.write(first, finished_task(1, "old"))
    with visit(browser, site.server.base, faults=True) as visited:
        visited.page.clock.install()
        page = visited.open(f"/sessions/default/c/{alias}/tail{query}", "#link[data-state=open]")
        expect(page.locator("#which")).to_contain_text(str(FIRST))
        expect(page).to_have_title(re.compile(FIRST.session))
        for name in ("Overview", "Live tail"):
            link = page.get_by_role("navigation").get_by_role("link", name=name)
            expect(link).to_have_attribute("href", re.compile(f"/{FIRST}/"))
        expect(page.locator("#newer")).to_be_hidden()
        second = site.begin(SECOND)
        site.write(second, finished_task(2, "of another session"))
        site.server.call(site.ingress.leave)
        expect(page.locator("#link")).to_contain_text("The server gave no stream")
        site.write(first, finished_task(3, "own"))
        site.server.call(site.ingress.come_back)
        page.clock.run_for(21_000)
        expect(page.locator(ROWS).last).to_contain_text("own")
        assert shown(page) == told("own", *(["old"] if query else []))
        expect(page.locator("#rows li.gap")).to_have_count(0)
        link = page.locator("#newer").get_by_role("link", name=SECOND.session)
        expect(link).to_have_attribute("href", f"{site.server.base}/sessions/{SECOND}/tail")


def test_an_overview_stays_with_its_session_and_tells_of_a_newer_one(browser: Browser, site: Site) -> None:
    site.write(site.begin(FIRST), tasks(1))
    with visit(browser, site.server.base) as visited:
        visited.page.clock.install()
        page = visited.open("/sessions/default/c/live/overview", "#durations")
        link = page.get_by_role("navigation").get_by_role("link", name="Live tail")
        expect(link).to_have_attribute("href", re.compile(f"/{FIRST}/tail"))
        site.write(site.begin(SECOND), tasks(7))
        page.clock.run_for(21_000)
        newer = page.locator("#newer").get_by_role("link", name=SECOND.session)
        expect(newer).to_have_attribute("href", f"{site.server.base}/sessions/{SECOND}/overview")
        expect(page.locator("h1")).to_have_text(FIRST.session)
        newer.click()
        page.wait_for_selector("#durations")
        expect(page.locator("h1")).to_have_text(SECOND.session)
        expect(page.locator("#newer")).to_be_hidden()


# -- after an end -----------------------------------------------------------------------------


def test_what_comes_after_an_end_reaches_an_open_overview(
    browser: Browser, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last segments of other nodes, and a head that is heard again."""
    monkeypatch.setattr(sessions, "ENDED_AGE", 0.0)  # otherwise a minute
    now_ms = int(time.time() * 1000)
    writer = site.begin(FIRST, ended_ms=now_ms)
    site.write(writer, tasks(1))
    with visit(browser, site.server.base) as visited:
        visited.page.clock.install()
        page = visited.open(f"/sessions/{FIRST}/overview", "#durations")
        finished = page.locator(".tile", has_text="finished").locator("b")
        expect(page.locator(".title .status")).to_have_text("ended")
        expect(finished).to_have_text("1")
        site.write(writer, tasks(2, first=10))
        page.clock.run_for(21_000)
        expect(finished).to_have_text("3")
        site.server.call(
            partial(write_metadata, site.store, new_metadata(FIRST), merge=False)
        )  # a collector began again
        site.write(writer, tasks(2, first=20))
        page.clock.run_for(21_000)
        expect(page.locator(".title .status")).to_have_text("live")
        expect(finished).to_have_text("5")


def test_a_tail_of_an_ended_session_goes_on_when_its_head_is_heard_again(
    browser: Browser, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ENDED_AGE", 0.0)
    writer = site.begin(FIRST, ended_ms=int(time.time() * 1000) - 120_000)
    site.write(writer, finished_task(1, "before"))
    with visit(browser, site.server.base) as visited:
        visited.page.clock.install()
        page = visited.open(f"/sessions/{FIRST}/tail?since=0&speed=0", "#link[data-state=closed]")
        expect(page.locator("#link")).to_have_text("The session has ended, nothing more will come")
        site.server.call(partial(write_metadata, site.store, new_metadata(FIRST), merge=False))
        site.write(writer, finished_task(2, "after"))
        until(lambda: not site.ingress.state.hubs._open, "the hub of the end to go", timeout=10)
        page.clock.run_for(21_000)
        expect(page.locator("#link")).to_have_text("Connected")
        expect(page.locator(ROWS)).to_have_count(6)
        assert shown(page) == told("before", "after")


def test_a_node_is_up_until_now_or_until_its_sessions_end(browser: Browser, site: Site) -> None:
    recording = DATA / "posted"
    up = "section[aria-labelledby=nodes] tbody tr td:last-child"
    keys: list[SessionKey] = []

    async def alive() -> None:
        keys.append(await put_recording(site.store, recording, "default", "alive", sealed_ns=time.time_ns()))

    site.server.call(alive)
    with visit(browser, site.server.base) as visited:
        visited.page.clock.install()
        page = visited.open(f"/sessions/{keys[0]}/overview", "#durations")
        answer = json.loads(page.request.get(f"{site.server.base}/sessions/{keys[0]}/v1/overview").text())
        start_ms = answer["overview"]["nodes"][0]["start_ms"]
        expect(page.locator(".title .status")).to_have_text("live")
        shown = page.locator(up)
        expect(shown).to_have_text(re.compile(r"^\d+ [a-z]"))
        page.evaluate(f"document.querySelector({up!r}).textContent = 'stale'")
        page.clock.run_for(6000)
        expect(shown).to_have_text(re.compile(r"^\d+ [a-z]"))

        async def over() -> None:
            keys.append(await put_recording(site.store, recording, "default", "over", ended_ms=start_ms + 65_000))

        site.server.call(over)
        page = visited.open(f"/sessions/{keys[1]}/overview", "#durations")
        expect(page.locator(up)).to_have_text("1 m 05 s")

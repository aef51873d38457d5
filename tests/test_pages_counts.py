"""The sessions page in a real Chromium, of a server that counts by itself: it shows all and asks for next to nothing."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Route, expect
from starlette.types import ASGIApp
from support.browser import NARROW, PHONE, WIDE, Served, chromium, serious_faults, served, visit
from support.counting import QUICK, RECORDS, key, put, until
from support.sessions import SegmentWriter, WrappedStore, defined_task, running_task, task_states

from api.app import create_app
from pipeline.config import ServerConfig, StoreConfig

pytestmark = pytest.mark.timeout(120)

MANY = 30
LIVE, LARGE = 40, 35


class Site:
    """A server over sessions that nobody has looked at. What it was asked for is in ``server``."""

    def __init__(self) -> None:
        self.store = WrappedStore()
        self.server: Served

    async def make(self) -> ASGIApp:
        for number in range(MANY):
            await put(self.store, key(number), failed=number % 5 * (number % 3), ended_ms=RECORDS + 60_000 * number)
        now_ns = time.time_ns()
        live = SegmentWriter(self.store, key(LIVE))
        await live.begin()
        failing = defined_task(2) + task_states(2, "RUNNING", "FAILED")
        await live.write([*running_task(1), *failing], created_ns=now_ns - 5 * 60_000_000_000)
        large = SegmentWriter(self.store, key(LARGE))
        await large.begin(ended_ms=RECORDS)
        for at in range(100):
            await large.write(defined_task(at, os.urandom(4000).hex()))
        config = ServerConfig(
            store=StoreConfig(url="memory://"), refresh=0.0, cache_bytes=3_000_000, backfill_bytes=100_000
        )
        self.app = create_app(config, self.store)
        self.app.state.backfill.pace = QUICK
        self.counted_ms = now_ns // 1_000_000 - 4 * 60_000
        self.app.state.overviews.now_ms = lambda: self.counted_ms
        return self.app

    async def counted(self) -> None:
        await until(lambda: len(self.app.state.overviews.known) == MANY + 1 and self.app.state.overviews.sizes)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site()
    with served(made.make) as made.server:
        made.server.call(made.counted)
        yield made


ROWS = "#sessions tbody tr"


def test_the_page_asks_for_no_session_whose_counts_are_known(browser: Browser, site: Site) -> None:
    with visit(browser, site.server.base) as visited:
        asked: list[str] = []
        visited.page.on("request", lambda request: asked.append(request.url))
        page = visited.open("/", f"{ROWS} .tasks")
        expect(page.locator(ROWS)).to_have_count(MANY + 2)
        expect(page.locator(f"{ROWS} .tasks")).to_have_count(MANY + 1)
        page.wait_for_load_state("networkidle")
        for_sessions = {url for url in asked if "/v1/summary" in url}
        assert {url.split("/sessions/")[1].removesuffix("/v1/summary") for url in for_sessions} <= {str(key(LIVE))}
        assert sum("/v1/sessions" in url for url in asked) >= 1


def test_failures_come_first_and_alone_where_that_is_asked_for(browser: Browser, site: Site) -> None:
    failing = sum(number % 5 * (number % 3) > 0 for number in range(MANY)) + 1
    with visit(browser, site.server.base) as visited:
        page = visited.open("/", f"{ROWS} .tasks")
        page.get_by_role("button", name="Tasks").click()
        expect(page.locator(f"{ROWS} .pill.bad").first).to_have_text("8 failed")
        expect(page.locator("#said")).to_have_text(f"{MANY + 2} sessions, 1 not counted yet")
        texts = page.locator(f"{ROWS} .pill.bad").all_text_contents()
        numbers = [int(text.split()[0]) for text in texts]
        assert numbers == sorted(numbers, reverse=True)
        page.keyboard.press("Escape")
        only = page.locator("#failed")
        expect(only).to_contain_text(str(failing))
        only.click()
        expect(only).to_have_attribute("aria-pressed", "true")
        expect(page.locator(ROWS)).to_have_count(failing)
        assert "failed=1" in page.url
        page.reload()
        expect(page.locator(ROWS)).to_have_count(failing)
        page.locator("body").press("f")
        expect(page.locator(ROWS)).to_have_count(MANY + 2)


def test_what_is_too_large_says_so_at_once_and_is_counted_when_asked_for(browser: Browser, site: Site) -> None:
    with visit(browser, site.server.base) as visited:
        page = visited.open(f"/?search=c{LARGE}/", ROWS)
        button = page.get_by_role("button", name="count", exact=True)
        expect(button).to_have_attribute(
            "title", re.compile(r"too large to be counted unasked: at least \d+ kB to read")
        )
        button.click()
        expect(page.locator(f"{ROWS} .tasks")).to_contain_text("100 waiting")


def test_a_session_that_could_not_be_read_is_asked_for_again_and_only_then_said_to_be_unreadable(
    browser: Browser, site: Site
) -> None:
    line = {"summary": None, "too_large": None}
    refusals = 1
    asked = 0

    def uncounted(route: Route) -> None:
        page = route.fetch().json()
        route.fulfill(json=page | {"sessions": [each | line for each in page["sessions"]]})

    def summary(route: Route) -> None:
        nonlocal asked
        asked += 1
        if asked > refusals:
            route.continue_()
        else:
            route.fulfill(status=503, json={"result": False, "msg": "away", "data": {}})

    with visit(browser, site.server.base) as visited:
        visited.page.route("**/v1/sessions*", uncounted)
        visited.page.route("**/v1/summary*", summary)
        page = visited.open("/?search=c1/", ROWS)
        expect(page.locator(f"{ROWS} .col-tasks")).not_to_contain_text("unreadable")
        expect(page.locator(f"{ROWS} .tasks")).to_contain_text("failed", timeout=20_000)

        asked, refusals = 0, 2
        page.reload()
        expect(page.locator(f"{ROWS} .col-tasks")).to_contain_text("unreadable", timeout=20_000)
        expect(page.locator(f"{ROWS} .tasks")).to_contain_text("failed", timeout=30_000)
        visited.faults.clear()


def test_what_a_newer_list_says_of_a_session_stands_whatever_was_counted_before(browser: Browser, site: Site) -> None:
    said = {"status": "ended", "length_ms": 60_000}

    def listed(route: Route) -> None:
        page = route.fetch().json()
        own = {"summary": None, "ended_ms": None, **said}
        route.fulfill(json=page | {"sessions": [each | own for each in page["sessions"]]})

    with visit(browser, site.server.base) as visited:
        visited.page.route("**/v1/sessions*", listed)
        page = visited.open("/?search=c1/", f"{ROWS} .tasks")
        said |= {"status": "live", "length_ms": 3_600_000}
        expect(page.locator(f"{ROWS} .col-status")).to_contain_text("live", timeout=20_000)
        expect(page.locator(f"{ROWS} .col-length")).to_contain_text("1 h")


def test_how_old_the_counts_of_a_live_session_are_is_said(browser: Browser, site: Site) -> None:
    with visit(browser, site.server.base) as visited:
        page = visited.open(f"/?search=c{LIVE}/", f"{ROWS} .tasks")
        expect(page.locator(f"{ROWS} .tasks")).to_contain_text(re.compile(r"\d min ago"))


@pytest.mark.parametrize("size", [WIDE, NARROW, PHONE], ids=["wide", "narrow", "phone"])
def test_everyone_can_use_it(browser: Browser, site: Site, size: dict[str, int]) -> None:
    with visit(browser, site.server.base, viewport=size) as visited:
        page = visited.open("/?failed=1", f"{ROWS} .tasks")
        assert serious_faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=f"{folder}/failed-{size['width']}.png")
            visited.open("/?sort=-failed", f"{ROWS} .tasks").screenshot(path=f"{folder}/all-{size['width']}.png")

"""Where tokens are set a browser is asked for one, once, and led back to where it wanted to be. In a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from starlette.types import ASGIApp
from support.browser import Served, chromium, served, visit
from support.sessions import KEY, SegmentWriter, WrappedStore, tasks

from api.app import create_app
from api.auth import digest
from api.dashboard import find_builds
from pipeline.config import ServerConfig, StoreConfig, Token

pytestmark = pytest.mark.timeout(120)

TOKEN = "opens-this-server"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    store = WrappedStore()

    async def make() -> ASGIApp:
        config = ServerConfig(store=StoreConfig(url="memory://"), tokens=(Token(digest=digest(TOKEN)),))
        return create_app(config, store)

    async def fill() -> None:
        writer = SegmentWriter(store)
        await writer.begin(ended_ms=1_768_532_400_000)
        await writer.write(tasks(3))

    with served(make) as made:
        made.call(fill)
        yield made


@pytest.mark.parametrize(
    ("path", "shown"), [(f"/sessions/{KEY}/overview?x=1#durations", "#durations"), ("/", "#sessions tbody tr")]
)
def test_who_says_the_token_sees_the_page_that_was_asked_for(
    browser: Browser, server: Served, path: str, shown: str
) -> None:
    with visit(browser, server.base) as visited:
        page = visited.open(path, "#token")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector(shown)
        assert page.url.split("#")[0] == f"{server.base}{path.split('#')[0]}"
        page.reload()
        page.wait_for_selector(shown)
        assert page.evaluate("document.cookie") == ""


def test_a_wrong_token_is_said_to_be_one(browser: Browser, server: Served) -> None:
    with visit(browser, server.base, faults=True) as visited:
        page = visited.open("/", "#token")
        page.fill("#token", "opens-nothing")
        page.keyboard.press("Enter")
        expect(page.locator("#problem")).to_have_text("That token opens nothing here.")
        page.fill("#token", "tökenß€")
        page.keyboard.press("Enter")
        expect(page.locator("#problem")).to_contain_text("can't be a token")


@pytest.mark.parametrize("to", ["https://elsewhere.example/", "//elsewhere.example/", "javascript:alert(1)"])
def test_the_way_back_never_leads_elsewhere(browser: Browser, server: Served, to: str) -> None:
    with visit(browser, server.base) as visited:
        page = visited.open(f"/token?next={to}", "#token")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#sessions tbody tr")
        assert page.url == f"{server.base}/"


@pytest.mark.skipif(not find_builds(None, None), reason="needs the pages of a Ray beside it")
def test_the_official_pages_open_with_it(browser: Browser, server: Served) -> None:
    with visit(browser, server.base, faults=True) as visited:
        page = visited.open(f"/sessions/{KEY}/", "#token")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="Cluster", exact=True)).to_be_visible()
        assert [fault for fault in visited.faults if "401" in fault or "403" in fault] == []

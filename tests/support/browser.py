"""A real Chromium before a real server: pages are opened, used and looked at as a person would.

Sync Playwright, so tests of pages are plain functions; the server runs in an event loop of its own thread. A
page that logs an error, or asks for something it doesn't get, fails its test unless the test says it expects that.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal
from axe_playwright_python.sync_playwright import Axe
from msgspec import Struct
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Response, sync_playwright
from starlette.types import ASGIApp
from support.skips import need

from api.cli.run import address, listen, serve_http

CHROMIUM = os.environ.get("RAY_HISTORY_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 10_000
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 800, "height": 900}
PHONE = {"width": 390, "height": 844}
TINY = {"width": 320, "height": 640}
"""What WCAG 1.4.10 has pages fit into: a window of 1280 at 400 %."""
SERIOUS = ("serious", "critical")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; a test without one is skipped."""
    need(Path(CHROMIUM).exists(), f"no Chromium at {CHROMIUM}")
    playwright: Playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        try:
            yield browser
        finally:
            browser.close()


class Served(Struct):
    """A server under way. ``call`` runs a coroutine function in its event loop, for a test that isn't in one."""

    base: str
    call: Callable[[Callable[[], Awaitable[None]]], None]


@contextmanager
def served(make: Callable[[], Awaitable[ASGIApp]]) -> Iterator[Served]:
    """The application that ``make`` gives, answering on a free port of this machine."""
    with listen("127.0.0.1", 0) as listener, start_blocking_portal() as portal:
        app, stop = portal.call(make), portal.call(anyio.Event)
        running = portal.start_task_soon(serve_http, app, listener, stop)
        try:
            yield Served(address(listener), portal.call)
        finally:
            portal.call(stop.set)
            running.result(timeout=30)


class Visit:
    """One page in a context of its own, and what went wrong on it."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.base = base
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.faults: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("response", self._response)
        self.page.on("dialog", self._dialog)

    def open(self, path: str, ready: str) -> Page:
        """Go there and wait until ``ready`` (a selector) is seen."""
        self.page.goto(self.base + path)
        self.page.wait_for_selector(ready)
        return self.page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")

    def _response(self, response: Response) -> None:
        self.hosts.add(response.url.split("/")[2])
        if response.status >= 400:
            self.faults.append(f"{response.status} {response.url}")

    def _dialog(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@contextmanager
def visit(browser: Browser, base: str, *, faults: bool = False, **context: Any) -> Iterator[Visit]:
    """A visit to ``base``. Nothing may go wrong on it, nor may it speak to anyone else, unless ``faults``."""
    opened = browser.new_context(**{"viewport": WIDE, "timezone_id": "UTC", "locale": "en-GB", **context})
    try:
        visited = Visit(opened, base)
        yield visited
        if not faults:
            assert visited.faults == []
        assert visited.hosts <= {base.split("/")[2]}
    finally:
        opened.close()


def serious_faults(page: Page) -> list[str]:
    """What axe calls serious or critical, in its words."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {fault['help']}: {node['html'][:160]} ({' '.join(node.get('failureSummary', '').split())[:200]})"
        for fault in found
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]

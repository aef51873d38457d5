"""The pages in a real Chromium: they show what is there as text, work from the keyboard, and log no error.

A visit fails its test where the console shows an error, a request fails or leaves the server (``support.browser``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from anyio import to_thread
from playwright.sync_api import Browser, Page, expect
from starlette.types import ASGIApp, Receive, Scope, Send
from support.browser import NARROW, PHONE, TINY, WIDE, Served, chromium, serious_faults, served, visit
from support.captures import DATA, head_node
from support.recorded_store import put_recording
from support.sessions import JOB, SegmentWriter, WrappedStore, defined_task, event, finished_task, task_states, tasks
from support.streams import StubStream

from api.app import create_app
from pipeline.config import LogConfig, ServerConfig, StoreConfig
from pipeline.layout import SessionKey
from pipeline.logs.logs import LogFollower
from pipeline.stores.patience import Patience

pytestmark = pytest.mark.timeout(120)

EXPECTED = json.loads((DATA / "posted" / "expected.json").read_bytes())
RECORDS = 1_768_528_800_000  # the time of the first record of any made by hand
NOW = RECORDS + 60_000
OTHERS = 60
HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>'
HOSTILE_KEY = SessionKey("evil", "c", "session_2026-01-16_01-00-00_000000_1")
LIVE_KEY = SessionKey("default", "grows", "session_2026-01-16_02-00-00_000000_1")
FAILED_JOB = SessionKey("evil", "job", "session_2026-01-16_00-00-00_000000_1")
DRIVER_SAID = "Job entrypoint command failed with exit code 1, last available logs:\nTraceback (most recent call last):\n  File \"a.py\", line 1, in <module>\nKeyError: 'epochs'"
WORKERS_LOG = "worker-fac6e0a86610a5774f5caf44cf44b998caf573ddc4ce8a7a4d59415a-02000000-25784.err"
"""Of the worker that ran the task ``fails`` of the exported session."""
WORKER_SAID = "".join(f"line {number}\n" for number in range(50))


class Site:
    """A server whose store the test holds, too."""

    def __init__(self) -> None:
        self.store = WrappedStore()
        self.stream: StubStream
        self.server: Served
        self.recorded = self.exported = LIVE_KEY
        self.live = SegmentWriter(self.store, LIVE_KEY)

    @property
    def base(self) -> str:
        return self.server.base

    async def make(self) -> StubStream:
        config = ServerConfig(store=StoreConfig(url="memory://"), refresh=0.0, backfill_bytes=0)
        app = create_app(config, self.store)
        app.state.overviews.now_ms = lambda: NOW
        self.stream = StubStream(app)
        return self.stream

    async def fill(self) -> None:
        self.recorded = await put_recording(
            self.store, DATA / "posted", "default", "demo", ended_ms=RECORDS, owner_kind="RayJob", owner_name="nightly"
        )
        self.exported = await put_recording(self.store, DATA / "export", "default", "demo-export", ended_ms=RECORDS)
        await self._logs()
        await self.live.begin(owner_kind="RayCluster", owner_name="grows")
        await self.live.write(tasks(3), created_ns=NOW * 1_000_000)
        for number in range(OTHERS):
            key = SessionKey("team", f"cluster-{number}", f"session_2026-01-10_00-{number:02d}-00_000000_1")
            writer = SegmentWriter(self.store, key)
            await writer.begin(ended_ms=RECORDS - 1000 * number)
            states = ("RUNNING", "FAILED") if number == 7 else ("RUNNING", "FINISHED")
            await writer.write(defined_task(1) + task_states(1, *states))
        await self._failed_job()
        await self._hostile()

    async def _failed_job(self) -> None:
        writer = SegmentWriter(self.store, FAILED_JOB)
        await writer.begin(ended_ms=RECORDS)
        told = {
            "submission_job_id": "raysubmit_1",
            "status": "FAILED",
            "entrypoint": "python a.py",
            "message": DRIVER_SAID,
        }
        line = {"event_id": "1", "timestamp": 1, "source_type": "EXPORT_SUBMISSION_JOB", "event_data": told}
        await writer.write([json.dumps(line).encode() + b"\n"], dialect="export_api")

    async def _hostile(self) -> None:
        writer = SegmentWriter(self.store, HOSTILE_KEY)
        await writer.begin(ended_ms=RECORDS, owner_kind=HOSTILE, owner_name=HOSTILE)
        (failure,) = task_states(2, "RUNNING", "FAILED")
        told = json.loads(failure)
        told["taskLifecycleEvent"]["rayErrorInfo"] = {"errorType": "TASK_EXECUTION_EXCEPTION", "errorMessage": HOSTILE}
        job = {"jobId": "AQAAAA==", "driverPid": "1", "config": {"entrypoint": HOSTILE}, "entrypoint": HOSTILE}
        driver = event("DRIVER_JOB_DEFINITION_EVENT", "driverJobDefinitionEvent", job)
        lines = [*finished_task(1, HOSTILE), *defined_task(2, HOSTILE), json.dumps(told).encode() + b"\n", driver]
        await writer.write(lines)

    async def _logs(self) -> None:
        """Two log files of the exported session, stored as a collector does."""
        with TemporaryDirectory() as name:
            folder = Path(name) / self.exported.session / "logs"
            await to_thread.run_sync(partial(folder.mkdir, parents=True))
            await to_thread.run_sync((folder / "raylet.out").write_text, "what the raylet said\n")
            await to_thread.run_sync((folder / WORKERS_LOG).write_text, WORKER_SAID)
            node, patience = head_node(DATA / "export"), Patience(self.store)
            following = LogFollower(LogConfig(), self.store, patience, self.exported, node, Path(name), until="read")
            await following.run()

    def grow(self, first: int) -> None:
        """Ten more tasks in the session that lives."""

        async def write() -> None:
            await self.live.write(tasks(10, first=first), created_ns=NOW * 1_000_000)

        self.server.call(write)

    def fail(self, first: int, message: str = "first") -> None:
        """One more of its tasks fails."""
        (told,) = task_states(first, "RUNNING", "FAILED")
        failure = json.loads(told)
        error = {"errorType": "TASK_EXECUTION_EXCEPTION", "errorMessage": message}
        failure["taskLifecycleEvent"]["rayErrorInfo"] = error
        lines = [*defined_task(first), json.dumps(failure).encode() + b"\n"]

        async def write() -> None:
            await self.live.write(lines, created_ns=NOW * 1_000_000)

        self.server.call(write)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site()
    with served(made.make) as made.server:
        made.server.call(made.fill)
        yield made


def at(key: SessionKey, rest: str) -> str:
    return f"/sessions/{key}/{rest}"


def counted(page: Page) -> None:
    """Wait until every session on the page was counted."""
    expect(page.locator("#sessions .col-tasks .tasks")).to_have_count(page.locator("#sessions tbody tr").count())


PAGES = {
    "sessions": (lambda site: "/", "#sessions tbody .tasks"),
    "session": (lambda site: at(site.recorded, "overview"), "#durations"),
    "tail": (lambda site: at(site.recorded, "tail"), "#link[data-state=open]"),
    "token": (lambda site: "/token", "#token"),
    "compare": (lambda site: f"/compare?a={site.recorded}&b={site.exported}", "#compared tbody tr"),
}


@pytest.mark.parametrize(
    ("size", "scheme"),
    [(WIDE, "light"), (WIDE, "dark"), (NARROW, "dark"), (PHONE, "light"), (TINY, "light")],
    ids=["wide-light", "wide-dark", "narrow-dark", "phone-light", "tiny-light"],
)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_a_fault_and_everyone_can_use_it(
    browser: Browser, site: Site, name: str, size: dict[str, int], scheme: str
) -> None:
    path, ready = PAGES[name]
    with visit(browser, site.base, viewport=size, color_scheme=scheme) as visited:
        page = visited.open(path(site), ready)
        if name == "sessions":
            counted(page)
        if name == "tail":
            for number in range(40):
                site.stream.push("task", number, name="work", state="FAILED" if number % 2 else "RUNNING", job_id="01")
            expect(page.locator("#rows li")).to_have_count(40)
        assert serious_faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(part => part < 60)")
        assert dark is (scheme == "dark")


# -- all sessions -----------------------------------------------------------------------------


def test_sessions_are_counted_as_they_come_into_sight_and_failures_strike_the_eye(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open("/", "#sessions tbody tr")
        expect(page.locator("#said")).to_have_text(f"{OTHERS + 5} sessions")
        expect(page.locator("#sessions tbody tr")).to_have_count(50)
        counted(page)
        row = page.locator(
            "#sessions tbody tr", has=page.get_by_role("link", name=f"demo, {site.recorded.session}", exact=True)
        )
        expect(row.locator(".status")).to_have_text("ended")
        expect(row.locator(".col-owner")).to_have_text("RayJob nightly")
        expect(row.locator(".pill.bad")).to_have_text(f"{EXPECTED['tasks_by_state']['FAILED']} failed")
        assert "failed" in (row.get_attribute("class") or "")
        assert row.get_by_role("link", name="Ray dashboard").get_attribute("href") == site.base + at(site.recorded, "")
        expect(page.locator(".status.live")).to_have_count(1)


def test_searching_filtering_sorting_and_paging_ask_the_server_and_stay_in_the_address(
    browser: Browser, site: Site
) -> None:
    rows = "#sessions tbody tr"
    with visit(browser, site.base) as visited:
        page = visited.open("/", rows)
        page.get_by_role("button", name="Next").click()
        expect(page.locator("#range")).to_have_text(f"51–{OTHERS + 5}")
        expect(page.get_by_role("button", name="Next")).to_be_disabled()
        page.get_by_role("button", name="Previous").click()
        expect(page.locator("#range")).to_have_text("1–50")
        page.get_by_label("Search sessions").fill("cluster-1 team")
        expect(page.locator(rows)).to_have_count(11)
        expect(page.locator("#said")).to_have_text(f"11 of {OTHERS + 5} sessions")
        assert "search=cluster-1+team" in page.url
        page.get_by_label("Search sessions").fill("")
        page.get_by_label("Namespace").select_option("default")
        expect(page.locator(rows)).to_have_count(3)
        page.get_by_role("button", name="live").click()
        expect(page.locator(rows)).to_have_count(1)
        page.reload()
        expect(page.locator(rows)).to_have_count(1)
        expect(page.get_by_role("button", name="live")).to_have_attribute("aria-pressed", "true")
        page.goto(f"{site.base}/?namespace=team")
        page.get_by_role("button", name="Cluster").click()
        expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "ascending")
        expect(page.locator(rows).first).to_contain_text("cluster-0")
        expect(page.get_by_role("button", name="Cluster")).to_be_focused()
        page.get_by_label("Search sessions").fill("no such thing")
        expect(page.locator("#empty")).to_have_text("No session matches.")


def test_the_list_updates_itself_and_leaves_the_focus_where_it_is(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        visited.page.clock.install()
        page = visited.open("/?search=grows", "#sessions tbody .tasks")
        finished = page.locator(".tasks .rest")
        before = int((finished.text_content() or "").split()[0])
        page.keyboard.press("j")
        expect(page.locator("[data-part=open]")).to_be_focused()
        site.grow(first=1000)
        with page.expect_response("**/v1/summary"):
            page.clock.run_for(6000)
        expect(finished).to_have_text(f"{before + 10} finished")
        expect(page.locator("[data-part=open]")).to_be_focused()


def test_a_store_that_goes_away_is_said_and_forgotten_when_it_is_back(browser: Browser, site: Site) -> None:
    with visit(browser, site.base, faults=True) as visited:
        visited.page.clock.install()
        page = visited.open("/", "#sessions tbody tr")
        site.store.fail("no route to host")
        try:
            page.clock.run_for(6000)
            expect(page.locator("#problem")).to_contain_text("no route to host")
            expect(page.locator("#sessions tbody tr")).to_have_count(50)
        finally:
            site.store.down = None
        page.clock.run_for(12000)
        expect(page.locator("#problem")).to_be_hidden()


def test_two_sessions_are_marked_and_compared_older_first(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open("/?namespace=default", "#sessions tbody .tasks")
        counted(page)
        compare = page.locator("#compare")
        expect(compare).to_be_disabled()
        page.get_by_label(re.compile(f"^Compare demo-export {site.exported.session}")).check()
        expect(compare).to_have_text("Compare: one more")
        page.get_by_label(re.compile(f"^Compare demo {site.recorded.session}")).check()
        compare.click()
        page.wait_for_selector("#compared tbody tr")
        assert page.locator("#a").input_value() == str(site.recorded)
        assert page.locator("#b").input_value() == str(site.exported)


# -- keyboard and theme -----------------------------------------------------------------------


def test_the_list_can_be_used_from_the_keyboard_alone(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open("/?namespace=default", "#sessions tbody .tasks")
        counted(page)
        press = page.keyboard.press
        press("/")
        expect(page.get_by_label("Search sessions")).to_be_focused()
        page.keyboard.type("demo jk?t")  # in a field these are letters
        expect(page.get_by_label("Search sessions")).to_have_value("demo jk?t")
        expect(page.locator("#keys")).to_be_hidden()
        page.get_by_label("Search sessions").fill("demo")
        expect(page.locator("#sessions tbody tr")).to_have_count(2)
        press("Escape")
        for key, place in (("j", 0), ("j", 1), ("j", 1), ("k", 0)):
            press(key)
            expect(page.locator("[data-part=open]").nth(place)).to_be_focused()
        press("x")
        press("j")
        press("x")
        expect(page.locator("[data-part=pick]:checked")).to_have_count(2)
        press("k")
        press("Enter")
        page.wait_for_selector("#durations")
        assert page.url.endswith("/overview")
        press("u")
        page.wait_for_selector("#sessions tbody tr")


@pytest.mark.parametrize("name", PAGES.keys() - {"token"})  # which begins in its field, as it should
def test_tabbing_reaches_everything_in_order_and_the_focus_is_always_seen(
    browser: Browser, site: Site, name: str
) -> None:
    path, ready = PAGES[name]
    with visit(browser, site.base) as visited:
        page = visited.open(path(site), ready)
        seen: list[dict[str, Any]] = []
        for _ in range(14):
            page.keyboard.press("Tab")
            seen.append(page.evaluate(FOCUSED))
        assert [item["tag"] for item in seen].count("BODY") == 0
        assert [item for item in seen if item["outline"] == "none" or item["width"] == "0px"] == []
        assert seen[0]["text"] == "Skip to content"
        tops = [item["top"] for item in seen[1:6]]
        assert max(tops) - min(tops) < 30, "the header comes first, from left to right"
        assert [item["left"] for item in seen[1:4]] == sorted(item["left"] for item in seen[1:4])


FOCUSED = """() => {
  const element = document.activeElement, style = getComputedStyle(element), box = element.getBoundingClientRect();
  return {tag: element.tagName, text: element.textContent.trim().slice(0, 40), outline: style.outlineStyle,
          width: style.outlineWidth, top: box.top, left: box.left};
}"""


def test_the_keys_are_told_and_the_theme_chosen_stays(browser: Browser, site: Site) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with visit(browser, site.base, color_scheme="light") as visited:
        page = visited.open("/", "#sessions tbody tr")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        assert serious_faults(page) == []
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        light = page.evaluate(background)
        page.keyboard.press("t")
        expect(page.locator("#theme")).to_have_attribute("aria-label", "Theme: light")
        page.keyboard.press("t")
        expect(page.locator("#theme")).to_have_attribute("aria-label", "Theme: dark")
        dark = page.evaluate(background)
        assert dark != light
        page = visited.open(at(site.recorded, "overview"), "#durations")
        assert page.evaluate(background) == dark
        page.keyboard.press("t")
        expect(page.locator("#theme")).to_have_attribute("aria-label", "Theme: auto")
        assert page.evaluate(background) == light


# -- hostile content --------------------------------------------------------------------------


def test_markup_in_names_errors_and_owners_is_shown_as_text(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open("/?namespace=evil&search=evil/c/", "#sessions tbody .tasks")
        expect(page.locator("td.col-owner")).to_have_text(f"{HOSTILE} {HOSTILE}")
        _is_harmless(page)
        page = visited.open(at(HOSTILE_KEY, "overview"), "#durations")
        page.locator("#failures ~ * summary, section[aria-labelledby=failures] summary").first.click()
        for where in ("failures", "durations", "jobs"):
            expect(page.locator(f"section[aria-labelledby={where}]")).to_contain_text(HOSTILE)
        expect(page.locator("section[aria-labelledby=failures] pre")).to_have_text(HOSTILE)
        _is_harmless(page)
        page = visited.open(f"/compare?a={HOSTILE_KEY}&b={site.recorded}", "#compared tbody tr")
        expect(page.locator("#compared")).to_contain_text(HOSTILE)
        _is_harmless(page)
        page = visited.open(at(HOSTILE_KEY, "tail"), "#link[data-state=open]")
        site.stream.push("task", 1, name=HOSTILE, state=HOSTILE, error_message=HOSTILE, job_id=HOSTILE, node_id=HOSTILE)
        site.stream.push("log", 2, message=HOSTILE, severity=HOSTILE)
        site.stream.push_raw(f"event: task\ndata: {HOSTILE}\n\n")
        site.stream.push_raw(
            'event: task\ndata: [1]\n\nevent: task\ndata: null\n\nevent: session\ndata: {"status": {}}\n\n'
        )
        expect(page.locator("#rows li")).to_have_count(6)
        page.locator("#rows summary").first.click()
        expect(page.locator("#rows li").first).to_contain_text(HOSTILE)
        _is_harmless(page)


def _is_harmless(page: Page) -> None:
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main script, main iframe, main [onerror]").count() == 0


@pytest.mark.parametrize(
    "mistake",
    [
        "document.querySelector('#said').innerHTML = '<b id=pwned></b>'",
        "document.head.append(Object.assign(document.createElement('script'), {textContent: 'window.pwned = 1'}))",
        "document.body.setAttribute('onclick', 'window.pwned = 1'); document.body.click()",
        "new Image().src = 'http://127.0.0.1:9/'",
    ],
)
def test_the_policy_stops_what_a_mistake_of_ours_would_let_in(browser: Browser, site: Site, mistake: str) -> None:
    with visit(browser, site.base, faults=True) as visited:
        page = visited.open("/", "#sessions tbody .tasks")
        assert visited.faults == []
        page.evaluate(f"() => {{ try {{ {mistake} }} catch (error) {{ console.error(error.message); }} }}")
        assert page.evaluate("window.pwned") is None
        assert page.locator("#pwned").count() == 0
        assert any(
            "Content Security Policy" in fault or "TrustedHTML" in fault or "TrustedScript" in fault
            for fault in visited.faults
        )


# -- one session ------------------------------------------------------------------------------


def test_a_session_shows_what_the_live_dashboard_counted(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open(at(site.recorded, "overview"), "#durations")
        expect(page.locator("h1")).to_have_text(site.recorded.session)
        tiles = {
            (tile.locator("span").text_content() or ""): int(tile.locator("b").text_content() or "")
            for tile in page.locator(".tile").all()
        }
        assert tiles == {state.lower().replace("_", " "): n for state, n in EXPECTED["tasks_by_state"].items()}
        expect(page.locator(".tile").first).to_contain_text("failed")
        expect(page.locator("main")).to_contain_text("Complete. 223 records, nothing known to be missing")
        expect(page.get_by_role("img", name=re.compile(r"Tasks over .* 11 failures"))).to_be_visible()
        failures = page.locator("section[aria-labelledby=failures]")
        expect(failures.locator("tbody tr").first).to_contain_text("ValueError: always fails")
        failures.locator("summary").first.click()
        expect(failures.locator("pre").first).to_contain_text('raise ValueError("always fails")')
        link = failures.get_by_role("link", name="in the Ray dashboard").first.get_attribute("href") or ""
        assert re.fullmatch(re.escape(site.base + at(site.recorded, "")) + r"#/jobs/02000000/tasks/[0-9a-f]{48}", link)
        expect(page.get_by_role("link", name="Ray dashboard").first).to_have_attribute(
            "href", site.base + at(site.recorded, "")
        )
        expect(page.get_by_role("link", name="Live tail").first).to_be_visible()


def test_every_curl_line_of_a_session_answers(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open(at(site.recorded, "overview"), "#durations")
        links = [link.get_attribute("href") or "" for link in page.locator(".curl a, a.tile, .said a").all()]
        links.remove("#failures")  # further down
        assert len(links) >= 10
        for link in links:
            assert page.request.get(link).status == 200, link


def test_a_nodes_log_files_are_asked_for_when_someone_opens_them(browser: Browser, site: Site) -> None:
    asked: list[str] = []
    with visit(browser, site.base) as visited:
        visited.page.on("request", lambda request: asked.append(request.url))
        page = visited.open(at(site.exported, "overview"), "#durations")
        assert not any("/api/v0/logs" in url for url in asked)
        page.locator("section[aria-labelledby=nodes] summary").click()
        link = page.locator("section[aria-labelledby=nodes] details").get_by_role("link", name="raylet.out")
        assert page.request.get(link.get_attribute("href") or "").text() == "what the raylet said\n"
        assert sum("/api/v0/logs?node_id=" in url for url in asked) == 1


def test_a_failures_error_and_the_end_of_its_log_are_two_clicks_from_the_list(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open("/?search=demo-export", "#sessions tbody .tasks")
        page.get_by_role("link", name="11 failed").click()
        page.wait_for_selector("#durations")
        row = page.locator("section[aria-labelledby=failures] tr", has_text="ValueError: always fails")
        row.locator("summary").click()
        expect(row.locator("pre").first).to_contain_text('raise ValueError("always fails")')
        expect(row).to_contain_text("the end of stderr of its worker")
        expect(row.locator("pre").nth(1)).to_have_text("\n".join(f"line {number}" for number in range(20, 50)))
        assert serious_faults(page) == []


def test_what_is_open_and_in_focus_stays_so_while_the_session_grows(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        visited.page.clock.install()
        page = visited.open(at(LIVE_KEY, "overview"), "#durations")
        failing = page.locator("section[aria-labelledby=failures]")
        finished = page.locator(".tile", has_text="finished").locator("b")
        site.fail(first=5000)
        page.clock.run_for(6000)
        failing.locator("summary").click()
        expect(failing.locator("pre")).to_have_text("first")
        before = int(finished.text_content() or "")
        site.grow(first=6000)
        site.fail(first=5001, message="first")
        page.clock.run_for(6000)
        expect(finished).to_have_text(str(before + 10))
        expect(failing.locator(".pill.bad")).to_have_text("2")
        expect(failing.locator("summary")).to_be_focused()
        expect(failing.locator("pre")).to_have_text("first")


def test_a_failed_job_stands_before_failed_tasks_with_what_its_driver_said(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open("/?search=evil/job", "#sessions .tasks")
        page.get_by_role("link", name="job failed").click()
        row = page.locator("section[aria-labelledby=failures] tbody tr").first
        expect(row.locator(".pill")).to_have_text("job")
        row.locator("summary").click()
        expect(row.locator("summary")).to_have_text("KeyError: 'epochs'")
        expect(row.locator("pre")).to_contain_text("Traceback")
        expect(row).to_contain_text("No log: ")


def test_logs_that_were_never_stored_are_said_in_rays_words(browser: Browser, site: Site) -> None:
    with visit(browser, site.base, faults=True) as visited:  # Ray's own answer is a 500 in plain text
        page = visited.open(at(site.recorded, "overview"), "#durations")
        page.locator("section[aria-labelledby=nodes] summary").click()
        place = page.locator("section[aria-labelledby=nodes] details")
        expect(place).to_contain_text("No log file can be listed: Agent for node id")


def test_run_times_sort_by_any_column_from_the_keyboard(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open(at(site.recorded, "overview"), "#durations")
        table = page.locator("section[aria-labelledby=durations]")
        names = table.locator("tbody td:first-child")
        expect(names.first).to_have_text("fan_out")
        table.get_by_role("button", name="Name").focus()
        page.keyboard.press("Enter")
        expect(table.get_by_role("button", name="Name")).to_be_focused()
        assert names.all_text_contents() == sorted(names.all_text_contents(), key=str.lower)
        table.get_by_role("button", name="Count").click()
        expect(names.first).to_have_text("Counter.add")


def test_a_session_that_grows_is_shown_as_it_is_now(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        visited.page.clock.install()
        page = visited.open(at(LIVE_KEY, "overview"), "#durations")
        expect(page.locator(".title .status")).to_have_text("live")
        before = int(page.locator(".tile", has_text="finished").locator("b").text_content() or "")
        site.grow(first=2000)
        page.clock.run_for(6000)
        expect(page.locator(".tile", has_text="finished").locator("b")).to_have_text(str(before + 10))


def test_latest_and_live_lead_to_the_session_of_that_moment(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open("/sessions/default/grows/latest/overview", "#durations")
        expect(page.locator("h1")).to_have_text(LIVE_KEY.session)
        assert f"/{LIVE_KEY.session}/tail" in (
            page.get_by_role("link", name="Live tail").nth(1).get_attribute("href") or ""
        )


def test_a_session_that_is_not_there_is_said(browser: Browser, site: Site) -> None:
    with visit(browser, site.base, faults=True) as visited:
        page = visited.open("/sessions/default/demo/session_none/overview", "#problem:not([hidden])")
        expect(page.locator("#problem")).to_contain_text("is not in memory://")
        page = visited.open("/compare?a=x&b=y", "#problem:not([hidden])")
        expect(page.locator("#problem")).to_contain_text("namespace/name/session")


# -- live tail --------------------------------------------------------------------------------


def test_events_appear_as_they_happen_and_pause_holds_them(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open(at(LIVE_KEY, "tail"), "#link[data-state=open]")
        rows = page.locator("#rows li")
        site.stream.push("task", 1, name="train", state="RUNNING", created_ms=RECORDS + 1234, job_id=JOB.hex())
        site.stream.push("actor", 2, class_name="Counter", state="ALIVE")
        site.stream.push("node", 3, node_ip="10.0.0.7", state="DEAD", state_message="Expected termination")
        expect(rows).to_have_count(3)
        expect(rows.nth(0)).to_contain_text(re.compile(r"^02:00:01\.234\s*task\s*running\s*train"))
        expect(rows.nth(2)).to_contain_text("Expected termination")
        page.keyboard.press("Space")
        expect(page.get_by_role("button", name="Go on")).to_have_attribute("aria-pressed", "true")
        for number in range(4, 9):
            site.stream.push("log", number, message=f"line {number}", severity="INFO")
        expect(page.locator("#counts")).to_contain_text("5 waiting")
        expect(rows).to_have_count(3)
        page.keyboard.press("Space")
        expect(rows).to_have_count(8)
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        expect(rows.last.locator("pre")).to_contain_text('"message": "line 8"')
        page.get_by_role("button", name="Clear").click()
        expect(rows).to_have_count(0)


def test_filters_are_the_servers_and_stay_in_the_address(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open(at(LIVE_KEY, "tail"), "#link[data-state=open]")
        assert site.stream.asked[-1] == {}
        for kind in ("node", "job", "worker", "log", "session"):
            page.get_by_label(kind, exact=True).uncheck()
        page.get_by_label("Name", exact=True).fill("train step")
        page.get_by_label("State").fill("FAILED")
        page.wait_for_url("**/tail?*state=FAILED*")
        page.wait_for_selector("#link[data-state=open]")
        wanted = {"kind": ["task,actor"], "name": ["train step"], "state": ["FAILED"]}
        assert site.stream.asked[-1] == wanted
        page.reload()
        page.wait_for_selector("#link[data-state=open]")
        assert site.stream.asked[-1] == wanted
        expect(page.get_by_label("node", exact=True)).not_to_be_checked()


def test_a_lost_connection_is_said_and_resumed_where_it_was(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open(at(LIVE_KEY, "tail"), "#link[data-state=open]")
        site.stream.push("task", 41, name="before", state="RUNNING")
        expect(page.locator("#rows li")).to_have_count(1)
        connections = len(site.stream.asked)
        with page.expect_request("**/live?"):
            site.stream.cut()
        expect(page.locator("#link")).to_have_text("Connected")
        assert len(site.stream.asked) == connections + 1
        assert site.stream.resumed[-1] == "41"
        site.stream.push_raw("event: resync\ndata: {}\n\n")
        site.stream.push("task", 50, name="after", state="RUNNING")
        expect(page.locator("#rows li.gap")).to_contain_text("Events were missed here")
        expect(page.locator("#rows li").last).to_contain_text("after")


def test_a_stream_that_is_refused_is_said_and_tried_again(browser: Browser, site: Site) -> None:
    with visit(browser, site.base, faults=True) as visited:
        visited.page.clock.install()
        site.stream.refuse = 503
        try:
            page = visited.open(at(LIVE_KEY, "tail"), "#link[data-state=waiting]")
            expect(page.locator("#link")).to_contain_text("The server gave no stream, trying again in 2 s")
        finally:
            site.stream.refuse = None
        page.clock.run_for(3000)
        expect(page.locator("#link")).to_have_text("Connected")
        expect(page.get_by_role("button", name="Connect now")).to_be_hidden()


def test_a_session_that_ends_is_said_and_not_asked_again(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        visited.page.clock.install()
        page = visited.open(at(LIVE_KEY, "tail"), "#link[data-state=open]")
        site.stream.push("session", 1, status="ended")
        expect(page.locator("#which .status")).to_have_text("ended")
        site.stream.refuse = 204
        try:
            site.stream.cut()
            expect(page.locator("#link")).to_have_text("The session has ended, nothing more will come")
            connections = len(site.stream.asked)
            page.clock.run_for(60_000)
            assert len(site.stream.asked) == connections
        finally:
            site.stream.refuse = None
        expect(page.get_by_role("button", name="Connect now")).to_be_hidden()


def test_the_servers_own_stream_plays_an_ended_session_again(browser: Browser, site: Site) -> None:
    failed = EXPECTED["tasks_by_state"]["FAILED"]
    site.stream.through = True
    try:
        with visit(browser, site.base) as visited:
            page = visited.open(at(site.recorded, "tail"), "#link[data-state=closed] ~ #replay:not([hidden])")
            page.get_by_role("button", name="Play it from the start").click()
            expect(page.locator("#rows li.task").first).to_be_visible()
            assert page.url.endswith("?since=0&speed=0")
            for kind in ("actor", "node", "job", "worker", "log", "session"):
                page.get_by_label(kind, exact=True).uncheck()
            page.get_by_label("State").fill("failed")
            # One failure is implied by its job's end: no record tells of it, so no stream does.
            expect(page.locator("#rows li.task")).to_have_count(failed - 1)
            expect(page.locator("#rows li.task").filter(has_text="always fails")).to_have_count(2)
    finally:
        site.stream.through = False


def test_a_flood_leaves_a_bounded_page_that_shows_the_newest(browser: Browser, site: Site) -> None:
    flood = 6000
    with visit(browser, site.base) as visited:
        page = visited.open(at(LIVE_KEY, "tail"), "#link[data-state=open]")
        site.stream.push_raw(
            "".join(f'id: {n}\nevent: task\ndata: {{"name": "t{n}", "state": "RUNNING"}}\n\n' for n in range(flood))
        )
        expect(page.locator("#counts")).to_contain_text("6,000 events")
        expect(page.locator("#rows li")).to_have_count(2000)
        expect(page.locator("#rows li").last).to_contain_text(f"t{flood - 1}")
        assert page.evaluate(
            "(() => { const s = document.querySelector('#stream'); return s.scrollHeight - s.scrollTop - s.clientHeight < 40; })()"
        )


def test_scrolling_up_stops_the_page_from_running_away(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open(at(LIVE_KEY, "tail"), "#link[data-state=open]")
        for number in range(200):
            site.stream.push("task", number, name=f"t{number}", state="RUNNING")
        expect(page.locator("#rows li")).to_have_count(200)
        page.locator("#stream").hover()
        page.mouse.wheel(0, -1500)
        expect(page.locator("#follow")).to_have_attribute("aria-pressed", "false")
        top = page.evaluate("document.querySelector('#stream').scrollTop")
        site.stream.push("task", 201, name="t201", state="RUNNING")
        expect(page.locator("#rows li")).to_have_count(201)
        assert page.evaluate("document.querySelector('#stream').scrollTop") == top
        page.keyboard.press("f")
        expect(page.locator("#follow")).to_have_attribute("aria-pressed", "true")
        assert page.evaluate("document.querySelector('#stream').scrollTop") > top


def test_space_on_a_control_is_the_controls_own(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open(at(LIVE_KEY, "tail"), "#link[data-state=open]")
        page.get_by_label("log", exact=True).focus()
        page.keyboard.press("Space")
        expect(page.get_by_label("log", exact=True)).not_to_be_checked()
        expect(page.locator("#pause")).to_have_attribute("aria-pressed", "false")


# -- comparison -------------------------------------------------------------------------------


def test_a_comparison_marks_what_differs_and_swaps_its_sides(browser: Browser, site: Site) -> None:
    with visit(browser, site.base) as visited:
        page = visited.open(f"/compare?a={site.recorded}&b={site.exported}", "#compared tbody tr")
        rows = page.locator("#compared tbody tr")
        differing = rows.count()
        first = rows.filter(has_text="never_fits")
        expect(first.locator("td.worse")).to_have_text(
            "2"
        )  # there it has two others' failures: that dialect doesn't name tasks
        expect(rows.filter(has_text="left-behind")).to_contain_text("only in A")
        page.get_by_role("button", name="Differences only").click()
        assert rows.count() > differing
        page.get_by_label("Search names").fill("never")
        expect(rows).to_have_count(1)
        page.keyboard.press("Escape")
        page.keyboard.press("s")
        expect(page.get_by_label("Search names")).to_have_value("never")
        page.get_by_label("Search names").fill("")
        page.wait_for_url(f"**/compare?a={str(site.exported).replace('/', '%2F')}*")
        expect(rows.filter(has_text="left-behind")).to_contain_text("only in B")


# -- around the pages -------------------------------------------------------------------------


class Stripping:
    """What a proxy does that serves the application below a path of its own."""

    def __init__(self, app: StubStream, prefix: str) -> None:
        self.app = app
        self.state = app.state
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith(self.prefix)
            scope = {**scope, "path": scope["path"].removeprefix(self.prefix)}
        await self.app(scope, receive, send)


def test_the_pages_work_below_any_path(browser: Browser, site: Site) -> None:
    prefix = "/tools/ray"

    async def behind() -> ASGIApp:
        return Stripping(await site.make(), prefix)

    with served(behind) as server, visit(browser, server.base) as visited:
        page = visited.open(f"{prefix}/?namespace=default", "#sessions tbody .tasks")
        counted(page)
        page.get_by_role("link", name=f"demo, {site.recorded.session}", exact=True).click()
        page.wait_for_selector("#durations")
        page.get_by_role("link", name="Live tail").first.click()
        page.wait_for_selector("#link[data-state=open]")
        page.get_by_role("link", name="Compare").click()
        expect(page.locator("#a")).to_be_visible()
        assert page.url.startswith(f"{server.base}{prefix}/compare")


def test_without_scripts_a_page_says_where_the_same_is(browser: Browser, site: Site) -> None:
    with visit(browser, site.base, java_script_enabled=False) as visited:
        page = visited.open("/", "noscript a")
        assert page.request.get(f"{site.base}/{page.locator('noscript a').get_attribute('href')}").status == 200

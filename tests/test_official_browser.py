"""The official pages in a real Chromium, for sessions that are over: every page shows its session, none goes blank.

Nothing may fail on them but the one request by which they learn that there are no platform events: they leave out
their menu entry on a 404 and on nothing else.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.types import ASGIApp, Receive, Scope, Send
from support.browser import Served, Visit, chromium, served, visit
from support.captures import DATA, live_rows, session_name
from support.play import play
from support.rayhead import fetch

from api.app import create_app
from api.dashboard import find_builds
from pipeline.config import ServerConfig, StoreConfig
from pipeline.stores.open_store import open_store

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not find_builds(None, None), reason="needs the pages of a Ray beside it"),
]

RECORDINGS = ("nodes", "tasks", "data", "serve")
EXPECTED_FAULT = "api/v0/platform_events"
EXPECTED_LINE = "error: Failed to load resource: the server responded with a status of 404 (Not Found)"


class Site:
    """Recorded sessions, collected and served. ``asked`` counts what reaches the server, by path."""

    def __init__(self, stores: dict[str, str]) -> None:
        self.server: Served
        self.asked: Counter[str] = Counter()
        self._stores = stores
        self._open = AsyncExitStack()

    async def make(self) -> ASGIApp:
        config = StoreConfig(url=self._stores["url"])
        app = create_app(ServerConfig(store=config), await self._open.enter_async_context(open_store(config)))
        app.add_middleware(Counted, self.asked)
        return app


class Counted:
    """Counts the requests that come in."""

    def __init__(self, app: ASGIApp, asked: Counter[str]) -> None:
        self._app = app
        self._asked = asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._asked[scope["path"]] += 1
        await self._app(scope, receive, send)


class Session:
    """One recording's session: where it stands, and what its own answers say there is to see."""

    def __init__(self, site: Site, name: str) -> None:
        self.name = session_name(DATA / name)
        self.at = f"/sessions/default/ray/{self.name}/"
        self._base = site.server.base + self.at
        self.jobs: list[dict[str, Any]] = self.ask("api/jobs/")
        self.job = next(job for job in self.jobs if job["type"] == "SUBMISSION")
        self.nodes = [each["raylet"] for each in self.ask("nodes?view=summary")["data"]["summary"]]
        self.actors: dict[str, dict[str, Any]] = self.ask("logical/actors")["data"]["actors"]
        self.tasks: list[dict[str, Any]] = self.ask("api/v0/tasks?detail=1&limit=10000")["data"]["result"]["result"]

    def ask(self, path: str) -> Any:
        return json.loads(fetch(self._base + path)[1])

    def node(self, state: str) -> str:
        return str(next(node["nodeId"] for node in self.nodes if node["state"] == state))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("official")
    for name in RECORDINGS:
        (folder / name).mkdir()
        [option] = play(DATA / name, folder / name)
        _merge(Path(option.removeprefix("--store=file://")), folder / "store")
    _log_on_every_node(folder / "store")
    made = Site({"url": f"file://{folder / 'store'}"})
    with served(made.make) as made.server:
        yield made


def _merge(store: Path, into: Path) -> None:
    for file in store.rglob("*"):
        if file.is_file():
            target = into / file.relative_to(store)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


def _log_on_every_node(store: Path) -> None:
    """Give the second node the logs too: being on one machine, both wrote into one folder, and it was read as the head's."""
    logs = store / "default" / "ray" / session_name(DATA / "nodes") / "logs"
    [head] = [each.name for each in logs.iterdir()]
    for node in live_rows(DATA / "nodes", "/api/v0/nodes?detail=1"):
        if node["node_id"] != head:
            shutil.copytree(logs / head, logs / node["node_id"])


@pytest.fixture(scope="module")
def nodes(site: Site) -> Session:
    return Session(site, "nodes")


@pytest.fixture(scope="module")
def tasks(site: Site) -> Session:
    return Session(site, "tasks")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@contextmanager
def look(browser: Browser, site: Site, session: Session) -> Iterator[Visit]:
    """A visit on which nothing goes wrong and nothing outside the session is asked for."""
    with visit(browser, site.server.base, faults=True, accept_downloads=True) as visited:
        outside: list[str] = []
        inside = site.server.base + session.at
        visited.page.on("request", lambda each: outside.append(each.url) if not each.url.startswith(inside) else None)
        yield visited
        wrong = [fault for fault in visited.faults if EXPECTED_FAULT not in fault and fault != EXPECTED_LINE]
        assert wrong == []
        assert len(visited.faults) <= 2
        assert outside == []


def shown(page: Page, *texts: str) -> None:
    """Each text stands on the page, and its navigation does: a page of Ray's that fails goes blank as a whole."""
    for text in ("Overview", "Jobs", "Logs", *texts):
        expect(page.get_by_text(text, exact=False).first).to_be_visible()


def test_the_overview_shows_jobs_status_and_events(browser: Browser, site: Site, nodes: Session) -> None:
    with look(browser, site, nodes) as visited:
        page = visited.open(nodes.at, "text=Recent jobs")
        shown(page, nodes.job["submission_id"], "Node Status", "No Deployments yet", "severity:")
        expect(page.get_by_text("Metrics", exact=True)).to_have_count(0)
        expect(page.get_by_text("Platform Events")).to_have_count(0)


def test_the_jobs_are_listed_with_their_tasks(browser: Browser, site: Site, nodes: Session) -> None:
    with look(browser, site, nodes) as visited:
        page = visited.open(f"{nodes.at}#/jobs", "text=Job List")
        for job in nodes.jobs:
            shown(page, job["job_id"], job["status"])


def test_a_job_shows_its_log_its_tables_and_what_became_of_its_tasks(
    browser: Browser, site: Site, tasks: Session
) -> None:
    with look(browser, site, tasks) as visited:
        page = visited.open(f"{tasks.at}#/jobs/{tasks.job['submission_id']}", "text=Ray Core Overview")
        shown(page, f"Total: {len([task for task in tasks.tasks if task['job_id'] == tasks.job['job_id']])}")
        shown(page, "Entrypoint", "Download trace file", "Running entrypoint for job")
        for name in ("Task Table", "Actor Table", "Placement Group Table"):
            page.get_by_text(name).click()
        shown(page, tasks.tasks[0]["task_id"])


def test_the_timeline_is_downloaded_as_a_chrome_trace(
    browser: Browser, site: Site, tasks: Session, tmp_path: Path
) -> None:
    with look(browser, site, tasks) as visited:
        page = visited.open(f"{tasks.at}#/jobs/{tasks.job['submission_id']}", "text=Download trace file")
        with page.expect_download() as waiting:
            page.get_by_text("Download trace file").click()
        file = tmp_path / "trace.json"
        waiting.value.save_as(file)
    assert re.fullmatch(rf"timeline-{tasks.job['job_id']}-[\d_-]+\.json", waiting.value.suggested_filename)
    assert {each["ph"] for each in json.loads(file.read_bytes())} == {"X", "M"}


def test_a_task_shows_its_times_its_error_and_its_own_part_of_the_log(
    browser: Browser, site: Site, tasks: Session
) -> None:
    attempts = Counter(task["task_id"] for task in tasks.tasks)
    once = [task for task in tasks.tasks if attempts[task["task_id"]] == 1]
    failed = next(task for task in once if task["state"] == "FAILED" and task["error_message"])
    done = next(task for task in once if task["state"] == "FINISHED" and task["task_log_info"])
    with look(browser, site, tasks) as visited:
        at = f"{tasks.at}#/jobs/{tasks.job['job_id']}/tasks/"
        page = visited.open(at + failed["task_id"], "text=Required resources")
        shown(page, failed["task_id"], failed["name"], "FAILED", "Error")
        page = visited.open(at + done["task_id"], f"text={done['task_id']}")
        shown(page, done["name"], "FINISHED", "Duration")
        expect(page.get_by_text("Error Type")).to_have_count(0)


def test_actors_are_listed_and_each_has_its_page(browser: Browser, site: Site, nodes: Session) -> None:
    with look(browser, site, nodes) as visited:
        page = visited.open(f"{nodes.at}#/actors", "text=TOTAL")
        shown(page, f"x {len(nodes.actors)}", *nodes.actors)
        for actor_id, actor in nodes.actors.items():
            page = visited.open(f"{nodes.at}#/actors/{actor_id}", "text=Tasks History")
            shown(page, actor_id, actor["className"], actor["state"])


def test_the_cluster_lists_its_nodes_and_the_processes_below_them(browser: Browser, site: Site, nodes: Session) -> None:
    with look(browser, site, nodes) as visited:
        page = visited.open(f"{nodes.at}#/cluster", "text=Node List")
        shown(page, f"TOTAL x {len(nodes.nodes)}", "ALIVE x 1", "DEAD x 1", "(Head)")
        page.locator("tbody tr").first.locator("button").first.click()
        shown(page, "Cluster")


@pytest.mark.parametrize("state", ["ALIVE", "DEAD"])
def test_a_node_has_its_page_with_all_tabs_even_where_a_live_dashboards_is_blank(
    browser: Browser, site: Site, nodes: Session, state: str
) -> None:
    with look(browser, site, nodes) as visited:
        page = visited.open(f"{nodes.at}#/cluster/nodes/{nodes.node(state)}", "text=Node Detail")
        shown(page, state, "Boot Time")
        expect(page.get_by_text("Invalid Date")).to_have_count(0)
        expect(page.get_by_text("NaN")).to_have_count(0)
        for tab in ("raylet", "worker", "actor", "info"):
            page.get_by_role("tab", name=re.compile(tab, re.IGNORECASE)).click()
            shown(page, "Node Detail")


@pytest.mark.parametrize("state", ["ALIVE", "DEAD"])
def test_the_logs_of_a_node_are_reached_from_its_page(browser: Browser, site: Site, nodes: Session, state: str) -> None:
    with look(browser, site, nodes) as visited:
        page = visited.open(f"{nodes.at}#/cluster/nodes/{nodes.node(state)}", "text=Node Detail")
        page.get_by_role("link", name="log", exact=True).click()
        page.wait_for_selector("text=Logs Viewer")
        shown(page, nodes.node(state))


def test_a_log_file_is_found_from_the_list_of_nodes_and_read(browser: Browser, site: Site, nodes: Session) -> None:
    name = f"job-driver-{nodes.job['submission_id']}.log"
    with look(browser, site, nodes) as visited:
        page = visited.open(f"{nodes.at}#/logs", "text=Select a node to view logs")
        page.get_by_text(nodes.node("ALIVE")).click()
        page.get_by_text(name, exact=True).click()
        page.wait_for_selector(f"text=File: {name}")
        shown(page, "Running entrypoint for job")


@pytest.mark.parametrize(
    ("route", "text"),
    [
        ("cluster/info", "Ray Version"),
        ("serve", "Serve not started"),
        ("serve/system", "Serve not started"),
        ("jobs/nobody", "Job Query Error"),
        ("jobs/nobody/info", "Jobs"),
        ("actors/00", "LOADING"),
        ("cluster/nodes/00", "Cluster"),
        ("jobs/02000000/tasks/00", "Jobs"),
        ("logs/?nodeId=00", "Logs Viewer"),
        ("metrics", "Overview"),
    ],
)
def test_no_page_goes_blank_not_even_of_what_isnt_there(
    browser: Browser, site: Site, nodes: Session, route: str, text: str
) -> None:
    with visit(browser, site.server.base, faults=True) as visited:
        page = visited.open(f"{nodes.at}#/{route}", "text=Overview")
        shown(page, text)
        assert [
            fault for fault in visited.faults if fault.startswith("error: ") and "Failed to load" not in fault
        ] == []


def test_ray_data_has_its_table_on_the_jobs_page(browser: Browser, site: Site) -> None:
    session = Session(site, "data")
    [dataset, *_] = session.ask(f"api/data/datasets/{session.job['job_id']}")["datasets"]
    with look(browser, site, session) as visited:
        page = visited.open(f"{session.at}#/jobs/{session.job['submission_id']}", "text=Ray Data Overview")
        shown(page, dataset["dataset"])


def test_serve_has_its_pages_with_its_applications_and_where_they_listen(browser: Browser, site: Site) -> None:
    session = Session(site, "serve")
    told = session.ask("api/serve/applications/")
    for route, texts in (
        ("serve", ("greeter", "broken", "DEPLOY_FAILED", "RUNNING", "Model", "Ingress")),
        ("serve/applications/broken", ("never healthy", "Broken")),
        (
            "serve/applications/greeter/Model",
            [each["replica_id"] for each in told["applications"]["greeter"]["deployments"]["Model"]["replicas"]],
        ),
        ("serve/system", ("HTTP Port", str(told["http_options"]["port"]), "HTTPProxyActor")),
    ):
        with visit(browser, site.server.base, faults=True) as visited:
            page = visited.open(f"{session.at}#/{route}", "text=Overview")
            shown(page, *texts)
            expect(page.get_by_text("undefined")).to_have_count(0)
            wrong = [each for each in visited.faults if each.startswith("error: ") and "Failed to load" not in each]
            assert wrong == []


def test_two_tabs_show_two_sessions_side_by_side(browser: Browser, site: Site, nodes: Session, tasks: Session) -> None:
    context = browser.new_context(viewport={"width": 1000, "height": 700})
    try:
        tabs = [(session, context.new_page()) for session in (nodes, tasks)]
        asked: dict[str, set[str]] = {session.name: set() for session, _ in tabs}
        for session, page in tabs:
            mine = asked[session.name]
            page.on("request", lambda each, mine=mine: mine.add(each.url.partition("/session_")[2].partition("/")[0]))
            page.goto(f"{site.server.base}{session.at}#/jobs")
        for _ in range(2):
            for session, page in tabs:
                page.bring_to_front()
                expect(page.get_by_text(session.job["submission_id"]).first).to_be_visible()
                with page.expect_response(re.compile("nodes")):
                    page.get_by_role("link", name="Cluster").first.click()
                expect(page.get_by_text(session.nodes[0]["nodeId"][:5]).first).to_be_visible()
                page.get_by_role("link", name="Jobs").first.click()
        assert asked == {session.name: {session.name.removeprefix("session_")} for session, _ in tabs}
    finally:
        context.close()


def test_polling_an_ended_session_costs_the_server_nothing(browser: Browser, site: Site, nodes: Session) -> None:
    path = f"{nodes.at}nodes"
    asks: list[str] = []
    with look(browser, site, nodes) as visited:
        visited.page.on("request", lambda each: asks.append(each.url))
        visited.open(f"{nodes.at}#/jobs", "text=Job List")
        before = site.asked[path]
        with visited.page.expect_request(
            lambda each: len([url for url in asks if "/nodes?" in url]) >= 3, timeout=30_000
        ):
            pass
        assert site.asked[path] == before

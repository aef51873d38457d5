"""A real Ray head started with ``--proxy-server-url`` shows recorded sessions on its own address, as Ray documents it."""

from __future__ import annotations

import http.cookiejar
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from support.captures import DATA
from support.play import play
from support.processes import Program, server, wait_for_session
from support.rayhead import RayHead, ray_head

RECORDING = DATA / "posted"
SESSION = (RECORDING / "session").read_text().strip()
EXPECTED = json.loads((RECORDING / "expected.json").read_bytes())

pytestmark = pytest.mark.timeout(180)


class Visitor:
    """Someone with a browser's cookies and nothing else."""

    def __init__(self, base: str) -> None:
        self.base = base
        jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with self._opener.open(self.base + path, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read()

    def json(self, path: str) -> Any:
        status, body = self.get(path)
        assert status == 200, body[:300]
        return json.loads(body)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("proxied")
    with server(play(RECORDING, folder), folder) as program:
        wait_for_session(program, SESSION)
        yield program


@pytest.fixture(scope="module")
def head(history: Program) -> Iterator[RayHead]:
    with ray_head("export", options=[f"--proxy-server-url={history.url}"]) as started:
        yield started


def test_a_head_answers_for_itself_until_a_session_is_entered_and_then_for_that(head: RayHead) -> None:
    visitor = Visitor(head.dashboard_url)
    assert visitor.json("/api/version")["session_name"] == head.session_name
    [listed] = visitor.json("/clusters")
    assert listed["sessionName"] == SESSION
    visitor.json(f"/enter_cluster/{listed['namespace']}/{listed['name']}/{SESSION}")
    assert visitor.json("/api/version")["session_name"] == SESSION
    tasks = visitor.json("/api/v0/tasks?limit=10000")["data"]["result"]["result"]
    assert len(tasks) == EXPECTED["tasks"]
    assert Visitor(head.dashboard_url).json("/api/version")["session_name"] == head.session_name


def test_its_own_address_shows_the_official_pages_with_all_they_load(head: RayHead) -> None:
    visitor = Visitor(head.dashboard_url)
    [listed] = visitor.json("/clusters")
    visitor.json(f"/enter_cluster/{listed['namespace']}/{listed['name']}/{SESSION}")
    status, page = visitor.get("/")
    assert (status, b"Ray Dashboard" in page) == (200, True)
    scripts = [part.split(b'"')[0].decode() for part in page.split(b'src="./')[1:]]
    assert scripts
    for script in scripts:
        status, body = visitor.get(f"/{script}")
        assert (status, len(body) > 10_000) == (200, True)


def test_its_own_health_stays_its_own(head: RayHead) -> None:
    visitor = Visitor(head.dashboard_url)
    [listed] = visitor.json("/clusters")
    visitor.json(f"/enter_cluster/{listed['namespace']}/{listed['name']}/{SESSION}")
    assert visitor.get("/api/gcs_healthz") == (200, b"success")

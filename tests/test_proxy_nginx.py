"""Behind a real nginx, set up as docs/live.md says, under a path of its own: pages, streams as they happen, WebSockets, pushes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import pytest
from support.captures import DATA, lay_out, live_answers, posts, session_name
from support.dashboard import dashboard, recorded
from support.play import post
from support.processes import Program, collector, on_disk, server, wait_for_session
from support.rayhead import RAY, fetch, free_ports, until
from support.skips import need

pytestmark = pytest.mark.timeout(120)

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "live.md"
CAPTURE = DATA / "tasks"
SESSION = f"sessions/default/ray/{session_name(CAPTURE)}"
[SUBMISSION, *_] = [job["submission_id"] for job in live_answers(CAPTURE)["/api/jobs/"][1] if job["submission_id"]]
AROUND = """
pid {folder}/pid;
error_log {folder}/error.log;
daemon off;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{documented}
}}
"""


@contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[str]:
    """The documented configuration before ``upstream``; where it answers."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    need(Path(program).exists(), "no nginx")
    [port] = free_ports(1)
    [documented] = re.findall(r"```nginx\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    here = documented.replace("http://ray-history:8080", upstream).replace("listen 80;", f"listen 127.0.0.1:{port};")
    assert here.count(upstream) == 1
    config = folder / "nginx.conf"
    config.write_text(AROUND.format(folder=folder, documented=here))
    with subprocess.Popen([program, "-e", f"{folder}/error.log", "-c", str(config)]) as running:
        try:
            url = f"http://127.0.0.1:{port}/history"
            until(lambda: running.poll() is None and fetch(f"{url}/livez")[0] == 200, "nginx to answer", timeout=20)
            yield url
        finally:
            running.terminate()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Program]]:
    """A session that is pushed by way of nginx, and its collector."""
    folder = tmp_path_factory.mktemp("nginx")
    lay_out(CAPTURE, folder / "ray")
    store = on_disk(folder / "store")
    with server(store, folder) as serving, nginx(folder, serving.url) as url, dashboard(recorded(CAPTURE)) as head:
        options = [f"--server={url}", f"--dashboard={head.url}", "--poll-interval=1s", "--log-age=1s"]
        with collector(store, folder, folder / "ray", *options) as collecting:
            wait_for_session(serving, session_name(CAPTURE))
            until(lambda: fetch(f"{url}/{SESSION}/api/jobs/{SUBMISSION}")[0] == 200, "the submission to be known")
            yield url, collecting


def test_an_event_passes_it_when_it_happens_pushed_by_way_of_it(site: tuple[str, Program]) -> None:
    url, collecting = site
    with urllib.request.urlopen(f"{url}/{SESSION}/live?kind=task", timeout=30) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        while stream.readline() != b"\n":  # what begins each stream
            pass
        for body in posts(CAPTURE):
            assert post(collecting, body) == 200
        line = next(line for line in stream if line.startswith(b"data: ") and b"task_id" in line)
    assert json.loads(line.removeprefix(b"data: "))["state"]


def test_rays_own_command_line_follows_a_log_through_it(site: tuple[str, Program]) -> None:
    url, _ = site
    command = [str(RAY), "job", "logs", "-f", SUBMISSION, "--address", f"{url}/{SESSION}"]
    environment = {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as client:
        try:
            assert client.stdout is not None
            until_there = next((line for line in client.stdout if line.startswith("Running entrypoint for job")), None)
        finally:
            client.kill()
    assert until_there is not None


@pytest.mark.parametrize("path", ["", f"{SESSION}/overview", f"{SESSION}/tail", "compare"])
def test_our_pages_name_nothing_outside_its_path(site: tuple[str, Program], path: str) -> None:
    url, _ = site
    status, body = fetch(f"{url}/{path}")
    assert status == 200
    named = re.findall(r'(?:href|src)="([^"#]+)"', body.decode())
    assert named
    for each in named:
        assert not each.startswith("/"), each


def test_a_redirect_stays_below_its_path(site: tuple[str, Program]) -> None:
    url, _ = site

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: object) -> None:
            return None

    with pytest.raises(urllib.error.HTTPError) as moved:
        urllib.request.build_opener(Stay).open(f"{url}/{SESSION}")
    moved.value.close()
    assert urljoin(f"{url}/{SESSION}", moved.value.headers["Location"]) == f"{url}/{SESSION}/"

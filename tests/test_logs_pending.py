"""``ray job logs -f`` of a submission that has no node yet: it waits, as at Ray, and shows the log from its beginning."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.captures import DATA, lay_out, live_answers, session_name
from support.dashboard import Answer, dashboard, recorded
from support.processes import Program, both_in_one, session_url
from support.rayhead import RAY, fetch, until

pytestmark = pytest.mark.timeout(90)

CAPTURE = DATA / "tasks"
[RUN, *_] = [job for job in live_answers(CAPTURE)["/api/jobs/"][1] if job["type"] == "SUBMISSION"]
NO_DRIVER = {
    "job_id": None,
    "driver_info": None,
    "driver_agent_http_address": None,
    "driver_node_id": None,
    "end_time": None,
}
PENDING = RUN | NO_DRIVER | {"submission_id": "waits", "status": "PENDING", "message": "Job has not started yet."}
LINES = [f"line {number}\n" for number in range(20)]


def said(job: dict[str, Any]) -> Answer:
    return 200, json.dumps([job]).encode()


class Watched:
    """A session whose dashboard says of its only submission what it is told to, and the submission's log on the disk."""

    def __init__(self, answers: dict[str, Answer], program: Program, log: Path) -> None:
        self.program, self.log = program, log
        self._answers = answers
        self.address = session_url(program, session_name(CAPTURE))

    def say(self, **changes: object) -> None:
        self._answers["/api/jobs/"] = said(PENDING | changes)

    def status(self) -> str:
        code, body = fetch(f"{self.address}/api/jobs/waits")
        return json.loads(body)["status"] if code == 200 else ""

    def follow(self) -> subprocess.Popen[str]:
        command = [str(RAY), "job", "logs", "-f", "waits", f"--address={self.address}"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={})


@contextmanager
def watched(tmp_path: Path) -> Iterator[Watched]:
    answers = recorded(CAPTURE) | {"/api/jobs/": said(PENDING)}
    lay_out(CAPTURE, tmp_path / "ray")
    with (
        dashboard(answers) as head,
        both_in_one(tmp_path, tmp_path / "ray", f"--dashboard={head.url}", "--poll-interval=1s") as program,
    ):
        [logs] = tmp_path.glob("ray/session_2*/logs")
        found = Watched(answers, program, logs / "job-driver-waits.log")
        until(lambda: found.status() == "PENDING", "the submission to be known", timeout=30)
        yield found


@contextmanager
def following(session: Watched) -> Iterator[subprocess.Popen[str]]:
    client = session.follow()
    try:
        yield client
    finally:
        if client.poll() is None:
            client.kill()
        client.communicate()


def test_a_pending_submissions_log_is_shown_once_it_runs(tmp_path: Path) -> None:
    with watched(tmp_path) as session, following(session) as client:
        time.sleep(4)
        assert client.poll() is None, client.communicate()

        with session.log.open("w") as log:
            log.writelines(LINES[:10])
            log.flush()
            session.say(status="RUNNING", driver_node_id=RUN["driver_node_id"], message="Job is currently running.")
            until(lambda: session.status() == "RUNNING", "the submission to run", timeout=30)
            log.writelines(LINES[10:])
        session.say(status="SUCCEEDED", driver_node_id=RUN["driver_node_id"], end_time=int(time.time() * 1000))
        out, _ = client.communicate(timeout=40)

        assert [line for line in out.splitlines(True) if line.startswith("line ")] == LINES, out
        assert "Job 'waits' succeeded" in out
        assert client.returncode == 0


def test_a_log_that_is_followed_by_its_submission_ends_with_it_while_the_session_goes_on(tmp_path: Path) -> None:
    with watched(tmp_path) as session:
        session.log.write_text("".join(LINES))
        session.say(status="RUNNING", driver_node_id=RUN["driver_node_id"])
        until(lambda: session.status() == "RUNNING", "the submission to run", timeout=30)
        asked = f"node_id={RUN['driver_node_id']}&submission_id=waits&lines=-1"
        with urllib.request.urlopen(f"{session.address}/api/v0/logs/stream?{asked}") as stream:
            assert stream.readline().decode() == LINES[0]
            session.say(status="SUCCEEDED", driver_node_id=RUN["driver_node_id"], end_time=int(time.time() * 1000))
            assert stream.read().decode() == "".join(LINES[1:])


def test_one_that_ends_without_ever_having_run_ends_the_command(tmp_path: Path) -> None:
    with watched(tmp_path) as session, following(session) as client:
        session.say(status="FAILED", message="Job supervisor actor failed to start.", end_time=int(time.time() * 1000))
        out, _ = client.communicate(timeout=40)

        assert "Job supervisor actor failed to start." in out
        assert client.returncode == 0


def test_a_server_that_stops_meanwhile_does_not_wait_for_it(tmp_path: Path) -> None:
    with watched(tmp_path) as session, following(session):
        time.sleep(3)
        assert session.program.stop(timeout=30) == 0, "Kubernetes waits no longer"
        assert "Traceback" not in session.program.log()

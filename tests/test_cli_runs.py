"""The commands as a user runs them: they start, say what they do, and end when told to."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.processes import PROGRAM, Program, collector, server
from support.rayhead import fetch, free_ports, until
from support.sessions import SESSION, running_task

ROOT = Path(__file__).resolve().parents[1]


def lines(program: Program) -> list[dict[str, object]]:
    """The log, one JSON object a line."""
    return [json.loads(line) for line in program.log().splitlines() if line.startswith("{")]


def event(program: Program, name: str) -> dict[str, object]:
    found = [line for line in lines(program) if line["event"] == name]
    assert found, program.log()
    return found[0]


def said(program: Program, name: str) -> None:
    until(lambda: f'"{name}"' in program.log(), name, timeout=20, pause=0.02)


def run(*arguments: str, timeout: float = 50) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PROGRAM), *arguments], capture_output=True, text=True, timeout=timeout, check=False)


@contextmanager
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def post(port: int, body: bytes) -> int:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def body() -> bytes:
    return b"[" + b",".join(line.rstrip() for line in running_task(1)) + b"]"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_its_store_is_and_ends_cleanly(tmp_path: Path, stop: signal.Signals) -> None:
    url = f"file://{tmp_path / 'store'}"
    with server(["--store", url], tmp_path) as program:
        said(program, "sessions found")
        assert event(program, "store reached")["store"] == url
        assert event(program, "answering")["address"] == program.url
        assert fetch(f"{program.url}/readyz")[0] == 200
        program._process.send_signal(stop)
        assert program.wait() == 0
        assert "Traceback" not in program.log()


def test_serve_without_its_store_says_so_in_one_line_and_goes_on(tmp_path: Path) -> None:
    with busy_port() as silent:
        endpoint = f"http://127.0.0.1:{silent}"
    options = ["--store", "s3://bucket", "--s3-endpoint", endpoint, "--s3-path-style"]
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}
    with server(options, tmp_path, environment=keys) as program:
        said(program, "store can't be reached, trying again")
        assert fetch(f"{program.url}/livez")[0] == 200
        for path in ("/readyz", "/clusters", "/sessions/a/b/c/api/v0/tasks"):
            status, text = fetch(f"{program.url}{path}")
            assert status == 503
            assert b"s3://bucket" in text or b"can't be reached" in text
        assert program.log().count("store can't be reached") == 1
        assert "Traceback" not in program.log()
        assert program.stop() == 0


def test_collect_keeps_what_was_posted_and_ends_with_0(tmp_path: Path) -> None:
    store = f"file://{tmp_path / 'store'}"
    with collector(["--store", store], tmp_path, tmp_path / "ray", "--node-id", "ab" * 28) as program:
        assert post(program.port, body()) == 200
        assert program.stop() == 0
        assert "Traceback" not in program.log()
    with server(["--store", store], tmp_path) as program:
        status, text = fetch(f"{program.url}/sessions/default/ray/{SESSION}/api/v0/tasks")
        assert status == 200, text
        assert [row["state"] for row in json.loads(text)["data"]["result"]["result"]] == ["RUNNING"]


def test_up_shows_what_was_posted_while_it_runs(tmp_path: Path) -> None:
    events_port, port = free_ports(2)
    arguments = [
        "up",
        f"--data-dir={tmp_path / 'home'}",
        f"--ray-tmp={tmp_path / 'ray'}",
        f"--port={port}",
        f"--events-port={events_port}",
        f"--node-id={'ab' * 28}",
        "--refresh=0s",
        "--segment-age=100ms",
    ]
    program = Program(arguments, port, tmp_path / "up.log", {})
    try:
        until(program.listening, "it to listen", timeout=30, pause=0.02)
        said(program, "taking posts")
        assert post(events_port, body()) == 200
        url = f"{program.url}/sessions/default/ray/live/api/v0/tasks"
        until(lambda: fetch(url)[0] == 200 and b"RUNNING" in fetch(url)[1], "the task", timeout=20)
        assert program.stop() == 0
        assert "Traceback" not in program.log()
        assert (tmp_path / "home" / "store" / "default" / "ray" / SESSION / "metadata.json").is_file()
    finally:
        program.end()


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with busy_port() as silent:
        endpoint = f"http://127.0.0.1:{silent}"
    options = ["--store", "s3://bucket", "--s3-endpoint", endpoint, "--s3-path-style"]
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}
    with collector(options, tmp_path, tmp_path / "ray", "--node-id", "ab" * 28, environment=keys) as program:
        assert post(program.port, body()) == 200
        program._process.send_signal(signal.SIGTERM)
        said(program, "stopping")
        program._process.send_signal(signal.SIGTERM)
        assert program.wait(timeout=10) == 1


@pytest.mark.parametrize("command", ["serve", "up", "demo"])
def test_a_busy_port_is_one_clear_line(tmp_path: Path, command: str) -> None:
    with busy_port() as port:
        extra = [] if command == "demo" else [f"--store=file://{tmp_path}/store"]
        extra += [f"--data-dir={tmp_path}", "--events-port=0"] if command == "up" else []
        done = run(command, f"--port={port}", *extra)
    assert done.returncode == 2
    assert done.stderr == (
        f"ray-history: 127.0.0.1:{port} is taken by another program: choose another port with --port\n"
    )


def test_a_busy_events_port_is_one_clear_line(tmp_path: Path) -> None:
    with busy_port() as port:
        done = run("collect", f"--store=file://{tmp_path}/s", f"--data-dir={tmp_path}/d", f"--events-port={port}")
    assert done.returncode == 2
    assert str(port) in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_data_dir_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("collect", f"--store=file://{tmp_path}/s", f"--data-dir={tmp_path}/file/data", "--events-port=0")
    assert done.returncode == 2
    assert done.stderr.startswith("ray-history: --data-dir")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("recording", ["posted", "export"])
def test_the_demo_checks_its_own_answers(recording: str) -> None:
    done = run("demo", "--once", f"--recording={ROOT / 'tests' / 'data' / recording}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo: all answers are right" in done.stdout
    assert done.stderr == ""


def test_the_demo_fails_where_an_answer_is_wrong(tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "wrong"
    shutil.copytree(ROOT / "tests" / "data" / "posted", copy)
    expected = json.loads((copy / "expected.json").read_text())
    (copy / "expected.json").write_text(json.dumps(expected | {"tasks": 1}))
    done = run("demo", "--once", f"--recording={copy}")
    assert done.returncode == 1
    assert f"WRONG  tasks: {expected['tasks']}, not 1" in done.stdout


def test_the_demo_prints_addresses_that_answer(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    program = Program(["demo", f"--port={port}"], port, tmp_path / "demo.log", {})
    try:
        until(lambda: "Ctrl-C" in program.log() and program.listening(), "the addresses", timeout=40)
        asked = [line.split("'")[1] for line in program.log().splitlines() if line.strip().startswith("curl")]
        assert len(asked) == 3
        for url in asked:
            until(lambda url=url: fetch(url)[0] == 200, url, timeout=10)
        assert program.stop() == 0
    finally:
        program.end()


def test_it_runs_as_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api", "--version"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.startswith("ray-history, version ")

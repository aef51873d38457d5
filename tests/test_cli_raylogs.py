"""``ray-history logs`` and ``ray-history timeline`` print what a served session's logs hold, and say in one line why not."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import click
import pytest
from support.captures import DATA, event_files, head_node, live_answers, session_name
from support.loggers import Clock
from support.processes import PROGRAM, server
from support.rayhead import fetch, until

from api.cli.commands import ray_history
from api.cli.raylogs import LogsGroup
from pipeline.config import LogConfig, StoreConfig
from pipeline.layout import SessionKey
from pipeline.logs.logs import LogFollower
from pipeline.read.source import EXPORT_EVENTS, first_line, source_id
from pipeline.segments.segment import Header, Span, pack
from pipeline.stores.catalog import new_metadata, write_metadata
from pipeline.stores.open_store import open_store
from pipeline.stores.patience import Patience

CAPTURE = DATA / "export"
NODE = head_node(CAPTURE)
KEY = SessionKey("default", "demo", session_name(CAPTURE))
IP = live_answers(CAPTURE)["/nodes?view=summary"][1]["data"]["summary"][0]["ip"]
SUBMISSION, *_ = [job["submission_id"] for job in live_answers(CAPTURE)["/api/jobs/"][1] if job["type"] == "SUBMISSION"]
LINES = [b"line %d\n" % n for n in range(3000)]
ODD = b"\x1b[32mna\xc3\xafve \xff\r\nend"
LATIN = "gr\xfc\xdfe\n"

Logs = Callable[..., subprocess.CompletedProcess[bytes]]


async def record(url: str, tmp_path: Path) -> None:
    """A session as a collector leaves it: its records, its logs, its end."""
    spans, blocks = [], []
    for file in event_files(CAPTURE, EXPORT_EVENTS.name):
        data = file.read_bytes()
        first, stem = first_line(data), EXPORT_EVENTS.stem(file.name)
        if first and stem:
            identity = source_id(EXPORT_EVENTS, stem, first)
            spans.append(Span(identity, EXPORT_EVENTS.dialect, 0, len(data), data.count(b"\n")))
            blocks.append(data)
    header = Header(KEY.namespace, KEY.cluster, KEY.session, NODE, 1, spans)
    folder = tmp_path / KEY.session / "logs"
    shutil.copytree(CAPTURE / "logs" / EXPORT_EVENTS.name, folder / EXPORT_EVENTS.name)
    (folder / "raylet.out").write_bytes(b"".join(LINES))
    (folder / "odd.log").write_bytes(ODD)
    (folder / "latin.log").write_bytes(LATIN.encode("latin-1"))
    (folder / f"worker-{'ab' * 28}-01000000-4242.out").write_bytes(b"from a worker\n")
    (folder / f"worker-{'ab' * 28}-01000000-4242.err").write_bytes(b"its errors\n")
    (folder / f"job-driver-{SUBMISSION}.log").write_bytes(b"from a driver\n")
    async with open_store(StoreConfig(url=url)) as store:
        await store.put(KEY.segment(NODE, 1), pack(header, blocks))
        await write_metadata(store, new_metadata(KEY, ended_ms=1))
        await LogFollower(LogConfig(), store, Patience(store), KEY, NODE, tmp_path, until="read", clock=Clock()).run()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server at a port of this machine that serves the session."""
    root = tmp_path_factory.mktemp("served")
    url = f"file://{root / 'store'}"
    anyio.run(record, url, root / "ray")
    with server(["--store", url], root) as program:
        until(lambda: fetch(f"{program.url}/readyz")[0] == 200, "the server is ready", timeout=20, pause=0.05)
        yield program.url


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(PROGRAM), *arguments], capture_output=True, timeout=50, check=False, env=environment)


@pytest.fixture
def logs(base: str) -> Logs:
    return lambda *arguments: run("logs", *arguments, RAY_HISTORY_ADDRESS=f"{base}/sessions/{KEY}")


def test_the_heads_logs_are_listed_by_group(logs: Logs) -> None:
    said = logs()

    assert said.returncode == 0, said.stderr
    text = said.stdout.decode()
    assert text.startswith(f"Node ID: {NODE}\n---\n")
    assert "raylet:\n- raylet.out\n" in text
    assert f"worker_out:\n- worker-{'ab' * 28}-01000000-4242.out\n" in text
    assert logs("cluster").stdout == said.stdout


def test_a_glob_of_nothing_lists_nothing(logs: Logs) -> None:
    assert logs("nope*").stdout.decode() == f"Node ID: {NODE}\n--- {{}}\n...\n"


def test_the_one_log_that_matches_is_printed(logs: Logs) -> None:
    assert logs("raylet*").stdout == b"".join(LINES[-1000:])
    assert logs("raylet.out", "--tail", "2").stdout == b"".join(LINES[-2:])
    assert logs("--tail", "-1", "--node-ip", IP, "raylet.out").stdout == b"".join(LINES)


def test_a_log_comes_byte_for_byte_unless_it_is_to_be_decoded(logs: Logs) -> None:
    assert logs("odd.log").stdout == ODD
    assert logs("latin.log", "--encoding", "latin-1").stdout == LATIN.encode()
    assert (
        logs("odd.log", "--encoding", "utf-8", "--encoding-errors", "replace").stdout
        == ODD.decode(errors="replace").encode()
    )
    said = logs("odd.log", "--encoding", "utf-8")
    assert said.returncode == 1
    assert said.stderr.startswith(b"ray-history: the log is not in utf-8: ")


def test_following_ends_with_the_session(logs: Logs) -> None:
    said = logs("raylet.out", "-f", "--tail", "3", "--interval", "0.1")
    assert (said.returncode, said.stdout) == (0, b"".join(LINES[-3:]))


def test_workers_actors_and_jobs_have_their_logs(logs: Logs) -> None:
    assert logs("worker", "--pid", "4242").stdout == b"from a worker\n"
    assert logs("worker", "-pid", "4242", "--err", "-id", NODE).stdout == b"its errors\n"
    assert logs("actor", "--pid", "4242").stdout == b"from a worker\n"
    assert logs("job", "--id", SUBMISSION).stdout == b"from a driver\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["worker", "--pid", "1"],
            "Could not find a log file. Please make sure the given option exists in the cluster.",
        ),
        (["task", "--id", "zz"], "Non-hexadecimal digit found"),
        (["actor", "--id", "ab" * 16], f"Actor ID ActorID({'ab' * 16}) not found."),
        (["--node-ip", "9.9.9.9"], "Cannot find matching node_id for a given node ip 9.9.9.9"),
        (["../x"], "Invalid glob filter: ../x."),
    ],
)
def test_a_refusal_is_one_line_in_the_servers_words(logs: Logs, arguments: list[str], words: str) -> None:
    said = logs(*arguments)

    assert (said.returncode, said.stdout) == (1, b"")
    lines = said.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"ray-history: {words}")


def test_a_session_that_is_not_there_is_said_to_be_so(base: str) -> None:
    said = run("logs", "--address", f"{base}/sessions/none/none/none")
    assert said.returncode == 1
    assert len(said.stderr.splitlines()) == 1
    assert b"none/none/none" in said.stderr


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that says the same to one caller, and hangs up."""

    def serve(listener: socket.socket) -> None:
        caller, _ = listener.accept()
        with caller:
            caller.recv(65536)
            caller.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(20)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome", b"the answer was cut short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n", b"the answer was cut short"),
        (b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\n\x1b[2Jbad\nnews", b"bad news\n"),
        (b"HTTP/1.1 502 No\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<p>", b"answered 502 No"),
    ],
)
def test_an_answer_that_fails_leaves_no_half_of_a_file_and_says_why_in_one_line(
    tmp_path: Path, answer: bytes, words: bytes
) -> None:
    with answering(answer) as address:
        said = run("timeline", "--address", address, "--output", str(tmp_path / "trace.json"))

    assert said.returncode == 1
    assert len(said.stderr.splitlines()) == 1
    assert words in said.stderr
    assert b"\x1b" not in said.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_no_session_is_told_from_one() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[1]") as address:
        said = run("logs", "--address", address)
    assert said.returncode == 1
    assert b"doesn't answer as a session does" in said.stderr
    assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize("address", ["", "demo", "file:///etc/passwd", "http://", "http://host:port", "http://h/a b"])
def test_an_address_that_can_not_be_a_sessions_is_a_wrong_setting(address: str) -> None:
    said = run("logs", "--address", address)
    assert said.returncode == 2
    assert len(said.stderr.splitlines()) == 1
    assert b"/sessions/namespace/cluster/session" in said.stderr


def test_a_timeline_is_written_where_it_was_asked_for(base: str, tmp_path: Path) -> None:
    address = f"{base}/sessions/{KEY}"
    file = tmp_path / "trace.json"
    said = run("timeline", "--output", str(file), RAY_API_SERVER_ADDRESS=address)

    assert said.returncode == 0, said.stderr
    assert str(file).encode() in said.stderr
    events = json.loads(file.read_bytes())
    assert {"process_name", "thread_name"} <= {event["name"] for event in events}
    shown = run("timeline", "--address", address, "--output", "-")
    assert json.loads(shown.stdout) == events


def test_a_timeline_goes_to_the_folder_for_temporary_files_as_rays(base: str, tmp_path: Path) -> None:
    said = run("timeline", "--address", f"{base}/sessions/{KEY}", TMPDIR=str(tmp_path))

    assert said.returncode == 0, said.stderr
    [file] = tmp_path.iterdir()
    assert file.match("ray-timeline-????-??-??_??-??-??.json")


@pytest.mark.parametrize("name", ["cluster", "actor", "task", "worker", "job"])
def test_every_option_has_a_variable_and_a_reason(name: str) -> None:
    group = ray_history.commands["logs"]
    assert isinstance(group, LogsGroup)
    options = [param for param in group.commands[name].params if isinstance(param, click.Option)]
    variables = [param.envvar[0] for param in options if param.envvar]
    assert len(variables) == len(set(variables)) == len(options)
    for param in options:
        assert param.envvar is not None
        assert param.envvar[0].startswith("RAY_HISTORY_")
        assert param.help is not None
        assert len(param.help) > 30
        assert param.help.endswith(".")

"""Log files over HTTP: Ray's addresses, statuses, headers and words, for sessions whose nodes are long dead."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from blockbuster import blockbuster_ctx
from starlette.applications import Starlette
from support.captures import DATA, event_files, head_node, live_answers, session_name
from support.loggers import Clock

from api.app import create_app
from pipeline.config import LogConfig, ServerConfig, StoreConfig
from pipeline.layout import SessionKey
from pipeline.logs.logs import LogFollower
from pipeline.read.source import EVENTS, EXPORT_EVENTS, Folder, first_line, source_id
from pipeline.segments.segment import Header, Span, pack
from pipeline.stores.catalog import new_metadata, write_metadata
from pipeline.stores.patience import Patience
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio

CAPTURE = DATA / "export"
NODE = head_node(CAPTURE)
KEY = SessionKey("default", "demo", session_name(CAPTURE))
AT = f"/sessions/{KEY}"
DRIVER_LOG = (
    b'\x1b[32mstarting\x1b[0m\r\nprogress 1\rprogress 2\nna\xc3\xafve \xff "quoted"\n' + b"x" * 50_000 + b"\nend"
)


SUBMISSION, *_ = [job["submission_id"] for job in live_answers(CAPTURE)["/api/jobs/"][1] if job["type"] == "SUBMISSION"]
IP = live_answers(CAPTURE)["/nodes?view=summary"][1]["data"]["summary"][0]["ip"]
RECORDS = {
    f"{file.parent.name}/{file.name}": file.read_bytes()
    for f in ("events", "export_events")
    for file in event_files(CAPTURE, f)
}


def spans(folder: Folder) -> Iterator[tuple[Span, bytes]]:
    for file in event_files(CAPTURE, folder.name):
        data = file.read_bytes()
        first, stem = first_line(data), folder.stem(file.name)
        if first and stem:
            yield Span(source_id(folder, stem, first), folder.dialect, 0, len(data), data.count(b"\n")), data


async def record(store: MemoryStore, tmp_path: Path) -> None:
    """A session as a collector leaves it: its records, its logs, its end."""
    held = [*spans(EXPORT_EVENTS), *spans(EVENTS)]
    header = Header(KEY.namespace, KEY.cluster, KEY.session, NODE, 1, [span for span, _ in held])
    await store.put(KEY.segment(NODE, 1), pack(header, [data for _, data in held]))
    await write_metadata(store, new_metadata(KEY, ended_ms=1))
    folder = tmp_path / KEY.session / "logs"
    for each in (EVENTS, EXPORT_EVENTS):
        shutil.copytree(CAPTURE / "logs" / each.name, folder / each.name)
    (folder / "raylet.out").write_bytes(b"".join(b"line %d\n" % n for n in range(3000)))
    (folder / "empty.err").touch()
    (folder / f"job-driver-{SUBMISSION}.log").write_bytes(DRIVER_LOG)
    await LogFollower(LogConfig(), store, Patience(store), KEY, NODE, tmp_path, until="read", clock=Clock()).run()


def application(store: MemoryStore) -> Starlette:
    return create_app(ServerConfig(store=StoreConfig(url="memory://")), store)


@pytest.fixture
async def store(tmp_path: Path) -> MemoryStore:
    made = MemoryStore()
    await record(made, tmp_path)
    return made


@pytest.fixture
async def http(store: MemoryStore) -> AsyncIterator[httpx.AsyncClient]:
    app = application(store)
    with blockbuster_ctx():
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                yield client


async def test_the_files_of_a_dead_node_are_listed(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{AT}/api/v0/logs?node_id={NODE}")

    assert answer.status_code == 200
    said = answer.json()
    assert (said["result"], said["msg"]) == (True, "")
    assert said["data"]["result"] == {
        "internal": ["empty.err", "events/", "export_events/", f"job-driver-{SUBMISSION}.log"],
        "raylet": ["raylet.out"],
    }


async def test_a_folder_is_listed_by_its_glob_and_a_node_by_its_address(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{AT}/api/v0/logs", params={"node_ip": IP, "glob": "events/*"})

    assert answer.json()["data"]["result"] == {
        "internal": sorted(name for name in RECORDS if name.startswith("events/"))
    }


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "Both node id and node ip are not provided. Please provide at least one of them."),
        ("node_ip=9.9.9.9", 404, "Cannot find matching node_id for a given node ip 9.9.9.9"),
    ],
)
async def test_a_list_of_no_node_is_refused_in_rays_shape(
    http: httpx.AsyncClient, query: str, status: int, words: str
) -> None:
    answer = await http.get(f"{AT}/api/v0/logs?{query}")

    assert answer.status_code == status
    assert answer.json() == {"result": False, "msg": words, "data": {"result": None}}


@pytest.mark.parametrize(
    "query", [f"node_id={'ab' * 28}", "node_id=zz", f"node_id={NODE}&glob=../x", f"node_id={NODE}&glob="]
)
async def test_a_list_that_a_node_refuses_is_500_as_text(http: httpx.AsyncClient, query: str) -> None:
    answer = await http.get(f"{AT}/api/v0/logs?{query}")

    assert answer.status_code == 500
    assert answer.headers["content-type"].startswith("text/plain")


async def file(http: httpx.AsyncClient, kind: str = "file", **asked: Any) -> httpx.Response:
    return await http.get(f"{AT}/api/v0/logs/{kind}", params={"node_id": NODE, **asked})


async def test_the_last_thousand_lines_are_sent_unless_others_are_asked_for(http: httpx.AsyncClient) -> None:
    answer = await file(http, filename="raylet.out")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["content-disposition"] == 'attachment; filename="file.txt"'
    assert answer.text.splitlines() == [f"line {n}" for n in range(2000, 3000)]

    assert (await file(http, filename="raylet.out", lines=2)).text == "line 2998\nline 2999\n"
    assert (await file(http, filename="raylet.out", lines=-1)).text.count("\n") == 3000
    assert (await file(http, "stream", filename="raylet.out", lines=1)).text == "line 2999\n"
    assert (await file(http, filename="empty.err")).text == ""


async def test_a_file_of_records_can_be_read_too(http: httpx.AsyncClient) -> None:
    for name, content in RECORDS.items():
        assert (await file(http, filename=name, lines=-1)).content == content


async def test_a_file_can_be_downloaded_under_a_name_and_without_colours(http: httpx.AsyncClient) -> None:
    name = f"job-driver-{SUBMISSION}.log"
    answer = await file(http, filename=name, lines=-1, filter_ansi_code="true", download_filename="ü\u4e2d.log")

    [said] = [value for key, value in answer.headers.raw if key.lower() == b"content-disposition"]
    assert said == 'attachment; filename="ü\u4e2d.log"'.encode(), "as Ray says it: the name's own bytes"
    assert answer.content == DRIVER_LOG.replace(b"\x1b[32m", b"").replace(b"\x1b[0m", b"")


async def test_a_submissions_file_is_found_by_its_id(http: httpx.AsyncClient) -> None:
    assert (await file(http, submission_id=SUBMISSION, lines=-1)).content == DRIVER_LOG


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"filename": "nope"}, "A file is not found at: "),
        ({"filename": "../../../../etc/passwd"}, "A file is not found at: "),
        ({"filename": "/etc/passwd"}, "A file is not found at: /etc/passwd"),
        ({"pid": 1}, "Could not find a log file. Please make sure the given option exists in the cluster.\n"),
        ({"task_id": "zz"}, "Non-hexadecimal digit found"),
        ({"actor_id": "ab" * 16}, f"Actor ID ActorID({'ab' * 16}) not found."),
        ({"submission_id": "nope"}, "Could not find a log file."),
        ({}, "None of actor_id, task_id, pid, submission_id or filename is provided."),
        ({"filename": "raylet.out", "lines": "x"}, "invalid literal for int() with base 10: 'x'"),
        ({"filename": "raylet.out", "suffix": "log"}, "Invalid suffix: log. Must be one of 'out' or 'err'."),
    ],
)
async def test_a_file_that_is_not_there_is_500_with_rays_words(
    http: httpx.AsyncClient, asked: dict[str, Any], words: str
) -> None:
    answer = await file(http, **asked)

    assert answer.status_code == 500
    assert answer.text.startswith(words)
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_submissions_log_is_one_json_string(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{AT}/api/jobs/{SUBMISSION}/logs")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    text = DRIVER_LOG.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    assert answer.json() == {"logs": text}
    assert answer.text == json.dumps({"logs": text}), "as Ray writes it, to the byte"


async def test_a_log_of_no_submission_is_refused_in_rays_words(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{AT}/api/jobs/nope/logs")
    assert (answer.status_code, answer.text) == (404, "Job nope does not exist")


async def test_a_submission_without_a_log_has_an_empty_one(store: MemoryStore) -> None:
    for info in await store.list(f"{KEY.root}logs/"):
        await store.delete(info.key)
    app = application(store)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as http,
    ):
        assert (await http.get(f"{AT}/api/jobs/{SUBMISSION}/logs")).json() == {"logs": ""}


async def messages(store: MemoryStore, path: str) -> list[Any]:
    """All that the server sends over a WebSocket to a client that only listens."""
    app = application(store)
    sent: list[Any] = []
    connect = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        if connect:
            return connect.pop()
        return await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": path,
        "headers": [],
        "query_string": b"",
        "subprotocols": [],
        "scheme": "ws",
        "server": ("s", 80),
    }
    async with app.router.lifespan_context(app):
        with anyio.fail_after(20):
            await app(scope | {"root_path": "", "raw_path": path.encode()}, receive, send)
    return sent


async def test_a_submissions_log_comes_over_a_web_socket_and_ends(store: MemoryStore) -> None:
    accepted, *got, closed = await messages(store, f"{AT}/api/jobs/{SUBMISSION}/logs/tail")

    assert accepted["type"] == "websocket.accept"
    assert (closed["type"], closed["code"]) == ("websocket.close", 1000)
    text = DRIVER_LOG.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(message["text"] for message in got) == text
    assert max(len(message["text"]) for message in got) <= 20_000


async def test_a_web_socket_for_no_job_is_closed_with_the_reason(store: MemoryStore) -> None:
    *_, closed = await messages(store, f"{AT}/api/jobs/nope/logs/tail")

    assert (closed["code"], closed["reason"]) == (1011, "Job nope does not exist")

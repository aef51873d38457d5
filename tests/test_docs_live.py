"""docs/live.md says what the server does: its examples run, its events are real, its parameters, limits and metrics are there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from click.testing import CliRunner
from prometheus_client import Counter, Gauge
from support.browser import chromium
from support.captures import DATA
from support.processes import on_disk, server
from support.rayhead import until
from support.recorded_store import put_recording

from api import metrics, status
from api.cli.commands import ray_history
from api.cli.options import default_of
from api.streams import catch_up, event_stream, hub, hubs, live_filter, replay, sse
from api.streams.live_data import KINDS
from api.streams.live_events import MAX_MESSAGE
from api.streams.sse_reader import EventReader, ServerEvent
from pipeline import metrics as collector_metrics
from pipeline.config import CollectorConfig, ServerConfig
from pipeline.layout import SessionKey
from pipeline.push import nats_link, push
from pipeline.stores.filestore import FileStore

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "live.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session that the page's examples are of; it is over."""
    folder = tmp_path_factory.mktemp("live")

    async def fill() -> SessionKey:
        return await put_recording(
            FileStore(folder / "store"), DATA / "nodes", "default", "demo", ended_ms=1795394440000
        )

    key = anyio.run(fill)
    with server(on_disk(folder / "store"), folder) as program:
        yield f"{program.url}/sessions/{key}"


def told(address: str, **query: str) -> list[ServerEvent]:
    return EventReader().feed(httpx.get(f"{address}/live", params={"since": "0", **query}).content)


def test_the_example_of_each_kind_is_what_a_server_says(address: str) -> None:
    (shown,) = (block for block in blocks("") if "event: session" in block)
    examples = EventReader().feed(shown.encode() + b"\n")
    assert {event.kind for event in examples} == set(KINDS)
    assert shown.startswith(sse.START.decode())
    real = {(event.kind, event.data, event.id) for event in told(address)}
    assert [event for event in examples if (event.kind, event.data, event.id) not in real] == []


@pytest.mark.parametrize("example", blocks("bash"), ids=lambda example: example.splitlines()[0].strip("# "))
def test_an_example_runs_and_shows_something(example: str, address: str, tmp_path: Path) -> None:
    done = run(["bash", "-euo", "pipefail", "-c", example], address, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_python_example_tells_each_change_once_and_ends(address: str, tmp_path: Path) -> None:
    (example,) = blocks("python")
    done = run([sys.executable, "-c", example], address, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    wanted = [f"{event.kind} {json.loads(event.data).get('state')}" for event in told(address, kind="task,node")]
    assert sorted(done.stdout.splitlines()) == sorted(wanted)


def test_the_page_example_gets_its_rows(address: str) -> None:
    (example,) = blocks("js")
    failed = [event for event in told(address, kind="task") if event.kind == "task"]
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{address}/overview")
        page.evaluate(f"() => {{ {example}\nwindow.rows = rows; window.stream = stream; }}")
        until(lambda: page.evaluate("window.stream.readyState") == 2, "the stream to be over", timeout=20)
        assert page.evaluate("window.rows") == [json.loads(event.data) for event in failed]


def run(command: list[str], address: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"S": address, "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=50)


def test_every_parameter_is_described_and_known(address: str) -> None:
    described = re.findall(r"^\| `(\w+)=` \|", TEXT, re.MULTILINE)
    assert set(described) == {*live_filter.FILTERS, "last_event_id", "since", "speed", "follow"}
    for name, wrong in (("kind", "x"), ("since", "x"), ("speed", "x"), ("follow", "x"), ("name", "x" * 201)):
        answer = httpx.get(f"{address}/live", params={name: wrong})
        assert (answer.status_code, answer.json()["msg"].split(":")[0]) == (400, name)
    last = told(address)[-1].id
    assert httpx.get(f"{address}/live", params={"last_event_id": last}).status_code == 204
    kinds = TEXT.split("| `kind=` | ")[1].split("\n")[0]
    assert [kind for kind in KINDS if f"`{kind}`" not in kinds] == []


def test_every_limit_is_the_one_that_holds() -> None:
    said = [
        f"at most {hubs.MAX_STREAMS:,} streams open, {hubs.MAX_STREAMS_OF_ONE} of one session",
        f"At most {hubs.MAX_PAST} play the past",
        f"one ring of {hub.RING_BYTES >> 20} MB of events ({hubs.RINGS_BYTES >> 20} MB for all",
        f"takes {live_filter.MAX_VALUES} values of {live_filter.MAX_LENGTH} characters",
        f"more than {catch_up.MAX_BYTES >> 20} MB or {catch_up.MAX_SEGMENTS:,} segments",
        f"at least every {replay.HEARTBEAT:.0f} s",
        f"one write takes {event_stream.STUCK:.0f} s",
        f"up to {replay.MAX_SPEED:.0f}",
        f"cut to {MAX_MESSAGE} characters",
        f"younger than {status.SILENT_AFTER_MS // 1000} s",
        f"says one every {push.ALIVE_EVERY:.0f} s",
        f"`--push-bytes` ({default_of(CollectorConfig, 'push_bytes') >> 20} MB)",
        f"`--live-bytes` ({default_of(ServerConfig, 'live_bytes') >> 20} MB)",
        f"age={nats_link.AGE:.0f}&bytes={nats_link.BYTES}",
    ]
    assert [each for each in said if each not in TEXT.replace("\n", " ")] == []


def test_every_option_is_one_of_a_command() -> None:
    helped = "".join(CliRunner().invoke(ray_history, [command, "--help"]).output for command in ("collect", "serve"))
    named = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert {"--server", "--push", "--live"} <= named
    assert [option for option in named if f"{option} " not in helped] == []


def test_every_metric_is_there_and_none_of_the_channel_is_left_out() -> None:
    named = set(re.findall(r"`(ray_history_\w+)`", TEXT))
    there = {name for module in (metrics, collector_metrics) for name in names(module)}
    assert named <= there
    assert {name for name in there if re.search("stream|push|seal|live", name)} - named <= {
        "ray_history_log_pushed_bytes_total"
    }


def names(module: Any) -> list[str]:
    made = [value for value in vars(module).values() if isinstance(value, Counter | Gauge)]
    return [each._name + "_total" * isinstance(each, Counter) for each in made]

"""A stream tells what was asked for and nothing else, in Ray's own words, whether it happens or is played again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
from support.captures import DATA, event_files, posts
from support.pushing import Collector
from support.recorded_store import put_recording
from support.sessions import KEY, SegmentWriter, finished_task
from support.streaming import PLAIN, Client, LiveServer, following, live_server

from api.streams.live_data import KINDS
from api.streams.live_filter import MAX_LENGTH, MAX_VALUES
from pipeline.segments.segment import Dialect
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio

CAPTURE = DATA / "nodes"
"""Three nodes, one of which dies: it has every kind of event, and a log event of each severity."""

Told = tuple[str, dict[str, Any]]
Fits = Callable[[str, dict[str, Any]], bool]


def state(data: dict[str, Any]) -> str:
    return str(data.get("state") or data.get("status") or data.get("severity"))


def names(kind: str, data: dict[str, Any]) -> list[str]:
    fields = {
        "task": ("name", "func_or_class_name"),
        "actor": ("name", "class_name"),
        "node": ("node_name", "node_ip"),
        "job": ("entrypoint", "submission_id"),
        "worker": ("worker_type",),
        "log": ("label", "source_type"),
    }
    return [str(data[field]).lower() for field in fields[kind] if data.get(field)]


def node(data: dict[str, Any]) -> str:
    return str(data.get("node_id") or data.get("driver_node_id") or "")


FILTERS: dict[str, tuple[list[tuple[str, str]], Fits]] = {
    "nothing": ([], lambda kind, data: True),
    **{each: ([("kind", each)], lambda kind, data, each=each: kind == each) for each in KINDS if each != "session"},
    "two kinds with a comma": ([("kind", "node,job")], lambda kind, data: kind in ("node", "job")),
    "two kinds one by one": ([("kind", "log"), ("kind", "worker")], lambda kind, data: kind in ("log", "worker")),
    "kinds with spaces and gaps": ([("kind", " node , ,job,")], lambda kind, data: kind in ("node", "job")),
    "session alone": ([("kind", "session")], lambda kind, data: False),
    "a state": ([("state", "FINISHED")], lambda kind, data: state(data) == "FINISHED"),
    "a state in lower case": ([("state", "finished")], lambda kind, data: state(data) == "FINISHED"),
    "two states": ([("state", "Running,dead")], lambda kind, data: state(data) in ("RUNNING", "DEAD")),
    "a severity": ([("state", "error")], lambda kind, data: state(data) == "ERROR"),
    "a part of a state is none": ([("state", "FINISH")], lambda kind, data: False),
    "a job": ([("job", "02000000")], lambda kind, data: data.get("job_id") == "02000000"),
    "a part of a name": ([("name", "job")], lambda kind, data: any("job" in name for name in names(kind, data))),
    "in either case": ([("name", "JOB")], lambda kind, data: any("job" in name for name in names(kind, data))),
    "a glob is of the whole name": (
        [("name", "job*")],
        lambda kind, data: any(name.startswith("job") for name in names(kind, data)),
    ),
    "another glob": (
        [("name", "[a-j]*r")],
        lambda kind, data: any(name[0] in "abcdefghij" and name[-1] == "r" for name in names(kind, data)),
    ),
    "an address": ([("name", "192.0.2.2")], lambda kind, data: "192.0.2.2" in names(kind, data)),
    "one of each": (
        [("kind", "task,actor"), ("state", "RUNNING,ALIVE"), ("job", "02000000"), ("name", "e")],
        lambda kind, data: (
            kind in ("task", "actor")
            and state(data) in ("RUNNING", "ALIVE")
            and data["job_id"] == "02000000"
            and any("e" in name for name in names(kind, data))
        ),
    ),
}


@asynccontextmanager
async def replayed() -> AsyncIterator[tuple[LiveServer, str]]:
    """The recording, over: its stream ends of itself."""
    store = MemoryStore()
    key = await put_recording(store, CAPTURE, "default", "demo", ended_ms=1)
    async with live_server(store) as server:
        yield server, f"{server.url}/sessions/{key}/live"


async def everything(url: str, query: list[tuple[str, str]]) -> list[Told]:
    """All that a stream that ends has told."""
    client = Client(url, since="0", **{name: [value for each, value in query if each == name] for name, _ in query})
    await client.connect()
    assert client.status == 200
    return told(client)


def told(client: Client) -> list[Told]:
    return [(event.kind, json.loads(event.data)) for event in client.events if event.kind != "session"]


def in_any_order(events: list[Told]) -> list[str]:
    """How far segments are played beside each other depends on what of them is wanted."""
    return sorted(f"{kind} {json.dumps(data)}" for kind, data in events)


async def test_every_filter_gives_what_it_names_and_leaves_out_the_rest() -> None:
    async with replayed() as (_, url):
        whole = await everything(url, [])
        assert {kind for kind, _ in whole} == set(KINDS) - {"session"}
        one_node = next(data["node_id"] for kind, data in whole if kind == "node" and data["state"] == "DEAD")
        of_node = {
            "a node": ([("node", one_node)], lambda kind, data: node(data) == one_node),
            "its beginning": ([("node", one_node[:8].upper())], lambda kind, data: node(data) == one_node),
        }
        empty = []
        for name, (query, fits) in (FILTERS | of_node).items():
            wanted = [each for each in whole if cast(Fits, fits)(*each)]
            assert in_any_order(await everything(url, query)) == in_any_order(wanted), name
            empty += [name] * (not wanted)
        assert empty == ["session alone", "a part of a state is none"]


async def test_what_happens_now_is_filtered_alike() -> None:
    """The other way through the server: what was pushed, told to many who asked for different things."""
    store = MemoryStore()
    await SegmentWriter(store).begin()
    posted = [line(event) for body in posts(CAPTURE) for event in json.loads(body)]
    written = {file.name: file.read_bytes().splitlines(keepends=True) for file in event_files(CAPTURE, "events")}
    async with live_server(store) as server:
        url = f"{server.url}/sessions/{KEY}/live"
        pushed(server, store, "spool/0.jsonl", "ray_event", finished_task(1))
        async with (
            following(url) as whole,
            following(url, kind="node,job,log") as some,
            following(url, name="*R*") as r,
        ):
            pushed(server, store, "spool/1.jsonl", "ray_event", posted)
            for name, lines in written.items():
                pushed(server, store, name, "log_event", lines)
            pushed(server, store, "spool/2.jsonl", "ray_event", finished_task(2, "last-R"))
            for client in (whole, r):
                await client.until(lambda: ended(client, "last-R"), "the last task")  # noqa: B023
            wanted = [each for each in told(whole) if each[0] in ("node", "job", "log")]
            await some.has(len(wanted), "node", "job", "log")
        assert len(wanted) > 5
        assert told(some) == wanted
        assert told(r) == [each for each in told(whole) if any("r" in name for name in names(*each))]


def line(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode() + b"\n"


def pushed(server: LiveServer, store: MemoryStore, source: str, dialect: Dialect, lines: list[bytes]) -> None:
    it = Collector(server.app.state.sessions, store, source=source, dialect=dialect)
    it.say("hello")
    it.push(lines)


def ended(client: Client, name: str) -> bool:
    return any(data["state"] == "FINISHED" for data in client.told("task")[-1:] if data.get("name") == name)


async def test_what_is_told_last_of_each_thing_is_what_the_lists_answer() -> None:
    """The stream's words are the state API's: the same names, the same values."""
    ids = {
        "task": ("tasks", "task_id", {"type", "name", "func_or_class_name", "job_id", "attempt_number"}),
        "actor": ("actors", "actor_id", {"class_name", "name", "job_id", "state", "pid"}),
        "node": ("nodes", "node_id", {"node_ip", "is_head_node", "resources_total"}),
        "worker": ("workers", "worker_id", {"worker_type", "is_alive", "ip", "pid", "exit_type"}),
        "job": ("jobs", "job_id", {"entrypoint", "submission_id"}),
    }
    async with replayed() as (_, url), httpx.AsyncClient(verify=PLAIN) as http:
        whole = await everything(url, [])
        for kind, (path, id_name, fields) in ids.items():
            answer = await http.get(f"{url.removesuffix('/live')}/api/v0/{path}", params={"detail": 1, "limit": 10000})
            rows = {which(row, id_name): row for row in answer.json()["data"]["result"]["result"]}
            last = {which(data, id_name): data for each, data in whole if each == kind}
            assert last
            compared = 0
            for number in rows.keys() & last.keys():
                for field in fields & last[number].keys():
                    assert rows[number][field] == last[number][field], (kind, number, field)
                    compared += 1
            assert compared > len(last), kind


def which(row: dict[str, Any], id_name: str) -> tuple[str, int]:
    return row[id_name], row.get("attempt_number", 0)


async def test_a_session_that_was_entered_streams_at_the_root() -> None:
    async with replayed() as (server, url), httpx.AsyncClient(verify=PLAIN) as http:
        refused = await http.get(f"{server.url}/api/v0/live")
        assert refused.status_code == 400
        assert "which session?" in refused.json()["msg"]
        names = url.removesuffix("/live").split("/sessions/")[1]
        assert (await http.get(f"{server.url}/enter_cluster/{names}")).status_code == 200
        entered = await http.get(f"{server.url}/api/v0/live?since=0")
        assert entered.headers["content-type"].startswith("text/event-stream")
        assert entered.content == (await http.get(f"{url}?since=0")).content
        assert entered.content.count(b"\nevent: task\n") > 50


WRONG = [
    ("kind=tsak", "kind: 'tsak' is none of task, actor, node, job, worker, log, session"),
    ("kind=task,%F0%9F%92%A5", "kind: '💥' is none of"),
    ("kind=TASK", "kind: 'TASK' is none of"),
    (f"name={'x' * (MAX_LENGTH + 1)}", f"name: at most {MAX_VALUES} values of {MAX_LENGTH} characters each"),
    (f"job={',x' * (MAX_VALUES + 1)}", f"job: at most {MAX_VALUES} values"),
    ("&".join(["state=x"] * (MAX_VALUES + 1)), f"state: at most {MAX_VALUES} values"),
    ("since=yesterday", "since: 'yesterday' is neither a time in ms, nor so long ago"),
    ("since=-5y", "since: '-5y' is neither"),
    ("since=1e3", "since: '1e3' is neither"),
    (f"since={'9' * 400}", "is neither a time in ms"),
    ("since=-999999999999d&speed=x", "speed: 'x' is not a number from 0"),
    ("speed=-1", "speed: '-1' is not a number from 0"),
    ("speed=nan", "speed: 'nan' is not a number"),
    ("speed=inf", "speed: 'inf' is not a number"),
    ("speed=1e7", "speed: '1e7' is not a number from 0 (as fast as it goes) to 1e+06"),
    ("x=" + "y" * (33 << 10), "query string is over the limit"),
]


async def test_what_can_not_be_meant_is_400_with_the_reason() -> None:
    store = MemoryStore()
    await SegmentWriter(store).begin()
    async with live_server(store) as server, httpx.AsyncClient(verify=PLAIN) as http:
        for query, said in WRONG:
            answer = await http.get(f"{server.url}/sessions/{KEY}/live?{query}")
            assert answer.status_code == 400, query[:50]
            assert said in answer.json()["msg"]
        assert server.app.state.hubs._streams == 0


async def test_hostile_names_cost_nothing_and_match_what_they_say() -> None:
    """Globs of the worst kind are answered at once: nobody else waits for a pattern."""
    async with replayed() as (_, url):
        for pattern in (
            "*a" * 90 + "b",
            "[" * 150,
            "[!" * 90,
            "[z-a]",
            "?" * MAX_LENGTH,
            "(a+)+$",
            "\\",
            "[]]*",
            "%00",
        ):
            assert await everything(url, [("name", pattern)]) == []


async def test_an_unknown_session_is_404_and_no_stream() -> None:
    async with live_server(MemoryStore()) as server, httpx.AsyncClient(verify=PLAIN) as http:
        for path in ("/sessions/default/demo/session_1/live", "/sessions/default/demo/live/live"):
            answer = await http.get(f"{server.url}{path}")
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")


async def test_a_drivers_own_task_is_no_event_but_its_job_is() -> None:
    """Ray's lists leave it out as well, and nothing names it."""
    async with replayed() as (_, url):
        whole = await everything(url, [])
    ran = [data["task_id"] for kind, data in whole if kind == "task"]
    assert ran
    assert [task_id for task_id in ran if task_id.startswith("f" * 40)] == []
    assert "DRIVER" in {data["type"] for kind, data in whole if kind == "job"}

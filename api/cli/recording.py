"""A recorded session played back through the collector's real path: its posts over HTTP, its files in a Ray-like folder,
its dashboard at an address of this machine.

A recording is a folder:

    session             Ray's name of the session
    posts-*.jsonl       what Ray posted, one post's body a line
    logs/export_events  files that Ray's export API wrote
    logs/events         Ray's log events
    logs/               what tasks and jobs printed, where that was kept
    live/               what the live dashboard answered (index.tsv: file, status, address)
    expected.json       what the answers must say: counts and states
"""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import structlog
from anyio import to_thread
from msgspec import structs
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.cli.run import address, listen, serve_http
from api.session.reader import SessionReader
from pipeline.collector import run_collector
from pipeline.config import CollectorConfig, PollConfig
from pipeline.errors import BadKey, ConfigError, Unavailable
from pipeline.layout import SessionKey, part
from pipeline.stores.catalog import write_metadata
from pipeline.stores.store import ObjectStore

POST_TIMEOUT = 30
ASK_SECONDS = 10
NODES = "/api/v0/nodes?detail=1"

log = structlog.get_logger()


class Recording:
    """One recorded session. Raises ``ConfigError`` where the folder holds none."""

    def __init__(self, folder: Path) -> None:
        try:
            self.session = part((folder / "session").read_text().strip())
        except OSError as exc:
            raise ConfigError(f"no recording in {folder}: name one with --recording") from exc
        self.folder = folder
        try:
            self.name = part(folder.name)
        except BadKey:
            self.name = "demo"

    def posts(self) -> Iterator[bytes]:
        """The bodies that Ray posted, in order."""
        for file in sorted(self.folder.glob("posts-*.jsonl")):
            with file.open("rb") as lines:
                yield from (line.rstrip(b"\n") for line in lines)

    def expected(self) -> dict[str, Any]:
        """What the answers must say."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "expected.json").read_bytes())
        except (OSError, ValueError) as exc:
            raise ConfigError(f"the recording in {self.folder} doesn't say what to expect: {exc}") from exc
        return found

    def head_node(self) -> str | None:
        """The head's id, as the live dashboard told it."""
        try:
            for line in (self.folder / "live" / "index.tsv").read_text().splitlines():
                name, _, address = line.split("\t")
                if address == NODES:
                    rows = json.loads((self.folder / "live" / name).read_bytes())["data"]["result"]["result"]
                    return next(str(row["node_id"]) for row in rows if row["is_head_node"])
        except (OSError, ValueError, LookupError, StopIteration):
            log.info("the recording doesn't say which node is the head", folder=str(self.folder))
        return None

    def answers(self) -> dict[str, tuple[int, bytes]]:
        """What the live dashboard answered, by path and query, and for any other query by path alone."""
        found: dict[str, tuple[int, bytes]] = {}
        try:
            for line in (self.folder / "live" / "index.tsv").read_text().splitlines():
                name, status, asked = line.split("\t")
                answer = int(status), (self.folder / "live" / name).read_bytes()
                found[asked] = answer
                found.setdefault(asked.partition("?")[0], answer)
        except (OSError, ValueError):
            log.info("the recording doesn't say what the dashboard answered", folder=str(self.folder))
        return found

    def lay_out(self, ray_tmp: Path) -> None:
        """Make ``ray_tmp`` look as it did beside the recorded node."""
        session = ray_tmp / self.session
        shutil.copytree(self.folder / "logs", session / "logs")
        (ray_tmp / "session_latest").symlink_to(session)


class Dashboard:
    """The recorded session's dashboard as an application. ``asked`` is set once the collector has found it."""

    def __init__(self, recording: Recording) -> None:
        self.asked = anyio.Event()
        self._answers = recording.answers()
        self.app = Starlette(routes=[Route("/{path:path}", self._answer)])
        self.app.state.closing = anyio.Event()

    async def _answer(self, request: Request) -> Response:
        path, query = request.url.path, request.url.query
        status, body = self._answers.get(f"{path}?{query}") or self._answers.get(path) or (404, b"404: Not Found")
        self.asked.set()
        return Response(body, status, media_type="application/json")


async def play(recording: Recording, config: CollectorConfig, store: ObjectStore) -> None:
    """Have a collector of its own take the recording in, and end it when the recorded session ended."""
    dashboard, stop = Dashboard(recording), anyio.Event()
    with listen("127.0.0.1", 0) as listener:
        async with anyio.create_task_group() as group:
            group.start_soon(serve_http, dashboard.app, listener, stop)
            polling = structs.replace(config, poll=PollConfig(dashboard=address(listener)))
            await _collect(recording, polling, store, dashboard.asked)
            stop.set()
    await _end(store, SessionKey(config.namespace, config.cluster, recording.session))


async def _collect(recording: Recording, config: CollectorConfig, store: ObjectStore, asked: anyio.Event) -> None:
    await to_thread.run_sync(recording.lay_out, config.ray_tmp)
    stop = anyio.Event()
    async with anyio.create_task_group() as group:

        async def collect(*, task_status: anyio.abc.TaskStatus[int]) -> None:
            if not await run_collector(config, store, stop=stop, task_status=task_status):
                raise Unavailable("the collector could not put all of the recording into the store")

        port = await group.start(collect)
        await to_thread.run_sync(post_all, port, recording.posts())
        with anyio.move_on_after(ASK_SECONDS):  # it asks a last time at its end, if it has begun to ask
            await asked.wait()
        stop.set()


async def _end(store: ObjectStore, key: SessionKey) -> None:
    """It ended with its last record, not when it was played."""
    reader = SessionReader(store, key)
    await reader.refresh()
    if reader.metadata is not None and reader.last_ns:
        ended = structs.replace(reader.metadata, ended_ms=reader.last_ns // 1_000_000)
        await write_metadata(store, ended, merge=False)


def post_all(port: int, bodies: Iterator[bytes]) -> None:
    """Post as Ray does, one after the other over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=POST_TIMEOUT)
    try:
        for body in bodies:
            connection.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise Unavailable(f"the collector refused a post: {answer.status} {text[:200]!r}")
    except OSError as exc:
        raise Unavailable(f"the collector took no post: {exc}") from exc
    finally:
        connection.close()

"""A recorded session played back through the collector's real path: its posts over HTTP, its files in a Ray-like folder.

A recording is a folder:

    session             Ray's name of the session
    posts-*.jsonl       what Ray posted, one post's body a line
    logs/export_events  files that Ray's export API wrote
    logs/events         Ray's log events
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

from pipeline.collector import run_collector
from pipeline.config import CollectorConfig
from pipeline.errors import ConfigError, Unavailable
from pipeline.layout import part
from pipeline.store import ObjectStore

FOLDERS = ("export_events", "events")
POST_TIMEOUT = 30
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

    def lay_out(self, ray_tmp: Path) -> None:
        """Make ``ray_tmp`` look as it did beside the recorded node."""
        session = ray_tmp / self.session
        for name in FOLDERS:
            target = session / "logs" / name
            target.mkdir(parents=True)
            for file in sorted((self.folder / "logs" / name).glob("event_*.log*")):
                shutil.copyfile(file, target / file.name)
        (ray_tmp / "session_latest").symlink_to(session)


async def play(recording: Recording, config: CollectorConfig, store: ObjectStore) -> None:
    """Have a collector of its own take the recording in, and end it as a pod's end would."""
    await to_thread.run_sync(recording.lay_out, config.ray_tmp)
    stop = anyio.Event()
    async with anyio.create_task_group() as group:

        async def collect(*, task_status: anyio.abc.TaskStatus[int]) -> None:
            if not await run_collector(config, store, stop=stop, task_status=task_status):
                raise Unavailable("the collector could not put all of the recording into the store")

        port = await group.start(collect)
        await to_thread.run_sync(post_all, port, recording.posts())
        stop.set()


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

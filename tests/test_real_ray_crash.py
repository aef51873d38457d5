"""The collector is killed again and again while real Ray posts: every record is in the store and in the answers once.

Ray posts with its fields in snake_case here, as ``…_PRESERVE_PROTO_FIELD_NAME`` makes it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from support import workload
from support.lived import Lived, answers, assert_same, assert_stopped, in_background, live_through
from support.processes import Program, on_s3, start_collector
from support.rayhead import ray_head, short_folder, until
from support.receiver import Receiver, receiver
from support.s3server import S3Server
from support.storecheck import stored_lines
from support.workload import Rows

from pipeline.config import StoreConfig
from pipeline.layout import SessionKey
from pipeline.stores.open_store import open_store

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.timeout(480)]
POSTS_A_LIFE = 3
"""Posts that a collector takes before it is killed."""


@dataclass
class Survived:
    """What was posted through all the lives of the collector, and what came of it."""

    lived: Lived
    kills: int
    taken: list[bytes]
    refused: list[bytes]
    stored: list[bytes]
    answered: dict[str, Rows]


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory, seaweed_server: S3Server) -> Iterator[Survived]:
    """One session, its collector killed for as long as it lives; after it, a last collector ends in peace."""
    folder = tmp_path_factory.mktemp("crash")
    bucket = seaweed_server.new_bucket()
    store, environment = on_s3(seaweed_server, bucket), seaweed_server.environment()
    with short_folder() as short:

        def start(port: int | None = None) -> Program:
            # Small and young segments, so that the kills fall between uploads too.
            often = ("--segment-age=300ms", "--segment-bytes=20KB")
            return start_collector(store, folder, short / "r", *often, port=port, environment=environment)

        collecting, kills = start(), 0
        try:
            with (
                receiver(forward_to=collecting.port) as received,
                ray_head(
                    "posted", events_port=received.port, folder=short, snake_case=True, environment=workload.ENVIRONMENT
                ) as head,
            ):
                lives: list[Lived] = []
                done = in_background(lambda: lives.append(live_through(head, received)))
                while not _taken_or_done(received, done, in_the_middle=kills % 2 == 1):
                    collecting.kill()
                    kills += 1
                    collecting = start(collecting.port)
            assert_stopped(collecting)
        finally:
            collecting.end()
        lived = lives[0]
        answered = answers(store, folder / "server", lived, environment=environment)
        stored = _stored(seaweed_server, bucket, lived.session)
        yield Survived(lived, kills, received.taken, received.refused, stored, answered)


def _taken_or_done(received: Receiver, done: Callable[[], bool], *, in_the_middle: bool) -> bool:
    """Wait until the collector has taken some posts more, or is at one; True where the session came to its end meanwhile."""
    enough = len(received.taken) + POSTS_A_LIFE

    def time_to_die() -> bool:
        return len(received.taken) >= enough and (received.under_way > 0 or not in_the_middle)

    until(lambda: done() or time_to_die(), "posts", timeout=120, pause=0.0005 if in_the_middle else 0.01)
    return done()


def _stored(server: S3Server, bucket: str, session: str) -> list[bytes]:
    """Every line of the session in the store, whatever the file it came from."""
    config = StoreConfig(url=f"s3://{bucket}/history", endpoint=server.endpoint, region=server.region, path_style=True)

    async def read() -> list[bytes]:
        async with open_store(config) as store:
            return await stored_lines(store, SessionKey("default", "ray", session))

    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        return anyio.run(read)


def _ids(events: Iterable[Any]) -> Counter[str]:
    return Counter(event["event_id"] for event in events if "event_type" in event)


def _posted(bodies: list[bytes]) -> Counter[str]:
    return _ids(event for body in bodies for event in json.loads(body))


def test_the_collector_was_killed_several_times(survived: Survived) -> None:
    assert survived.kills >= 3


def test_every_record_whose_post_was_taken_is_in_the_store(survived: Survived) -> None:
    assert not _posted(survived.taken).keys() - _ids(map(json.loads, survived.stored)).keys()


def test_no_record_is_in_the_store_twice(survived: Survived) -> None:
    stored = _ids(map(json.loads, survived.stored))
    assert len(stored) > 100
    assert not [event_id for event_id, count in stored.items() if count > 1]


def test_no_record_is_in_the_store_that_ray_did_not_post(survived: Survived) -> None:
    stored = _ids(map(json.loads, survived.stored))
    assert not stored.keys() - _posted(survived.taken + survived.refused).keys()


def test_every_task_attempt_is_answered_in_its_final_state(survived: Survived) -> None:
    assert_same("tasks", survived.lived, survived.answered)


def test_every_actor_is_answered_in_its_final_state(survived: Survived) -> None:
    assert_same("actors", survived.lived, survived.answered)

"""When the names of logs are looked at again: often enough to learn of every process, and at last not any more."""

from __future__ import annotations

import pytest
from msgspec import structs
from support.sessions import KEY, NODE, SegmentWriter, WrappedStore

from api.session.process_names import EVERY, OF_MANY, SETTLED, Looks
from api.session.reader import SessionReader
from pipeline.logs.logfiles import LogEntry, LogKeys, LogList, pack_list
from pipeline.stores.catalog import read_metadata, write_metadata

pytestmark = pytest.mark.anyio


def look(looks: Looks, now: float, news: int, *, often: bool = False, many: bool = False, ended: bool = False) -> bool:
    due = looks.due(now, news, often=often, many=many, ended=ended)
    if due:
        looks.done(now, ended=ended)
    return due


def test_the_first_look_is_due_at_once() -> None:
    assert look(Looks(), 0.0, 1)


def test_with_often_every_news_is_a_reason_and_nothing_new_is_none() -> None:
    looks = Looks()
    assert [look(looks, now, news, often=True) for now, news in ((0, 1), (1, 2), (2, 2), (3, 3))] == [
        True,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(("many", "every"), [(False, EVERY), (True, OF_MANY)])
def test_otherwise_while_there_is_news_now_and_then(many: bool, every: float) -> None:
    looks = Looks()
    assert look(looks, 0.0, 1, many=many)
    assert not look(looks, every - 1, 2, many=many)
    assert look(looks, every, 3, many=many)


def test_once_more_when_the_session_has_ended_though_nothing_new_was_stored() -> None:
    looks = Looks()
    assert look(looks, 0.0, 1)
    assert look(looks, 1.0, 1, ended=True)
    assert not look(looks, 2.0, 1, ended=True)


def test_of_a_session_that_fell_silent_until_all_must_be_stored_and_then_never_again() -> None:
    looks = Looks()
    looked = [now for now in range(1000) if look(looks, float(now), 1)]
    assert looked[:2] == [0, EVERY]
    assert SETTLED <= looked[-1] < SETTLED + EVERY


async def test_a_process_that_no_record_tells_of_is_known_by_the_end_though_nothing_else_is_new() -> None:
    store = WrappedStore()
    writer = SegmentWriter(store)
    await writer.begin()
    await writer.write([b"{}\n"], source="export_events/event_EXPORT_NODE.log", dialect="export_api")
    reader = SessionReader(store, KEY)
    await reader.refresh()
    log = LogEntry(f"python-core-driver-{'09' * 28}_77.log")
    await store.put(LogKeys(KEY, NODE).list, pack_list(LogList(root="/tmp/ray/s/logs", files=[log])))
    await reader.refresh()
    assert dict(reader.index.processes.items()) == {}, "not yet: nothing says that it may be there"

    metadata = await read_metadata(store, KEY)
    assert metadata is not None
    await write_metadata(store, structs.replace(metadata, ended_ms=metadata.created_ms + 1000))
    before = reader.state_tag
    await reader.refresh()

    assert [process.pid for _, process in reader.index.processes.items()] == [77]
    assert reader.state_tag != before

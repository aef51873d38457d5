"""What Ray posts and writes reaches the store, in its own session's place, while the collector runs and when it stops."""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict
from support.collecting import (
    LATER,
    NODE,
    SESSION,
    RayFolder,
    append,
    collecting,
    event,
    has,
    has_count,
    key,
    line,
    post,
    settings,
    settled,
)
from support.storecheck import stored_lines, stored_records, stored_segments

from pipeline import metrics
from pipeline.layout import SessionKey
from pipeline.stores.catalog import read_metadata
from pipeline.stores.store import MemoryStore

pytestmark = pytest.mark.anyio

OTHER_NODE = "b2" * 28


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def posted(lines: list[bytes]) -> set[str]:
    return {json.loads(each)["eventId"] for each in lines}


async def has_posted(store: MemoryStore, of: SessionKey, ids: set[str]) -> bool:
    return posted(await stored_lines(store, of)) == ids


async def test_lines_of_both_kinds_of_files_are_stored_while_it_runs(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    append(ray.export(), line(1), line(2))
    async with collecting(config, store):
        append(ray.events(), line(3))
        await settled(lambda: has(store, key(), {line(1), line(2), line(3)}))
    dialects = {s.source.split("~")[0]: s.dialect for h, _ in await stored_segments(store, key()) for s in h.sources}
    assert dialects == {"export_events/event_EXPORT_TASK_1": "export_api", "events/event_GCS": "log_event"}


async def test_posts_are_stored_and_half_a_line_never_is(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    append(ray.export(), line(1), line(2)[:10])
    async with collecting(config, store) as it:
        assert await post(it.url, event(1), event(2)) == 200
        await settled(lambda: has_count(store, 3))
        append(ray.export(), line(2)[10:])
        await settled(lambda: has_count(store, 4))
    assert sorted(await stored_lines(store, key()))[-2:] == [line(1), line(2)]


async def test_records_of_two_sessions_in_one_post_go_to_their_own(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path)
    RayFolder(config.ray_tmp).begin(LATER)
    async with collecting(config, store) as it:
        assert await post(it.url, event(1, SESSION), event(2, LATER), event(3, SESSION)) == 200
        await settled(lambda: has_posted(store, key(SESSION), {"id-1", "id-3"}))
        await settled(lambda: has_posted(store, key(LATER), {"id-2"}))


async def test_it_waits_where_ray_is_not_up_yet(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path, node_id=None)
    async with collecting(config, store):
        ray = RayFolder(config.ray_tmp)
        folder = ray.begin(node=None)
        append(ray.export(), line(1))
        (folder / f"metrics_agent_port_{OTHER_NODE}").write_text("1")
        await settled(lambda: has(store, key(), {line(1)}))
    assert {node for node, *_ in await stored_records(store, key())} == {OTHER_NODE}


async def test_folders_may_come_late_and_vanish_and_come_again(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    folder = ray.begin()
    (folder / "logs" / "export_events").rmdir()
    async with collecting(config, store):
        append(ray.events(), line(1))
        await settled(lambda: has(store, key(), {line(1)}))
        (folder / "logs" / "export_events").mkdir()
        append(ray.export(), line(2))
        await settled(lambda: has(store, key(), {line(1), line(2)}))
        ray.export().unlink()
        (folder / "logs" / "export_events").rmdir()
        (folder / "logs" / "export_events").mkdir()
        append(ray.export(), line(3))
        await settled(lambda: has(store, key(), {line(1), line(2), line(3)}))


async def test_without_ray_s_folder_a_posted_record_names_the_node(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path, node_id=None)
    async with collecting(config, store) as it:
        assert await post(it.url, event(1) | {"nodeId": "srKysrKysrKysrKysrKysrKysrKysrKysrKysg=="}) == 200
        await settled(lambda: has_posted(store, key(), {"id-1"}))
    assert {node for node, *_ in await stored_records(store, key())} == {OTHER_NODE}


# sessions after one another


async def test_the_next_session_gets_nothing_of_the_last_one_nor_the_reverse(
    tmp_path: Path, store: MemoryStore
) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    ray.begin(SESSION)
    append(ray.export(SESSION), line(1))
    async with collecting(config, store) as it:
        await settled(lambda: has_count(store, 1))
        ray.begin(LATER)
        append(ray.export(LATER), line(2))
        append(ray.export(SESSION), line(3))
        await settled(lambda: has(store, key(LATER), {line(2)}))
        await settled(lambda: has(store, key(SESSION), {line(1), line(3)}))
        append(ray.events(SESSION), line(4))
        assert await post(it.url, event(5, SESSION)) == 200
        await settled(lambda: has_count(store, 4, key(SESSION)))
    assert it.clean
    assert await has(store, key(LATER), {line(2)})


async def test_sessions_left_from_before_are_finished_one_at_a_time_the_newest_first(
    tmp_path: Path, store: MemoryStore
) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    names = [f"session_2026-01-1{day}_02-00-00_123456_1" for day in range(5)]
    for number, name in enumerate(names):
        ray.begin(name)
        append(ray.export(name), line(number))
    order = []

    async def note(of: SessionKey, _: object) -> None:
        order.append(of.session)

    async with collecting(config, store, on_segment=note):
        for number, name in enumerate(names):
            await settled(lambda name=name, number=number: has(store, key(name), {line(number)}))
    assert [name for name in order if name != names[-1]] == names[-2::-1]


async def test_a_session_whose_folder_is_gone_is_stored_from_the_spool(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    async with collecting(settings(tmp_path, node_id=None), store) as it:
        assert await post(it.url, event(1, SESSION)) == 200
    assert it.clean is False
    ray.begin(LATER)
    async with collecting(config, store):
        await settled(lambda: has_posted(store, key(SESSION), {"id-1"}))


# the end


@pytest.mark.parametrize("role", ["head", "worker"])
async def test_told_to_stop_it_stores_all_and_only_the_head_says_that_the_session_ended(
    tmp_path: Path, store: MemoryStore, role: str
) -> None:
    config = settings(tmp_path, role=role, segment_age=3600.0)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    append(ray.export(), *[line(n) for n in range(100)])
    async with collecting(config, store) as it:
        assert await post(it.url, event(1)) == 200
    assert it.clean is True
    assert await has_count(store, 101)
    assert {header.reason for header, _ in await stored_segments(store, key())} == {"shutdown"}
    known = await read_metadata(store, key())
    assert known is not None
    assert (known.ended_ms is not None) == (role == "head")


async def test_a_head_whose_collector_was_only_restarted_has_not_ended(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    append(ray.export(), line(1))
    async with collecting(config, store):
        await settled(lambda: has_count(store, 1))
    async with collecting(config, store):
        append(ray.export(), line(2))
        await settled(lambda: has_count(store, 2))
        known = await read_metadata(store, key())
        assert known is not None
        assert known.ended_ms is None


async def test_an_end_stands_where_ray_is_down_though_its_session_is_still_the_last_one(
    tmp_path: Path, store: MemoryStore
) -> None:
    """A laptop: Ray was stopped, the collector is started again and stopped again."""
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    folder = ray.begin()
    append(ray.export(), line(1))
    written_ms = ray.export().stat().st_mtime_ns // 1_000_000
    (folder / "sockets").mkdir()
    for _ in range(2):
        with capture_logs() as said:
            async with collecting(config, store):
                await settled(lambda said=said: is_said(said, "following"))
                await settled(lambda: has_count(store, 1))
        known = await read_metadata(store, key())
        assert known is not None
        assert known.ended_ms == written_ms


async def test_metadata_of_a_newer_program_is_left_alone_and_the_records_flow(
    tmp_path: Path, store: MemoryStore
) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    append(ray.export(), line(1))
    await store.put(key().metadata, b'{"format": 99}')
    async with collecting(config, store) as it:
        await settled(lambda: has_count(store, 1))
    assert it.clean
    assert await store.get(key().metadata) == b'{"format": 99}'


async def test_the_session_before_has_ended_when_its_files_were_last_written(
    tmp_path: Path, store: MemoryStore
) -> None:
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    ray.begin(SESSION)
    append(ray.export(SESSION), line(1))
    written_ms = ray.export(SESSION).stat().st_mtime_ns // 1_000_000
    ray.begin(LATER)

    async def ended() -> bool:
        known = await read_metadata(store, key(SESSION))
        return known is not None and known.ended_ms == written_ms

    async with collecting(config, store):
        await settled(ended)
        known = await read_metadata(store, key(LATER))
        assert known is None or known.ended_ms is None


async def test_a_session_without_a_single_record_is_known_all_the_same(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path, owner_kind="RayJob", owner_name="nightly")
    RayFolder(config.ray_tmp).begin()

    async def known() -> bool:
        return await read_metadata(store, key()) is not None

    async with collecting(config, store):
        await settled(known)
    about = await read_metadata(store, key())
    assert about is not None
    assert (about.owner_kind, about.owner_name) == ("RayJob", "nightly")
    assert about.created_ms > 0


# what can't be a record


async def test_a_bad_posted_record_ends_up_in_the_store_s_quarantine(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path)
    RayFolder(config.ray_tmp).begin()

    async def kept() -> bool:
        return bool(await store.list(f"{key().root}quarantine/{NODE}/"))

    async with collecting(config, store) as it:
        assert await post(it.url, 17, event(1)) == 200
        await settled(kept)
        await settled(lambda: has_posted(store, key(), {"id-1"}))
    assert list((config.data_dir / "quarantine").rglob("*.jsonl")) == []


async def test_a_line_over_the_limit_is_kept_aside_whole_and_its_neighbours_flow(
    tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pipeline.read.tail", "pipeline.read.intake"):
        monkeypatch.setattr(f"{module}.LINE_LIMIT", 3 << 20)
    long = line(2, size=7 << 20)
    config = settings(tmp_path)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    append(ray.export(), line(1), long, line(3))
    before = metrics.LINES_TOO_LONG._value.get()
    async with collecting(config, store):
        await settled(lambda: has(store, key(), {line(1), line(3)}))
    parts = await store.list(f"{key().root}quarantine/")
    assert b"".join([await store.get(part.key) for part in parts]) == long
    assert max(part.size for part in parts) <= 3 << 20
    gaps = [gap for header, _ in await stored_segments(store, key()) for gap in header.gaps]
    assert [(gap["why"], gap["start"], gap["end"]) for gap in gaps] == [
        ("too_long", len(line(1)), len(line(1)) + len(long))
    ]
    assert metrics.LINES_TOO_LONG._value.get() == before + 1


async def test_secrets_are_masked_before_they_leave_and_only_if_that_is_on(tmp_path: Path, store: MemoryStore) -> None:
    secret = b'{"event_id": "1", "runtime_env": {"env_vars": {"TOKEN": "hunter2"}}}\n'
    ray = RayFolder(tmp_path / "ray")
    ray.begin()
    append(ray.export(), secret, line(1))
    async with collecting(settings(tmp_path), store):
        await settled(lambda: has_count(store, 2))
    assert not any(b"hunter2" in each for each in await stored_lines(store, key()))
    plain = MemoryStore()
    async with collecting(settings(tmp_path, redact=False, data_dir=tmp_path / "other"), plain):
        await settled(lambda: has(plain, key(), {secret, line(1)}))


async def test_bytes_gone_before_they_were_read_are_said_in_the_next_header(
    tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.read.intake.ROUND", 1)
    monkeypatch.setattr("pipeline.read.tail.CHUNK", 70_000)
    config = settings(tmp_path, segment_bytes=1)
    ray = RayFolder(config.ray_tmp)
    ray.begin()
    append(ray.export(), *[line(n, size=100) for n in range(3000)])
    read = 0

    def truncate_after_the_first_read(point: str) -> None:
        nonlocal read
        read += point == "read"
        if point == "read" and read == 1:
            ray.export().write_bytes(line(9999))

    async with collecting(config, store, at=truncate_after_the_first_read, may_block=True):
        await settled(lambda: is_in(store, line(9999)))
    gaps = [gap for header, _ in await stored_segments(store, key()) for gap in header.gaps]
    assert [gap["why"] for gap in gaps] == ["truncated"]
    assert gaps[0]["end"] == sum(len(line(n, size=100)) for n in range(3000))


async def is_in(store: MemoryStore, one: bytes) -> bool:
    return one in await stored_lines(store, key())


async def test_what_it_does_can_be_seen_at_metrics(tmp_path: Path, store: MemoryStore) -> None:
    config = settings(tmp_path)
    RayFolder(config.ray_tmp).begin()
    async with collecting(config, store) as it, httpx.AsyncClient() as client:
        before = figures((await client.get(f"{it.url}/metrics")).text)
        assert await post(it.url, event(1), event(1), 17) == 200
        await settled(lambda: has_count(store, 1))
        after = figures((await client.get(f"{it.url}/metrics")).text)
    assert after["ray_history_spool_bytes"] > 0
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    assert grown['ray_history_posts_total{status="200"}'] == 1
    assert grown['ray_history_records_posted_total{outcome="accepted"}'] == 1
    assert grown['ray_history_records_posted_total{outcome="duplicate"}'] == 1
    assert grown['ray_history_records_posted_total{outcome="quarantined"}'] == 1
    assert grown['ray_history_lines_read_total{dialect="ray_event"}'] == 1


def figures(text: str) -> dict[str, float]:
    lines = [each.rpartition(" ") for each in text.splitlines() if not each.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def test_a_folder_that_this_user_may_not_read_is_named(
    tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path)
    folder = RayFolder(config.ray_tmp).begin() / "logs" / "events"
    allowed = os.access
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder and allowed(path, mode))
    with capture_logs() as said:
        async with collecting(config, store):
            await settled(lambda: is_said(said, "folders can't be read"))
    assert [each["folders"] for each in said if "folders" in each] == [[str(folder)]]


async def is_said(said: list[EventDict], event: str) -> bool:
    return any(each["event"].startswith(event) for each in said)

"""What only the dashboard knows is asked for and kept: the best answer, of the right session, without secrets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from aiohttp import web
from support.captures import DATA, event_files, posts
from support.loggers import KEY, Clock

from api.session.snapshot_reader import SnapshotReader
from pipeline.config import PollConfig
from pipeline.dashboard.endpoints import Answer, BadAnswer, folder, pack, place, same_request, unpack
from pipeline.dashboard.poll import ALWAYS, DATASETS, NODES, SERVE, TRAIN, Poller, check_extra
from pipeline.dashboard.uses import Uses, tells_of_jobs
from pipeline.errors import ConfigError
from pipeline.stores.patience import Patience
from pipeline.stores.store import MemoryStore, check_key

pytestmark = pytest.mark.anyio

Reply = tuple[int, Any]
JOBS = [
    {"job_id": "01000000", "runtime_env": {"env_vars": {"TOKEN": "hunter2!"}}},
    {"job_id": "02000000"},
    {"job_id": None},
]


class Dashboard:
    """A dashboard that answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {
            "/api/version": (200, {"ray_version": "2.60.0", "session_name": KEY.session}),
            "/timezone": (200, {"offset": "+00:00", "value": "Europe/London"}),
            "/api/jobs/": (200, JOBS),
            "/api/serve/applications/": (200, {"applications": {"app": {}}}),
        }
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.hangs_at: str | None = None
        self.hanging = anyio.Event()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        url = str(request.rel_url)
        self.asked.append(url)
        self.headers.append(dict(request.headers))
        if url == self.hangs_at:
            self.hanging.set()
            await anyio.sleep(3600)
        status, body = self.replies.get(url, (404, "404: Not Found"))
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(
            status=status, text=text, content_type="text/plain" if isinstance(body, str) else "application/json"
        )


@asynccontextmanager
async def serving(dashboard: Dashboard) -> AsyncIterator[Dashboard]:
    app = web.Application()
    app.router.add_get("/{path:.*}", dashboard.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    dashboard.url = site.name.replace("localhost", "127.0.0.1")
    try:
        yield dashboard
    finally:
        await runner.cleanup()


@pytest.fixture
async def dashboard() -> AsyncIterator[Dashboard]:
    async with serving(Dashboard()) as each:
        yield each


class PutsStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.puts: list[str] = []

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        self.puts.append(key)
        return await super().put(key, data, if_absent=if_absent)


@pytest.fixture
def store() -> PutsStore:
    return PutsStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


Make = Callable[..., Poller]


@pytest.fixture
def make(store: PutsStore, dashboard: Dashboard, clock: Clock, tmp_path: Path) -> Make:
    def poller(*, redact: bool = True, **config: Any) -> Poller:
        settings = PollConfig(**{"dashboard": dashboard.url, **config})
        patience = Patience(store, first=0.001)
        return Poller(
            settings, store, patience, KEY, tmp_path, redact=redact, clock=clock, now_ms=lambda: int(clock.now * 1000)
        )

    return poller


async def kept(store: MemoryStore) -> dict[str, Answer]:
    answers = [unpack(await store.get(info.key)) for info in await store.list(folder(KEY))]
    return {answer.url: answer for answer in answers}


async def body(store: MemoryStore, url: str) -> Any:
    return json.loads((await kept(store))[url].body)


async def test_every_answer_is_kept_word_for_word_with_its_status_and_time(
    make: Make, store: PutsStore, dashboard: Dashboard
) -> None:
    await make().round()

    answers = await kept(store)
    assert list(answers) == sorted(["/api/version", *ALWAYS], key=lambda url: place(KEY, url))
    assert answers["/timezone"] == Answer(
        "/timezone", 200, "application/json", 1_000_000, json.dumps(dashboard.replies["/timezone"][1])
    )
    assert answers["/api/cluster_status"].status == 404


async def test_an_answer_is_found_by_its_request_and_by_nothing_else(make: Make, store: PutsStore) -> None:
    await make().round()

    for url, answer in (await kept(store)).items():
        assert unpack(await store.get(place(KEY, url))) == answer
    assert place(KEY, "/api/cluster_status") != place(KEY, "/api/cluster_status?format=1")


async def test_an_answer_that_says_the_same_is_not_written_again(
    make: Make, store: PutsStore, dashboard: Dashboard, clock: Clock
) -> None:
    poller = make()
    await poller.round()
    clock.now += 10
    before = len(store.puts)
    await poller.round()
    assert len(store.puts) == before

    dashboard.replies["/timezone"] = (200, {"value": "UTC"})
    await poller.round()
    assert store.puts[before:] == [place(KEY, "/timezone")]


@pytest.mark.parametrize("poorer", [(200, []), (500, "boom"), (503, []), (404, "gone"), (200, "")])
async def test_a_poorer_answer_at_the_end_does_not_replace_a_full_one(
    make: Make, store: PutsStore, dashboard: Dashboard, poorer: Reply
) -> None:
    poller = make()
    await poller.round()
    dashboard.replies["/api/jobs/"] = poorer

    await poller.round()
    await poller.round(last=True)

    assert len(await body(store, "/api/jobs/")) == len(JOBS)


async def test_a_poorer_answer_does_not_replace_what_an_earlier_collector_kept(
    make: Make, store: PutsStore, dashboard: Dashboard
) -> None:
    await make().round()
    dashboard.replies["/api/jobs/"] = (200, [])

    restarted = make()
    await restarted.begin()
    await restarted.round(last=True)

    assert len(await body(store, "/api/jobs/")) == len(JOBS)


async def test_an_empty_answer_that_stands_for_a_minute_is_the_truth(
    make: Make, store: PutsStore, dashboard: Dashboard, clock: Clock
) -> None:
    url = SERVE
    poller = make()
    poller.uses.see(b'{"name": "SERVE_CONTROLLER_ACTOR"}')
    await poller.round()
    dashboard.replies[url] = (200, {"applications": {}})
    await poller.round()
    clock.now += 59
    await poller.round()
    assert await body(store, url) == {"applications": {"app": {}}}

    clock.now += 1
    await poller.round()

    assert await body(store, url) == {"applications": {}}


async def test_an_error_that_stands_for_ever_replaces_nothing(
    make: Make, store: PutsStore, dashboard: Dashboard, clock: Clock
) -> None:
    poller = make()
    await poller.round()
    dashboard.replies["/api/jobs/"] = (500, "boom")
    for _ in range(3):
        clock.now += 1000
        await poller.round()

    assert len(await body(store, "/api/jobs/")) == len(JOBS)


@pytest.mark.parametrize(
    ("first", "then"), [((500, "starting"), (404, "no")), ((404, "no"), (200, [])), ((200, []), (200, JOBS))]
)
async def test_a_richer_answer_replaces_a_poorer_one_at_once(
    make: Make, store: PutsStore, dashboard: Dashboard, first: Reply, then: Reply
) -> None:
    poller = make(redact=False)
    dashboard.replies["/api/jobs/"] = first
    await poller.round()
    dashboard.replies["/api/jobs/"] = then
    await poller.round()

    answer = (await kept(store))["/api/jobs/"]
    assert answer.status == then[0]
    assert answer.body == (then[1] if isinstance(then[1], str) else json.dumps(then[1]))


async def test_an_answer_with_parts_missing_does_not_replace_a_whole_one(
    make: Make, store: PutsStore, dashboard: Dashboard
) -> None:
    url = "/api/v0/runtime_envs?detail=1&limit=10000"
    whole = {"data": {"result": {"result": [{"a": 1}, {"a": 2}], "partial_failure_warning": None}}}
    poller = make()
    dashboard.replies[url] = (200, whole)
    await poller.round()
    dashboard.replies[url] = (
        200,
        {"data": {"result": {"result": [{"a": 1}], "partial_failure_warning": "1 of 2 nodes"}}},
    )
    await poller.round(last=True)

    assert await body(store, url) == whole


async def test_a_dashboard_that_has_just_started_does_not_replace_what_the_one_before_had_measured(
    make: Make, store: PutsStore, dashboard: Dashboard
) -> None:
    full = {"data": {"summary": [{"raylet": {"nodeId": "ab"}, "mem": [4, 3, 25.0, 1]}, {"raylet": {"nodeId": "cd"}}]}}
    poller = make()
    dashboard.replies[NODES] = (200, full)
    await poller.round()
    dashboard.replies[NODES] = (
        200,
        {"data": {"summary": [{"raylet": {"nodeId": "ab"}}, {"raylet": {"nodeId": "cd"}}]}},
    )
    await poller.round()

    assert await body(store, NODES) == full


async def test_what_the_machines_measure_is_asked_for_whatever_the_session_uses(
    make: Make, store: PutsStore, dashboard: Dashboard
) -> None:
    poller = make()
    for share in (25.0, 50.0):
        dashboard.replies[NODES] = (200, {"data": {"summary": 1}})
        await poller.round()
        dashboard.replies[NODES] = (200, {"data": {"summary": [{"raylet": {"nodeId": "ab"}, "mem": [4, 3, share, 1]}]}})
        await poller.round()
        assert (await body(store, NODES))["data"]["summary"][0]["mem"][2] == share


async def test_the_dashboard_of_another_session_is_not_asked(
    make: Make, store: PutsStore, dashboard: Dashboard
) -> None:
    dashboard.replies["/api/version"] = (200, {"ray_version": "2.60.0", "session_name": "session_of_another_day"})

    await make().round()

    assert dashboard.asked == ["/api/version"]
    assert await kept(store) == {}


async def test_a_dashboard_that_does_not_say_its_session_is_asked(
    make: Make, store: PutsStore, dashboard: Dashboard
) -> None:
    dashboard.replies["/api/version"] = (200, {"ray_version": "2.8.0"})

    await make().round()

    assert len(await body(store, "/api/jobs/")) == len(JOBS)


async def test_what_changes_a_cluster_is_asked_for_only_where_it_is_used(
    make: Make, store: PutsStore, dashboard: Dashboard, tmp_path: Path
) -> None:
    dashboard.replies[f"{DATASETS}01000000"] = (200, {"datasets": [{"dataset": "d"}]})
    poller = make()
    await poller.round()
    assert not [url for url in dashboard.asked if url.startswith((DATASETS, SERVE, TRAIN))]

    (tmp_path / KEY.session / "logs" / "ray-data").mkdir(parents=True)
    await poller.round()

    asked = [url for url in dashboard.asked if url.startswith((DATASETS, SERVE, TRAIN))]
    assert asked == [f"{DATASETS}01000000", f"{DATASETS}02000000"]
    assert await body(store, f"{DATASETS}01000000") == {"datasets": [{"dataset": "d"}]}

    poller.uses.see(b'"name":"SERVE_CONTROLLER_ACTOR" train_v2_state_actor')
    await poller.round()
    assert {SERVE, TRAIN} <= set(dashboard.asked)


def test_records_show_which_libraries_are_used() -> None:
    uses = Uses()
    uses.see(b'{"eventType": "ACTOR_DEFINITION_EVENT", "name": "counter"}\n')
    assert uses.found == set()
    uses.see(b'{"actorDefinitionEvent": {"name": "datasets_stats_actor"}}\n')
    assert uses.found == {"data"}
    uses.see(b'{"source_type": "EXPORT_TRAIN_RUN"}\n')
    assert uses.found == {"data", "train"}


async def test_secrets_are_masked_before_they_leave(make: Make, store: PutsStore) -> None:
    await make().round()
    assert (await body(store, "/api/jobs/"))[0]["runtime_env"] == {"env_vars": {"TOKEN": "********"}}
    assert b"hunter2!" not in b"".join([await store.get(key) for key in store.puts])

    await make(redact=False).round()
    assert await body(store, "/api/jobs/") == JOBS


async def test_a_dashboard_that_comes_late_is_waited_for_and_asked_once_more_at_the_end(
    store: PutsStore, tmp_path: Path
) -> None:
    dashboard = Dashboard()
    structlog.reset_defaults()  # other tests run commands, whose log level stays
    with structlog.testing.capture_logs() as said:
        await wait_for_it(store, dashboard, tmp_path)
    assert sum("can't be asked yet" in each["event"] for each in said) == 1


async def wait_for_it(store: PutsStore, dashboard: Dashboard, tmp_path: Path) -> None:
    settings = PollConfig(dashboard="http://127.0.0.1:9", interval=0.001)
    poller = Poller(settings, store, Patience(store), KEY, tmp_path)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poller.run)
            while poller._trouble is None:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            async with serving(dashboard):
                poller._config = PollConfig(dashboard=dashboard.url, interval=3600)
                while not await kept(store):
                    poller.wake.set()
                    await anyio.sleep(0.01)
                before = dashboard.asked.count("/api/version")
                poller.finish("stopped")
                while dashboard.asked.count("/api/version") == before:  # noqa: ASYNC110
                    await anyio.sleep(0.001)


async def test_an_answer_that_never_comes_does_not_hold_up_the_end(
    make: Make, dashboard: Dashboard, store: PutsStore
) -> None:
    dashboard.hangs_at = "/api/jobs/"
    poller = make()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poller.run)
            await dashboard.hanging.wait()
            dashboard.hangs_at = None
            poller.finish("stopped")

    assert len(await body(store, "/api/jobs/")) == len(JOBS)


async def test_a_session_that_is_over_is_not_asked_for(make: Make, dashboard: Dashboard) -> None:
    poller = make()
    poller.finish("read")

    await poller.run()

    assert dashboard.asked == []


async def test_an_answer_that_is_too_large_is_not_kept(make: Make, dashboard: Dashboard, store: PutsStore) -> None:
    dashboard.replies["/api/jobs/"] = (200, "x" * 10_001)

    await make(body_limit=10_000).round()

    answers = await kept(store)
    assert "/api/jobs/" not in answers
    assert "/timezone" in answers


async def test_the_token_is_sent_and_read_again_for_each_round(
    make: Make, dashboard: Dashboard, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    poller = make(token_file=file)
    await poller.round()
    file.write_text("two\n")
    await poller.round()
    file.unlink()
    await poller.round()

    tokens = list(dict.fromkeys(headers.get("Authorization") for headers in dashboard.headers))
    assert tokens == ["Bearer one", "Bearer two", None]


async def test_a_redirect_is_not_followed(make: Make, dashboard: Dashboard, store: PutsStore) -> None:
    dashboard.replies["/timezone"] = (302, "elsewhere")

    await make(token="secret").round()

    assert (await kept(store))["/timezone"].status == 302


async def test_further_paths_are_asked_for_as_they_were_named(
    make: Make, dashboard: Dashboard, store: PutsStore
) -> None:
    url = check_extra("/api/v0/nodes?filter_keys=state&filter_predicates=%3D&filter_values=DEAD")
    dashboard.replies[url] = (200, {"a": 1})

    await make(extra=(url, url, "/timezone")).round()

    assert await body(store, url) == {"a": 1}
    assert dashboard.asked.count("/timezone") == dashboard.asked.count(url) == 1


def test_a_path_of_any_length_has_a_place() -> None:
    for length in range(1, 600):
        check_key(place(KEY, "/" + "ü?" * length))


@pytest.mark.parametrize("url", ["", "api/v0/nodes", "http://elsewhere/", "/a b", "/a\nb", "/ü", "/a#b"])
def test_a_path_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        check_extra(url)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"url": 1}', b"[]"])
async def test_an_object_that_is_no_answer_is_left_out(make: Make, store: PutsStore, data: bytes) -> None:
    with pytest.raises(BadAnswer):
        unpack(data)
    await store.put(place(KEY, "/timezone"), data)
    poller = make()
    await poller.begin()
    await poller.round()

    assert (await kept(store))["/timezone"].status == 200


def test_the_order_of_a_query_makes_no_other_request() -> None:
    assert same_request("/a?x=1&y=2", "/a?y=2&x=1")
    assert not same_request("/a?x=1", "/a?x=2")
    assert not same_request("/a", "/b")


class ReadsStore(PutsStore):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: list[str] = []

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        self.gets.append(key)
        return await super().get(key, start=start, end=end)


async def test_the_server_finds_an_answer_by_its_request_and_reads_it_once(
    dashboard: Dashboard, clock: Clock, tmp_path: Path
) -> None:
    store = ReadsStore()
    poller = Poller(PollConfig(dashboard=dashboard.url), store, Patience(store), KEY, tmp_path, clock=clock)
    await poller.round()
    reader = SnapshotReader(store, KEY)
    polled = await reader.refresh()

    assert polled.value("/timezone") == dashboard.replies["/timezone"][1]
    assert polled.value("/api/jobs/")[0]["runtime_env"] == {"env_vars": {"TOKEN": "<redacted>"}}
    found = polled.answer("/api/v0/placement_groups?limit=10000&detail=1")
    assert found is not None
    assert found.status == 404
    assert polled.value(found.url) is None
    assert polled.answer("/api/v0/placement_groups") is None

    store.gets.clear()
    dashboard.replies["/timezone"] = (200, {"value": "UTC"})
    await poller.round()
    polled = await reader.refresh()
    assert store.gets == [place(KEY, "/timezone")]
    assert polled.value("/timezone") == {"value": "UTC"}
    assert polled.nbytes > 0


async def test_what_stands_in_an_answers_place_and_is_none_is_left_out(store: PutsStore) -> None:
    await store.put(place(KEY, "/a"), b"no answer")
    await store.put(place(KEY, "/b"), pack(Answer("/c", 200, "application/json", 1, "{}")))
    await store.put(place(KEY, "/d"), pack(Answer("/d", 200, "application/json", 1, "[" * 100_000)))
    polled = await SnapshotReader(store, KEY).refresh()

    assert [polled.answer(url) for url in ("/a", "/b", "/c")] == [None, None, None]
    assert polled.value("/d") is None


async def test_the_jobs_alone_are_asked_for_when_a_record_tells_of_one(
    store: PutsStore, dashboard: Dashboard, tmp_path: Path
) -> None:
    counts: list[int] = []
    config = PollConfig(dashboard=dashboard.url, interval=3600)
    poller = Poller(config, store, Patience(store), KEY, tmp_path, on_kept=counts.append)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poller.run)
            while not counts:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            before = len(dashboard.asked)
            dashboard.replies["/api/jobs/"] = (200, [*JOBS, {"job_id": "03000000"}])
            poller.soon()
            while len(await body(store, "/api/jobs/")) == len(JOBS):  # noqa: ASYNC110
                await anyio.sleep(0.01)
            assert dashboard.asked[before:] == ["/api/version", "/api/jobs/"]

            poller.soon()
            poller.soon()
            dashboard.replies["/api/jobs/"] = (200, [*JOBS, {"job_id": "04000000"}])
            while "04000000" not in (await kept(store))["/api/jobs/"].body:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            assert dashboard.asked[before:].count("/api/jobs/") <= 3, "however often it is told"
            poller.finish("stopped")

    assert counts[0] == len(ALWAYS) + 1
    assert counts[1:3] == [counts[0] + 1, counts[0] + 2]


@pytest.mark.parametrize(("recording", "folder"), [("posted", None), ("export", "export_events")])
def test_what_ray_writes_of_jobs_is_recognised_and_nothing_else(recording: str, folder: str | None) -> None:
    capture = DATA / recording
    if folder is None:
        written = [json.dumps(event).encode() for body in posts(capture) for event in json.loads(body)]
    else:
        written = [line for file in event_files(capture, folder) for line in file.read_bytes().splitlines()]
    of_jobs = [record for record in written if tells_of_jobs(record)]

    assert of_jobs
    assert all(b"JOB" in record for record in of_jobs)
    assert len(of_jobs) < len(written) / 10

"""Every address of Ray's dashboard is answered for a recorded session: what is known, empty, or a refusal in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.answers import enveloped, job, told
from support.client import client
from support.indexes import index_of
from support.sessions import KEY, SegmentWriter, WrappedStore, event, finished_task, running_task

from api.views.activity_report import component_activities
from pipeline.events import DriverJobUpdate
from pipeline.layout import SessionKey

pytestmark = pytest.mark.anyio

AT = f"/sessions/{KEY}"
BROWSER = {"user-agent": "Mozilla/5.0", "sec-fetch-mode": "cors"}
ENDED_MS = 1_768_528_890_000
IDS = {"job_id": "02000000", "submission_id": "raysubmit_a", "node_id": "ab" * 28, "actor_id": "00"}
UNKNOWN = frozenset({"/api/v0/delay/{delay_s}", "/test/dump", "/api/jobs/{job_or_submission_id}/logs/tail"})
"""Made for Ray's own tests; and a WebSocket, which no GET opens."""
ELSEWHERE = ("/api/job_agent/", "/api/local_raylet_healthz", "/api/healthz", "/api/task_events", "/report_events")
"""What agents and the dashboard's own processes ask each other."""


async def a_session(**known: Any) -> WrappedStore:
    store = WrappedStore()
    writer = SegmentWriter(store)
    await writer.begin(**{"ended_ms": ENDED_MS} | known)
    await writer.write(finished_task(1, "leaf") + running_task(2, "root"))
    await told(store, KEY, "/api/jobs/", [job()])
    return store


def rays_gets() -> list[str]:
    """The paths of all GETs that the installed Ray's dashboard head takes."""
    ray = pytest.importorskip("ray")
    found = set()
    for file in (Path(ray.__file__).parent / "dashboard").rglob("*.py"):
        if "/tests/" not in str(file):
            found.update(re.findall(r"@routes\.get\(\s*\"([^\"]+)\"", file.read_text()))
    return sorted(path for path in found if not path.startswith(ELSEWHERE) and path not in UNKNOWN)


async def test_every_get_of_rays_dashboard_is_an_address_here() -> None:
    paths = rays_gets()
    assert len(paths) > 40
    nothing = {}
    async with client(await a_session()) as http:
        for path in paths:
            at = re.sub(r"\{(\w+)\}", lambda name: {"media_type": "file", "single_job": "1"}.get(name[1], IDS.get(name[1], "x")), path)  # fmt: skip
            answer = await http.get(AT + at)
            if answer.status_code == 404 and "nothing at" in answer.text:
                nothing[path] = answer.text
    assert nothing == {}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/grafana_health", {"result": True, "msg": "Grafana disabled", "data": {"grafanaHost": "DISABLED"}}),
        ("/api/authentication_mode", {"authentication_mode": "disabled"}),
        ("/api/v0/runtime_env_redaction", enveloped(redactionEnabled=True)),
        ("/api/serve/applications/", {"applications": {}}),
        ("/api/data/datasets/02000000", {"datasets": []}),
        ("/api/train/v2/runs/v1", {"train_runs": []}),
        ("/api/train/v2/runs", {"train_runs": []}),
        ("/api/prometheus/sd", []),
    ],
)
async def test_what_a_page_asks_to_know_what_to_show_shows_nothing_that_isnt_there(path: str, expected: Any) -> None:
    async with client(await a_session()) as http:
        answer = await http.get(AT + path)
    assert (answer.status_code, answer.json()) == (200, expected)


async def test_profiling_is_off_in_rays_own_shape() -> None:
    async with client(await a_session()) as http:
        said = (await http.get(f"{AT}/api/profiling_enabled")).json()["data"]
    assert said["profilingEnabled"] is False
    assert said["profilingDefaults"]["cpuDuration"] == 5


async def test_an_unhealthy_prometheus_is_no_failed_request() -> None:
    async with client(await a_session()) as http:
        answer = await http.get(f"{AT}/api/prometheus_health")
    assert (answer.status_code, answer.json()["result"]) == (200, False)


async def test_without_a_dashboards_answer_the_cluster_status_says_so_as_ray_does() -> None:
    async with client(await a_session()) as http:
        formatted = (await http.get(f"{AT}/api/cluster_status?format=1")).json()
        plain = (await http.get(f"{AT}/api/cluster_status")).json()
    assert formatted["data"]["clusterStatus"].startswith("No cluster status.")
    assert plain["data"] == {"autoscalingStatus": None, "autoscalingError": None, "clusterStatus": None}


async def test_serve_is_answered_as_it_was_told_but_for_nulls_that_blank_its_page() -> None:
    store = await a_session()
    said = {"controller_info": None, "proxies": None, "applications": {"a": {"name": "a"}}, "target_capacity": None}
    await told(store, KEY, "/api/serve/applications/", said)
    async with client(store) as http:
        answer = (await http.get(f"{AT}/api/serve/applications/")).json()
    assert answer == {"applications": {"a": {"name": "a"}}, "target_capacity": None}


async def test_serve_hides_secrets_from_a_browser_and_not_from_the_command_line() -> None:
    store = await a_session()
    deployment = {"ray_actor_options": {"runtime_env": {"env_vars": {"A": "secret"}, "pip": ["x"]}}}
    await told(store, KEY, "/api/serve/applications/", {"applications": {"a": {"deployments": [deployment]}}})
    async with client(store) as http:
        shown = (await http.get(f"{AT}/api/serve/applications/", headers=BROWSER)).text
        printed = (await http.get(f"{AT}/api/serve/applications/")).text
    assert ("secret" in shown, "<redacted>" in shown, "pip" in shown) == (False, True, True)
    assert "secret" in printed


async def test_objects_are_none_and_the_command_line_is_told_why() -> None:
    async with client(await a_session()) as http:
        listed = (await http.get(f"{AT}/api/v0/objects?detail=True&limit=100")).json()["data"]["result"]
        summary = (await http.get(f"{AT}/api/v0/objects/summarize")).json()["data"]["result"]
    assert (listed["total"], listed["result"]) == (0, [])
    assert "no objects" in listed["warnings"][0]
    assert listed["partial_failure_warning"] == "", "for which Ray's Python API raises"
    assert summary["result"]["node_id_to_summary"]["cluster"]["total_objects"] == 0


LOG_EVENTS = [
    b'{"event_id":"1","timestamp":"1768528801","severity":"ERROR","source_type":"RAYLET","label":"L","message":"a\\\\nb",'
    b'"custom_fields":{"job_id":"02000000"}}\n',
    b'{"event_id":"2","timestamp":1768528800,"severity":"INFO","source_type":"GCS","label":"","message":"m","custom_fields":{}}\n',
    b'{"event_id":"3","timestamp":"soon","severity":"INFO","source_type":"GCS","label":"","message":"n","custom_fields":{}}\n',
]


async def cluster_events(path: str = "") -> list[dict[str, Any]]:
    store = await a_session()
    writer = SegmentWriter(store, node="cd" * 28)
    await writer.write(LOG_EVENTS, source="events/event_GCS.log~1", dialect="log_event")
    await told(store, KEY, "/timezone", {"offset": "+01:00", "value": "Europe/Amsterdam"})
    async with client(store) as http:
        rows: list[dict[str, Any]] = (await http.get(f"{AT}/api/v0/cluster_events{path}")).json()["data"]["result"][
            "result"
        ]
    return rows


async def test_cluster_events_are_the_log_events_of_all_jobs_oldest_first_in_the_clusters_time() -> None:
    rows = await cluster_events("?detail=1")
    assert [row["event_id"] for row in rows][-2:] == ["2", "1"]
    assert rows[-1] == {
        "severity": "ERROR",
        "time": "2026-01-16 03:00:01",
        "source_type": "RAYLET",
        "message": "a\nb",
        "event_id": "1",
        "custom_fields": {"job_id": "02000000"},
    }


async def test_cluster_events_take_rays_filters() -> None:
    rows = await cluster_events("?filter_keys=severity&filter_predicates=%3D&filter_values=error")
    assert [row["event_id"] for row in rows] == ["1"]
    assert "custom_fields" not in rows[0]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_platform_events_are_an_address_only_where_some_were_recorded(method: str) -> None:
    store = await a_session()
    async with client(store, refresh=0.0) as http:
        assert (await http.request(method, f"{AT}/api/v0/platform_events")).status_code == 404
    writer = SegmentWriter(store, node="cd" * 28)
    payload = {"source": {"platform": "KUBERNETES"}, "objectKind": "Pod", "reason": "OOMKilled"}
    await writer.write([event("PLATFORM_EVENT", "platformEvent", payload, number) for number in (1, 2)])
    async with client(store, refresh=0.0) as http:
        found = await http.get(f"{AT}/api/v0/platform_events")
        assert (await http.request(method, f"{AT}/api/v0/platform_events")).status_code == 200
    assert [each["platformEvent"]["reason"] for each in found.json()["data"]["events"]] == ["OOMKilled"] * 2


@pytest.mark.parametrize("path", ["/task/cpu_profile?task_id=1", "/worker/traceback", "/memory_profile", "/cluster_id"])
async def test_what_needs_the_living_cluster_is_refused_in_rays_shape_and_never_passed_over(path: str) -> None:
    async with client(await a_session()) as http:
        answer = await http.get(AT + path)
    said = answer.json()
    assert (answer.status_code, said["result"], said["data"]) == (501, False, {})
    assert "recorded session" in said["msg"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/jobs/", 405),
        ("POST", "/api/jobs/raysubmit_a/stop", 405),
        ("DELETE", "/api/jobs/02000000", 405),
        ("POST", "/api/jobs/nobody/stop", 404),
        ("PUT", "/api/serve/applications/", 405),
        ("PUT", "/api/packages/gcs/x.zip", 405),
        ("GET", "/api/packages/gcs/x.zip", 404),
    ],
)
async def test_nothing_in_a_recorded_session_can_be_changed_and_the_text_says_so(
    method: str, path: str, status: int
) -> None:
    async with client(await a_session()) as http:
        answer = await http.request(method, AT + path, json={} if method in ("POST", "PUT") else None)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/plain")
    assert ("recorded session" if status == 405 else "does not exist") in answer.text


async def test_the_control_plane_is_healthy_only_while_the_session_lives() -> None:
    async with client(await a_session()) as http:
        assert (await http.get(f"{AT}/api/gcs_healthz")).status_code == 503
    store = await a_session(ended_ms=None)
    async with client(store) as http:
        app = http._transport.app  # type: ignore[attr-defined]
        app.state.overviews.now_ms = lambda: KEYS_MS + 1000
        answer = await http.get(f"{AT}/api/gcs_healthz")
    assert (answer.status_code, answer.text) == (200, "success")


KEYS_MS = 1_768_528_800_123
"""When the session of that name was made."""


async def test_whether_drivers_are_at_work_is_told_from_the_jobs() -> None:
    store = await a_session(ended_ms=None)
    await told(store, KEY, "/api/jobs/", [job(), job(submission_id="raysubmit_b", status="RUNNING", end_time=None)])
    async with client(store) as http:
        http._transport.app.state.overviews.now_ms = lambda: KEYS_MS + 1000  # type: ignore[attr-defined]
        living = (await http.get(f"{AT}/api/component_activities")).json()["driver"]
    assert (living["is_active"], living["reason"]) == ("ACTIVE", "Number of active drivers: 1")
    async with client(await a_session()) as http:
        over = (await http.get(f"{AT}/api/component_activities")).json()["driver"]
    assert (over["is_active"], over["last_activity_at"]) == ("INACTIVE", job()["end_time"] / 1000)


async def test_the_last_activity_is_a_drivers_not_its_submissions() -> None:
    index = index_of([DriverJobUpdate(b"\2\0\0\0", True, 1_000, 7_000)])
    ends_ms = [driver.end_ms for driver in index.jobs.drivers()]
    jobs = [{"status": "SUCCEEDED", "job_id": "02000000", "end_time": 9_000}]
    assert component_activities(jobs, ends_ms, 10_000, over=True)["driver"]["last_activity_at"] == 7.0


@pytest.mark.parametrize("path", ["/api/v0/objects", "/api/serve/applications/", "/cluster_id", "/api/jobs"])
async def test_a_session_that_isnt_there_is_404_whatever_is_asked_of_it(path: str) -> None:
    other = SessionKey("default", "demo", "session_2026-01-01_00-00-00_000000_1")
    async with client(await a_session()) as http:
        assert (await http.get(f"/sessions/{other}{path}")).status_code == 404


async def timeline(http: httpx.AsyncClient, query: str) -> httpx.Response:
    return await http.get(f"{AT}/api/v0/tasks/timeline?{query}")


async def test_the_timeline_downloads_under_a_name_that_nobody_can_bend() -> None:
    async with client(await a_session()) as http:
        assert "content-disposition" not in (await timeline(http, "job_id=02000000")).headers
        named = (await timeline(http, "download=1&job_id=02000000")).headers["content-disposition"]
        bent = await timeline(http, 'download=1&job_id=a"%0d%0aX: y/../b')
    assert re.fullmatch(r'attachment; filename="timeline-02000000-[\d_-]+\.json"', named)
    assert (bent.status_code, "content-disposition" in bent.headers) == (400, False)

"""Lets a Ray head do known work, and keeps what its dashboard says of it.

``run`` hands both parts of ``driver.py`` in as jobs, ``rest`` waits for the dashboard's answers to come to
rest, ``save_live`` writes them down in the form of a capture (``live/``).
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from support.rayhead import RayHead, fetch, until

DRIVER = Path(__file__).with_name("driver.py")
LISTS = ("tasks", "actors", "workers", "jobs", "nodes", "placement_groups")
LIVE = (
    "/api/version",
    "/timezone",
    "/nodes?view=hostNameList",
    "/nodes?view=summary",
    "/api/jobs/",
    "/api/v0/tasks/summarize",
    "/api/v0/tasks/summarize?summary_by=lineage",
    "/api/v0/tasks/timeline",
    "/api/v0/actors?detail=1",
    "/api/v0/actors?limit=3",
    "/api/v0/actors/summarize",
    "/api/v0/nodes?detail=1",
    "/api/v0/workers?detail=1",
    "/api/v0/jobs?detail=1",
    "/api/v0/placement_groups?detail=1",
    "/logical/actors",
    "/events",
    "/api/v0/cluster_metadata",
    "/api/v0/tasks?filter_keys=state&filter_predicates=%3D&filter_values=FAILED&limit=1000",
    "/api/v0/tasks?filter_keys=bogus&filter_predicates=%3D&filter_values=1",
    "/api/v0/tasks?limit=20000",
    "/api/v0/tasks?limit=abc",
    "/api/v0/tasks?detail=1&limit=10000&exclude_driver=false",
    "/api/v0/actors?filter_keys=state&filter_predicates=%3D&filter_values=DEAD&detail=1",
    "/api/v0/tasks/summarize?filter_keys=job_id&filter_predicates=%3D&filter_values=02000000",
)

# Ray marks what a finished job left behind only 15 s later.
ENVIRONMENT = {"RAY_gcs_mark_task_failed_on_job_done_delay_ms": "1000"}

Rows = list[dict[str, Any]]


def run(head: RayHead, *, timeout: float = 120) -> None:
    """Let both jobs do their work; one has finished then, the other waits (``rest`` for the dashboard's answers)."""
    finish(head, timeout=timeout)
    second = submit(head, "stays")
    until(lambda: "ready\n" in job_logs(head, second), "the second job's word", timeout=timeout)


def finish(head: RayHead, *, timeout: float = 120) -> None:
    """Let the first job do its work, to its end."""
    first = submit(head, "finishes")
    until(lambda: _ended(head, first), "the first job's end", timeout=timeout)


def submit(head: RayHead, part: str) -> str:
    """Hand a part of the driver in as a job, as ``ray job submit`` does; its submission id."""
    entrypoint = f"{sys.executable} {DRIVER} {part}"
    body = json.dumps({"entrypoint": entrypoint, "metadata": {"team": "history"}}).encode()
    ask = urllib.request.Request(f"{head.dashboard_url}/api/jobs/", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(ask, timeout=60) as answer:
        return str(json.load(answer)["submission_id"])


def job_logs(head: RayHead, submission_id: str) -> str:
    status, body = fetch(f"{head.dashboard_url}/api/jobs/{submission_id}/logs")
    return str(json.loads(body)["logs"]) if status == 200 else ""


def _ended(head: RayHead, submission_id: str) -> bool:
    status, body = fetch(f"{head.dashboard_url}/api/jobs/{submission_id}")
    job = json.loads(body) if status == 200 else {"status": ""}
    if job["status"] in ("FAILED", "STOPPED"):
        raise RuntimeError(f"{job['message']}\n{job_logs(head, submission_id)}")
    return bool(job["status"] == "SUCCEEDED")


def rows(base: str, kind: str, *, detail: bool = True) -> Rows:
    """All rows of one state API list of a dashboard, or of a session of ours."""
    extra = "&exclude_driver=false" if kind == "tasks" else ""
    status, body = fetch(f"{base}/api/v0/{kind}?limit=10000{'&detail=1' if detail else ''}{extra}")
    if status != 200:
        raise RuntimeError(f"{base} answered {status} for {kind}: {body[:500]!r}")
    listed: Rows = json.loads(body)["data"]["result"]["result"]
    return listed


def live_rows(head: RayHead) -> dict[str, Rows]:
    return {kind: rows(head.dashboard_url, kind) for kind in LISTS}


def rest(head: RayHead, *, quiet: float = 3.0, timeout: float = 60) -> None:
    """Wait until nothing in the dashboard's lists has changed for longer than Ray holds anything back."""
    seen: list[tuple[list[str], float]] = [([], 0.0)]

    def still() -> bool:
        now, said = time.monotonic(), _settling(live_rows(head))
        if said != seen[0][0]:
            seen[0] = (said, now)
        return now - seen[0][1] >= quiet

    until(still, "the dashboard's answers to come to rest", timeout=timeout, pause=0.5)


def _settling(lists: dict[str, Rows]) -> list[str]:
    """All but the profile of the dashboard's own driver, which grows for as long as the dashboard asks Ray anything."""
    kept = ({k: v for k, v in row.items() if k != "profiling_data"} for listed in lists.values() for row in listed)
    return sorted(json.dumps(row, sort_keys=True) for row in kept)


def save_live(head: RayHead, folder: Path) -> None:
    """Write what the dashboard answers now as ``folder/live``."""
    live = folder / "live"
    live.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, url in enumerate(LIVE, 1):
        status, body = fetch(head.dashboard_url + url)
        (live / f"{number:02d}.json").write_bytes(body)
        lines.append(f"{number:02d}.json\t{status}\t{url}\n")
    (live / "index.tsv").write_text("".join(lines))

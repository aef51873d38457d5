"""Records small sessions of real Ray into ``tests/data``: what Ray sent, wrote, logged and answered.

    python tests/record.py                     all that are kept in the repository
    python tests/record.py posted tasks        some
    python tests/record.py --into F actors.posted   one in the other dialect, into the folder F

Starts a real Ray head (see ``support/rayhead.py``), lets it do the recipe's work, saves the live dashboard's
answers, kills the head, and keeps

    session             Ray's name of the session
    posts-head.jsonl    (posted) each post's body as it was received, one a line
    logs/export_events  (export) Ray's files
    logs/events         Ray's log events
    logs/               what tasks, actors and jobs printed
    log-names           the names of all logs and folders of logs
    live/               the live dashboard's answers; index.tsv says which file answers what
    expected.json       counts taken from the live answers: what a demo or a test should find again

What tells of the recording machine (address, host name, folders) is replaced everywhere alike, so that
one value stays one value. ``data`` needs ``ray[data]``, ``serve`` needs ``ray[serve,train]``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from support import asked, workload, workload_runs
from support.captures import DATA, ROOT, event_files, live_rows, session_name
from support.lived import QUIET
from support.rayhead import Dialect, RayHead, ray_head, until
from support.receiver import receiver

TASKS = "/api/v0/tasks?detail=1&limit=10000&exclude_driver=false"
PRINTED = re.compile(r"(job-driver-.*\.log|worker-.*\.(out|err))")
"""Logs that are kept whole: tasks know byte ranges of them."""


@dataclass(frozen=True)
class Recipe:
    """One session: its dialect, its work and how what the dashboard says is saved."""

    dialect: Dialect
    work: Callable[[RayHead], None]
    save: Callable[[RayHead, Path], None]
    labels: str = ""
    environment: dict[str, str] = field(default_factory=lambda: workload.ENVIRONMENT)
    logs: bool = True


def of(name: str, dialect: Dialect) -> Recipe:
    """A recipe of ``workload_runs``."""
    return Recipe(
        dialect,
        workload_runs.WORK[name],
        lambda head, target: asked.save(head.dashboard_url, target),
        workload_runs.LABELS,
        workload_runs.HEAD_ENVIRONMENT,
    )


RECIPES = {
    "posted": Recipe("posted", workload.run, workload.save_live, logs=False),
    "export": Recipe("export", workload.run, workload.save_live, logs=False),
    "tasks": of("tasks", "posted"),
    "actors": of("actors", "export"),
    "nodes": of("nodes", "posted"),
    "data": of("data", "export"),
    "serve": Recipe(
        "posted",
        workload_runs.serve,
        lambda head, target: asked.save(head.dashboard_url, target, asked.about_libraries),
        workload_runs.LABELS,
        # Tasks are left out: Serve and Train run many, and the other recordings have all there are.
        workload_runs.HEAD_ENVIRONMENT | {"RAY_enable_core_worker_ray_event_to_aggregator": "false"},
    ),
}
OTHERS = {
    "tasks.export": of("tasks", "export"),
    "actors.posted": of("actors", "posted"),
    "nodes.export": of("nodes", "export"),
    "data.posted": of("data", "posted"),
}


def record(recipe: Recipe, target: Path) -> None:
    """Live through one session and keep it in the folder ``target``."""
    shutil.rmtree(target, ignore_errors=True)
    with (
        receiver() as received,
        ray_head(
            recipe.dialect, events_port=received.port, labels=recipe.labels, environment=recipe.environment
        ) as head,
    ):
        recipe.work(head)
        workload.rest(head)
        if recipe.dialect == "posted":
            until(lambda: received.quiet(QUIET), "Ray to have posted everything", timeout=30)
        recipe.save(head, target)
        if recipe.logs:
            keep_logs(head.session_dir / "logs", target)
        head.kill()
        if received.taken:
            (target / "posts-head.jsonl").write_bytes(b"".join(body + b"\n" for body in received.taken))
        for folder in ("export_events", "events"):
            keep_files(head.session_dir / "logs" / folder, target / "logs" / folder)
        (target / "session").write_text(head.session_name + "\n")
        scrub(target, replacements(head))
    (target / "expected.json").write_text(json.dumps(expected(target), indent=2) + "\n")


def keep_files(source: Path, target: Path) -> None:
    """Only what holds anything."""
    for file in sorted(source.glob("event_*.log*")):
        if file.stat().st_size:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / file.name)


def keep_logs(source: Path, target: Path) -> None:
    """What was printed, and the names of all."""
    (target / "logs").mkdir(parents=True, exist_ok=True)
    found = sorted(source.iterdir())
    (target / "log-names").write_text("".join(f"{each.name}{'/' if each.is_dir() else ''}\n" for each in found))
    for file in found:
        if PRINTED.fullmatch(file.name):
            shutil.copyfile(file, target / "logs" / file.name)


def replacements(head: RayHead) -> dict[bytes, bytes]:
    """What to write instead of what, longer ones first so that a folder goes before its parent."""
    found = {
        str(head.temp_dir): "/tmp/ray",
        str(workload.DRIVER.parent): "/home/ray",
        str(ROOT): "/home/ray",
        sys.executable: "python",
        str(Path(sys.executable).resolve()): "python",
        sys.prefix: "/home/ray",
        sys.base_prefix: "/usr",
        str(Path.home()): "/home/ray",
        own_address(): "192.0.2.2",
        f'"{socket.gethostname()}"': '"vm"',
    }
    ordered = sorted(((old, new) for old, new in found.items() if len(old) > 4), key=lambda pair: -len(pair[0]))
    return {old.encode(): new.encode() for old, new in ordered}


def own_address() -> str:
    """The address Ray finds for this machine. Nothing is sent: a datagram socket only picks its route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 1))
        return str(probe.getsockname()[0])


def scrub(folder: Path, what: dict[bytes, bytes]) -> None:
    """Replace, in printed logs too: bytes that a task printed hold nothing of it, or its byte range would be wrong."""
    for file in folder.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            for old, new in what.items():
                data = data.replace(old, new)
            file.write_bytes(data)


def expected(capture: Path) -> dict[str, object]:
    """What there is to find: counts by state from the live lists."""
    tasks = live_rows(capture, TASKS) if recorded(capture, TASKS) else []
    actors = live_rows(capture, next(url for url in ACTORS if recorded(capture, url)))
    groups = live_rows(capture, next(url for url in GROUPS if recorded(capture, url)))
    return {
        "session": session_name(capture),
        "tasks": len([task for task in tasks if task["type"] != "DRIVER_TASK"]),
        "tasks_by_state": dict(Counter(task["state"] for task in tasks if task["type"] != "DRIVER_TASK")),
        "driver_tasks_by_state": dict(Counter(task["state"] for task in tasks if task["type"] == "DRIVER_TASK")),
        "actors": len(actors),
        "actors_by_state": dict(Counter(actor["state"] for actor in actors)),
        "placement_groups": len(groups),
        "log_event_files": len(event_files(capture, "events")),
    }


ACTORS = ("/api/v0/actors?detail=1", "/api/v0/actors?detail=1&limit=10000")
GROUPS = ("/api/v0/placement_groups?detail=1", "/api/v0/placement_groups?detail=1&limit=10000")


def recorded(capture: Path, url: str) -> bool:
    return f"\t{url}\n" in (capture / "live" / "index.tsv").read_text()


if __name__ == "__main__":
    os.umask(0o022)
    parser = argparse.ArgumentParser()
    parser.add_argument("--into", type=Path, default=DATA)
    parser.add_argument("name", nargs="*", default=list(RECIPES))
    given = parser.parse_args()
    for chosen in given.name:
        record((RECIPES | OTHERS)[chosen], given.into / chosen)

"""Records one small session of each dialect into ``tests/data``: what Ray sent, wrote and answered.

    python tests/record.py                both
    python tests/record.py posted         one

Starts a real Ray head (see ``support/rayhead.py``), lets it run ``support/driver.py``, saves the live
dashboard's answers, kills the head, and keeps

    session             Ray's name of the session
    posts-head.jsonl    (posted) each post's body as it was received, one a line
    logs/export_events  (export) Ray's files
    logs/events         Ray's log events
    live/               the live dashboard's answers; index.tsv says which file answers what
    expected.json       counts taken from the live answers: what a demo or a test should find again

What tells of the recording machine (address, host name, folders) is replaced everywhere alike, so that
one value stays one value.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections import Counter
from pathlib import Path

from support import workload
from support.captures import DATA, ROOT, event_files, live_rows, session_name
from support.rayhead import Dialect, RayHead, ray_head
from support.receiver import receiver

DIALECTS: tuple[Dialect, ...] = ("posted", "export")
TASKS = "/api/v0/tasks?detail=1&limit=10000&exclude_driver=false"


def record(dialect: Dialect) -> None:
    target = DATA / dialect
    shutil.rmtree(target, ignore_errors=True)
    with receiver() as received, ray_head(dialect, events_port=received.port, environment=workload.ENVIRONMENT) as head:
        workload.run(head)
        workload.rest(head)
        workload.save_live(head, target)
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
    for file in folder.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            for old, new in what.items():
                data = data.replace(old, new)
            file.write_bytes(data)


def expected(capture: Path) -> dict[str, object]:
    """What there is to find: counts by state from the live lists."""
    tasks = live_rows(capture, TASKS)
    actors = live_rows(capture, "/api/v0/actors?detail=1")
    return {
        "session": session_name(capture),
        "tasks": len([task for task in tasks if task["type"] != "DRIVER_TASK"]),
        "tasks_by_state": dict(Counter(task["state"] for task in tasks if task["type"] != "DRIVER_TASK")),
        "driver_tasks_by_state": dict(Counter(task["state"] for task in tasks if task["type"] == "DRIVER_TASK")),
        "actors": len(actors),
        "actors_by_state": dict(Counter(actor["state"] for actor in actors)),
        "placement_groups": len(live_rows(capture, "/api/v0/placement_groups?detail=1")),
        "log_event_files": len(event_files(capture, "events")),
    }


if __name__ == "__main__":
    os.umask(0o022)
    for chosen in DIALECTS:
        if chosen in (sys.argv[1:] or DIALECTS):
            record(chosen)

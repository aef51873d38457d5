"""Recorded sessions, for the tests that play them.

A capture is a folder: ``session`` (Ray's session name), ``posts-head.jsonl`` (one posted body a line, as
it was received), ``logs/export_events`` and ``logs/events`` (Ray's files) and ``live/`` (what the live
dashboard answered, listed in ``index.tsv``). The small ones of this repository are in ``tests/data``;
larger ones may be elsewhere and may be absent: tests that want those skip then.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"


def captures() -> Path | None:
    """The folder of the larger captures, ``$RAY_HISTORY_CAPTURES`` or one beside the repository; None where there is none."""
    named = os.environ.get("RAY_HISTORY_CAPTURES")
    folder = Path(named) if named else ROOT.parent / "shared" / "captures"
    return folder if folder.is_dir() else None


def parity_tool() -> Path | None:
    """The script that compares a server with a capture's live answers, or None where it is absent."""
    script = ROOT.parent / "shared" / "tools" / "parity.py"
    return script if script.is_file() else None


def session_name(capture: Path) -> str:
    return (capture / "session").read_text().strip()


def posts(capture: Path) -> Iterator[bytes]:
    """The bodies that Ray posted, in order; nothing where the capture has only files."""
    for file in sorted(capture.glob("posts-*.jsonl")):
        with file.open("rb") as lines:
            yield from (line.rstrip(b"\n") for line in lines)


def event_files(capture: Path, folder: str) -> list[Path]:
    """The files of ``logs/{folder}`` (``export_events`` or ``events``)."""
    return sorted((capture / "logs" / folder).glob("event_*.log*"))


def live_answers(capture: Path) -> dict[str, tuple[int, Any]]:
    """Path and query -> (status, decoded body) of all that the live dashboard answered."""
    answers: dict[str, tuple[int, Any]] = {}
    for line in (capture / "live" / "index.tsv").read_text().splitlines():
        name, status, url = line.split("\t")
        body = (capture / "live" / name).read_bytes()
        try:
            answers[url] = int(status), json.loads(body)
        except ValueError:
            answers[url] = int(status), body.decode()
    return answers


def live_rows(capture: Path, url: str) -> list[dict[str, Any]]:
    """The rows of one recorded state API list."""
    rows: list[dict[str, Any]] = live_answers(capture)[url][1]["data"]["result"]["result"]
    return rows


def head_node(capture: Path) -> str:
    """The hex id of the head node."""
    return next(
        str(row["node_id"])
        for url in live_answers(capture)
        if url.startswith("/api/v0/nodes?")
        for row in live_rows(capture, url)
        if row["is_head_node"]
    )


def named_logs(capture: Path) -> list[str]:
    """The names of all logs and folders there were; none where the capture has the logs themselves."""
    names = capture / "log-names"
    return names.read_text().splitlines() if names.is_file() else []


def lay_out(capture: Path, ray_tmp: Path) -> Path:
    """Make ``ray_tmp`` look as it did on the captured head node (``session_latest`` and all); the session's folder."""
    session = ray_tmp / session_name(capture)
    for folder in ("export_events", "events"):
        (session / "logs" / folder).mkdir(parents=True)
    for file in (capture / "logs").rglob("*"):
        if file.is_file():
            target = session / "logs" / file.relative_to(capture / "logs")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    for name in named_logs(capture):
        each = session / "logs" / name
        each.mkdir(exist_ok=True) if name.endswith("/") else each.touch()
    (session / f"gcs_server_port_{head_node(capture)}").write_text("6379")
    (ray_tmp / "session_latest").symlink_to(session)
    return session

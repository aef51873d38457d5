"""Posted records for tests that don't care what is in them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

SESSION = "session_2026-11-22_20-28-07_608330_20836"
NODE = b"\xe9" * 28


def event(number: int, session: str = SESSION, **more: Any) -> dict[str, Any]:
    """A small task event with an id of its own."""
    return {
        "eventId": base64.b64encode(number.to_bytes(28, "big")).decode(),
        "sessionName": session,
        "eventType": "TASK_LIFECYCLE_EVENT",
        "timestamp": "2026-11-22T20:28:30.311300945Z",
        "nodeId": base64.b64encode(NODE).decode(),
        "taskLifecycleEvent": {
            "taskId": base64.b64encode(number.to_bytes(24, "big")).decode(),
            "stateTransitions": [{"state": "RUNNING", "timestamp": "2026-11-22T20:28:30.311300945Z"}],
        },
        **more,
    }


def line(number: int, session: str = SESSION) -> bytes:
    return json.dumps(event(number, session)).encode()


def body(numbers: Any, session: str = SESSION) -> bytes:
    """One post, as Ray sends it."""
    return json.dumps([event(number, session) for number in numbers]).encode()


def spooled(data_dir: Path, session: str = SESSION) -> list[int]:
    """The numbers of the whole lines in a session's spool, in the order of its files."""
    found = []
    for file in sorted((data_dir / "spool" / session).glob("*.jsonl")):
        *lines, _torn = file.read_bytes().split(b"\n")
        found += [int.from_bytes(base64.b64decode(json.loads(one)["eventId"])) for one in lines]
    return found


def quarantined(data_dir: Path) -> list[dict[str, Any]]:
    """The lines of all quarantine files, in order, each with its session's folder."""
    return [
        {**json.loads(one), "folder": file.parent.name}
        for file in sorted((data_dir / "quarantine").glob("*/*.jsonl"), key=lambda file: file.name)
        for one in file.read_bytes().splitlines()
    ]

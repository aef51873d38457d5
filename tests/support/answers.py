"""Dashboard answers in a store, as a collector keeps them."""

from __future__ import annotations

import json
from typing import Any

from pipeline.dashboard.endpoints import Answer, pack, place
from pipeline.layout import SessionKey
from pipeline.stores.store import ObjectStore

TIME_MS = 1_768_528_900_000
GROUPS = "/api/v0/placement_groups?detail=1&limit=10000"
ENVS = "/api/v0/runtime_envs?detail=1&limit=10000"


def answer(url: str, value: Any, *, status: int = 200, time_ms: int = TIME_MS) -> Answer:
    """What the dashboard said; a text as it is, anything else as JSON."""
    body = value if isinstance(value, str) else json.dumps(value)
    return Answer(url, status, "application/json", time_ms, body)


def enveloped(**data: Any) -> dict[str, Any]:
    return {"result": True, "msg": "", "data": data}


def listed(*rows: Any) -> dict[str, Any]:
    """A State API list as Ray answers it."""
    counts = dict.fromkeys(("total", "num_after_truncation", "num_filtered"), len(rows))
    return enveloped(result={**counts, "result": list(rows), "partial_failure_warning": "", "warnings": None})


async def told(store: ObjectStore, key: SessionKey, url: str, value: Any, **more: Any) -> None:
    """Keep an answer in the store."""
    await store.put(place(key, url), pack(answer(url, value, **more)))


def job(**changed: Any) -> dict[str, Any]:
    """A finished submission as ``/api/jobs/`` shows it."""
    return {
        "type": "SUBMISSION",
        "job_id": "02000000",
        "submission_id": "raysubmit_a",
        "driver_info": {"id": "02000000", "node_ip_address": "192.0.2.2", "pid": "7"},
        "status": "SUCCEEDED",
        "entrypoint": "python x.py",
        "message": "Job finished successfully.",
        "error_type": None,
        "start_time": 1_768_528_800_123,
        "end_time": 1_768_528_890_456,
        "metadata": {},
        "runtime_env": None,
        "driver_agent_http_address": "http://192.0.2.2:52365",
        "driver_node_id": "ab" * 28,
        "driver_exit_code": 0,
    } | changed


def group(**changed: Any) -> dict[str, Any]:
    """A placement group as the State API shows it."""
    return {
        "placement_group_id": "05" * 14 + "02000000",
        "name": "kept",
        "creator_job_id": "02000000",
        "state": "CREATED",
        "bundles": [],
        "is_detached": False,
        "stats": {},
        "topology_strategy": {},
        "topology_assignments": {},
    } | changed

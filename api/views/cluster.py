"""Ray's answers about the cluster as a whole: as its dashboard gave them, or so far as name and metadata know."""

from __future__ import annotations

import re
from typing import Any

from api.snapshots import NONE, Snapshots

API_VERSION = "4"
"""Of Ray's Job API; what its clients check."""

SPOKEN_RAY_VERSION = "2.60.0"
"""The Ray whose answers these are. Ray's clients refuse an answer that names none."""

NO_STATUS = "No cluster status. It may take a few seconds for the Ray internal services to start up."
"""What Ray says where its autoscaler has said nothing."""

STATUS_FETCHED, FORMATTED_FETCHED = "Got cluster status.", "Got formatted cluster status."
_OFFSET = re.compile(r"[+-]\d\d:\d\d")


def version(session: str, ray_version: str | None = None, snapshots: Snapshots = NONE) -> dict[str, Any]:
    """``/api/version``. The commit only the dashboard knew."""
    told = snapshots.table("/api/version")
    return {
        "version": _text(told.get("version")) or API_VERSION,
        "ray_version": ray_version or SPOKEN_RAY_VERSION,
        "ray_commit": _text(told.get("ray_commit")),
        "session_name": session,
    }


def cluster_metadata(session: str, ray_version: str | None = None, snapshots: Snapshots = NONE) -> dict[str, Any]:
    """``/api/v0/cluster_metadata``; without the dashboard only what is known: the page shows "-" for the rest."""
    told = {name: value for name, value in snapshots.data("/api/v0/cluster_metadata").items() if _scalar(value)}
    if told:
        return told
    return {"rayVersion": ray_version, "pythonVersion": None, "sessionId": session}


def timezone(snapshots: Snapshots = NONE) -> dict[str, Any]:
    """``/timezone``: the head's, or UTC, which Ray calls by the name of a city."""
    told = snapshots.table("/timezone")
    offset, value = told.get("offset"), told.get("value")
    if isinstance(offset, str) and isinstance(value, str) and _OFFSET.fullmatch(offset):
        return {"offset": offset, "value": value}
    return {"offset": "+00:00", "value": "Europe/London"}


def cluster_status(snapshots: Snapshots) -> dict[str, Any]:
    """``/api/cluster_status``: the autoscaler's last."""
    told = snapshots.data("/api/cluster_status")
    return {name: told.get(name) for name in ("autoscalingStatus", "autoscalingError", "clusterStatus")}


def formatted_cluster_status(snapshots: Snapshots) -> dict[str, Any]:
    """``/api/cluster_status?format=1``: the same as a text."""
    told = snapshots.data("/api/cluster_status?format=1").get("clusterStatus")
    return {"clusterStatus": told if isinstance(told, str) and told else NO_STATUS}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bool) or (isinstance(value, int) and abs(value) < 1 << 53)

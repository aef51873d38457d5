"""Ray's answers about the cluster as a whole, so far as a session's name and metadata know it."""

from __future__ import annotations

from typing import Any

API_VERSION = "4"
"""Of Ray's Job API; what its clients check."""

SPOKEN_RAY_VERSION = "2.60.0"
"""The Ray whose answers these are. Ray's clients refuse an answer that names none."""


def version(session: str, ray_version: str | None = None) -> dict[str, Any]:
    """``/api/version``. The commit isn't known."""
    return {
        "version": API_VERSION,
        "ray_version": ray_version or SPOKEN_RAY_VERSION,
        "ray_commit": "",
        "session_name": session,
    }


def cluster_metadata(session: str, ray_version: str | None = None) -> dict[str, Any]:
    """``/api/v0/cluster_metadata``: only what is known; the page shows "-" for the rest."""
    return {"rayVersion": ray_version or None, "pythonVersion": None, "sessionId": session}


def timezone() -> dict[str, str]:
    """``/timezone``: all times here are UTC, which Ray calls by this name."""
    return {"offset": "+00:00", "value": "Europe/London"}

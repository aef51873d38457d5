"""``/api/v0/objects`` and its summary: references to objects live in the memory of workers, and nothing tells of them.

So the answer is none, with the reason where Ray's clients show it. They raise for a ``partial_failure_warning``.
"""

from __future__ import annotations

from typing import Any

from api.query.query import ListOptions, SummaryOptions, envelope, list_response
from api.query.schemas import OBJECTS

UNKNOWN = "a recorded session knows no objects: references to them live in the memory of its workers, which is gone"


def list_objects(options: ListOptions) -> dict[str, Any]:
    """No object, and why."""
    return list_response([], OBJECTS, options) | {"warnings": [UNKNOWN]}


def summarize_objects(options: SummaryOptions) -> dict[str, Any]:
    """Nothing, counted, and why."""
    summary = {
        "summary": {},
        "total_objects": 0,
        "total_size_mb": 0,
        "callsite_enabled": True,
        "summary_by": "callsite",
    }
    return envelope(0, 0, 0, {"node_id_to_summary": {"cluster": summary}}) | {"warnings": [UNKNOWN]}

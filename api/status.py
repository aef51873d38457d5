"""Whether a session lives: from what was written about it and when it was last heard.

    ended   somebody said so: its head's collector on shutdown
    live    no end was said, and its last word is younger than ``LOST_AFTER_MS`` (``SILENT_AFTER_MS`` where it came
            by push: who pushes says something every few seconds)
    lost    no end was said, and it has fallen silent
    None    no end was said, and nobody has listened yet

A *word* is anything that tells that a collector was there: a segment that it sealed, a push, a heartbeat. Of a
session that was not looked at, its creation is the only one.
"""

from __future__ import annotations

from typing import Literal

Status = Literal["live", "ended", "lost"]

LOST_AFTER_MS = 120_000
"""A collector seals what it has every ten seconds; without a heartbeat an idle cluster is silent for longer."""
SILENT_AFTER_MS = 30_000
"""Six heartbeats."""
SKEW_MS = 5_000
"""A segment this much younger than the last push came after it, by whatever clock."""


def status_of(
    ended_ms: int | None, created_ms: int, heard_ms: int | None, now_ms: int, pushed_ms: int | None = None
) -> Status | None:
    """See the module. ``heard_ms``: the last word in the store, ``pushed_ms``: by push; None where nobody has listened."""
    if ended_ms is not None:
        return "ended"
    if pushed_ms is not None and pushed_ms + SKEW_MS >= (heard_ms or 0):
        return "live" if now_ms - pushed_ms < SILENT_AFTER_MS else "lost"
    if now_ms - max(created_ms, heard_ms or 0) < LOST_AFTER_MS:
        return "live"
    return None if heard_ms is None else "lost"

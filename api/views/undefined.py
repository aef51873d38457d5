"""Attempts that ran and that nobody defined: no list has them, as on a live head, and someone should know.

The process that submits a task tells what it is, the one that runs it tells how that went. Where the first was never
told to tell (a driver begun in a shell without Ray's variables) or died first, the second's word is all there is.
"""

from __future__ import annotations

import numpy as np

from api.index.session_index import SessionIndex

GRACE_MS = 60_000
"""So long a definition may be on its way: it comes from another node, by another collector."""
_MS = 1_000_000
_CREATION = b"\xff" * 8
"""Begins the id of a task that creates an actor."""


def undefined_attempts(index: SessionIndex, now_ms: int) -> int:
    """How many attempts have had a state, the last of them more than ``GRACE_MS`` ago, and no definition.

    Not counted are an actor's creations after the first, which Ray never defines, and attempts of which nothing but
    a profile was told, as Ray Data has them.
    """
    tasks = index.tasks
    count = len(tasks)
    rows = np.flatnonzero((tasks.template.array(count) == 0) & (tasks.mask.array(count) != 0))
    if not len(rows):
        return 0
    last_ns = np.zeros(len(rows), np.int64)
    for times in tasks.times:
        if times is not None:
            np.maximum(last_ns, times.array(count)[rows], out=last_ns)
    rows = rows[last_ns < (now_ms - GRACE_MS) * _MS]
    again = rows[tasks.attempt.array(count)[rows] > 0].tolist()
    return len(rows) - sum(tasks.task_id[row].startswith(_CREATION) for row in again)

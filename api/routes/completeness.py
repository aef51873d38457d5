"""What a session has and lacks, and how far its loading has come."""

from __future__ import annotations

from functools import partial
from typing import Any

from msgspec import to_builtins
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.answers import plain
from api.routes.session import named, opened
from api.session.sessions import Sessions
from api.views.undefined import undefined_attempts

MAX_QUARANTINED = 1000


async def _completeness(request: Request) -> Response:
    """``clean_end``: the head's collector said that the session has ended; without it, the end may be missing.

    ``undefined_attempts``: task attempts that ran and that nobody defined (``views/undefined.py``).
    """
    reader = await opened(request)
    undefined = await reader.query(partial(undefined_attempts, now_ms=request.app.state.overviews.now_ms()))
    sessions: Sessions = request.app.state.sessions
    quarantined = await sessions.store.list(f"{reader.key.root}quarantine/", limit=MAX_QUARANTINED)
    known = reader.metadata
    about: dict[str, Any] = {
        "namespace": reader.key.namespace,
        "cluster": reader.key.cluster,
        "session": reader.key.session,
        "metadata": to_builtins(known),
        "clean_end": known is not None and known.ended_ms is not None,
        "warning": reader.completeness.warning(undefined),
    }
    kept = {"objects": len(quarantined), "more": len(quarantined) == MAX_QUARANTINED}
    return plain(about | reader.completeness.as_dict(undefined) | {"quarantine": kept})


async def _progress(request: Request) -> Response:
    """Answers at once, whether or not the session is loaded, and never begins to load it."""
    sessions: Sessions = request.app.state.sessions
    key = await sessions.resolve(*named(request))
    progress = sessions.progress(key)
    return plain({"loaded": sessions.loaded(key), "look": to_builtins(progress)})


ROUTES = [Route("/completeness", _completeness), Route("/progress", _progress)]

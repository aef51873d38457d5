"""The connection under a request, for a stream that must be rid of it.

A response whose client reads nothing can't even be ended: its last bytes wait like all others, and so does uvicorn
when it is to stop. So ``StreamingProtocol`` gives each request the means to drop its connection.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "ray_history.abort"


class StreamingProtocol(HttpToolsProtocol):
    """uvicorn's, with an extension in each request's scope."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self._abort}  # type: ignore[dict-item]

    def _abort(self) -> None:
        self.transport.abort()


def aborting(scope: Scope) -> Callable[[], None]:
    """What drops a request's connection now, with whatever nobody has read; nothing under another server."""
    found: Callable[[], None] | None = (scope.get("extensions") or {}).get(EXTENSION)
    return found if found is not None else _nothing


def _nothing() -> None:
    pass

"""The one way in which a question is refused."""

from __future__ import annotations


class BadQuery(ValueError):
    """A request that is refused. ``str(exc)`` is the ``msg`` of the answer, ``status`` its HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status

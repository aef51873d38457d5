"""Server-sent events out of bytes, as a browser reads them: feed in, events out. Pure."""

from __future__ import annotations

from msgspec import Struct

MAX_BUFFER = 16 << 20


class ServerEvent(Struct, frozen=True):
    """One event. ``id``: the last position that was told, by this event (``placed``) or before it."""

    kind: str
    data: str
    id: str
    placed: bool = False


class TooLong(ValueError):
    """A line or an event that no server of ours sends."""


class EventReader:
    """One stream. ``last_id`` and ``retry_ms`` are what the server said last; ``last_id`` outlives the connection."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_ms: int | None = None
        self._rest = b""
        self.restart()

    def restart(self) -> None:
        """A new connection begins: half an event is none."""
        self._rest = b""
        self._kind = ""
        self._data: list[str] = []
        self._id = self.last_id
        self._placed = False
        self._size = 0

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that are whole now. Raises ``TooLong``."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        found = [event for line in lines if (event := self._line(line.removesuffix(b"\r"))) is not None]
        if len(self._rest) + self._size > MAX_BUFFER:
            raise TooLong(f"an event of more than {MAX_BUFFER} bytes")
        return found

    def _line(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, raw = line.partition(b":")
        value = raw.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"data":
            self._data.append(value)
            self._size += len(raw)
        elif name == b"event":
            self._kind = value
        elif name == b"id" and "\0" not in value:
            self._id, self._placed = value, True
        elif name == b"retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value[:12])
        return None

    def _dispatch(self) -> ServerEvent | None:
        self.last_id = self._id
        kind, data, placed = self._kind or "message", self._data, self._placed
        self._kind, self._data, self._placed, self._size = "", [], False, 0
        return ServerEvent(kind, "\n".join(data), self.last_id, placed) if data else None

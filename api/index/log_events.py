"""The log events of a session: what Ray's ``/events`` shows, bounded as Ray bounds it.

Ray's dashboard keeps 10,000 events a job, and so do we: the newest ones, whatever order they arrive in.
Each is kept as JSON, which takes a fraction of what its dict would.
"""

from __future__ import annotations

from typing import Any

import msgspec

from api.index.order import encode, order_of
from pipeline.events import LogEvent

MAX_EVENTS = 10_000
"""Of one job; from Ray's ``RAY_DASHBOARD_MAX_EVENTS_TO_CACHE``."""

GLOBAL = "global"
_EVENT_BYTES = 300
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_Event = tuple[int, str, bytes]


class LogEvents:
    """Events by job id (``global`` for those of none), and the host names they let slip."""

    def __init__(self, max_events: int = MAX_EVENTS) -> None:
        self._jobs: dict[str, dict[str, _Event]] = {}
        self._max = max_events
        self._hosts: dict[str, str] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return sum(min(len(events), self._max) for events in self._jobs.values())

    def jobs(self) -> list[str]:
        """Ids of the jobs that have events."""
        return list(self._jobs)

    def of_job(self, job_id: str) -> list[dict[str, Any]]:
        """A job's events as Ray wrote them, oldest first."""
        return [_decode(event[2]) for event in sorted(self._jobs.get(job_id, {}).values())[-self._max :]]

    def hostname(self, node_id: str) -> str:
        """The name of the host that a node ran on, so far as an event gave it away; ``head`` is the head's."""
        return self._hosts.get(node_id, "")

    def add(self, event: LogEvent, position: int) -> None:
        """Take in one event."""
        self._learn_host(event)
        events = self._jobs.setdefault(event.job_id or GLOBAL, {})
        order = order_of(event.timestamp_ns, position)
        key = event.event_id or str(order)
        entry = (order, key, encode(event.data))
        known = events.get(key)
        if known is not None and known >= entry:
            return
        events[key] = entry
        self.nbytes += _EVENT_BYTES + len(entry[2]) - (_EVENT_BYTES + len(known[2]) if known is not None else 0)
        if len(events) > self._max * 1.1:
            self._forget_oldest(events)

    def _forget_oldest(self, events: dict[str, _Event]) -> None:
        for entry in sorted(events.values())[: -self._max]:
            del events[entry[1]]
            self.nbytes -= _EVENT_BYTES + len(entry[2])

    def _learn_host(self, event: LogEvent) -> None:
        host = event.data.get("host_name") or event.data.get("source_hostname")
        if not isinstance(host, str) or not host:
            return
        if event.source_type == "GCS":
            self._hosts["head"] = max(host, self._hosts.get("head", ""))
        elif event.source_type == "RAYLET":
            fields = event.data.get("custom_fields")
            node_id = fields.get("node_id") if isinstance(fields, dict) else None
            if isinstance(node_id, str):
                self._hosts[node_id] = max(host, self._hosts.get(node_id, ""))

"""Which events of a live stream are wanted: ``kind=``, ``job=``, ``state=``, ``name=``, ``node=``. Pure.

Each takes several values, separated by commas or given again; one of them must fit, and of every filter one.

    kind    task, actor, node, job, worker, log, session
    job     a job's id or, for submissions, its submission id, as a whole
    state   a state, status or severity, as a whole, in either case
    name    with ``*``, ``?`` or ``[``: the whole name as a glob; otherwise a part of it. In either case. Of a task also its
            function, of an actor its class, of a job its entrypoint, of a log event its label
    node    a node's id or its beginning

Session events are told whatever is asked for: they say what the stream is.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

from api.query.query import BadQuery
from api.streams.live_data import KINDS, Event

FILTERS = ("kind", "job", "state", "name", "node")
MAX_VALUES = 50
MAX_LENGTH = 200
_GLOB = re.compile(r"[*?\[]")


class EventFilter(Struct, frozen=True):
    """Everything fits where nothing is asked for. Equal filters are one to whoever sends."""

    kinds: frozenset[str] = frozenset()
    jobs: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    nodes: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        return self == EVERYTHING

    def fits(self, event: Event) -> bool:
        if self.kinds and event.kind not in self.kinds:
            return event.kind == "session"
        if event.kind == "session":
            return True
        if self.jobs and event.job not in self.jobs:
            return False
        if self.states and event.state.upper() not in self.states:
            return False
        if self.nodes and not event.node.startswith(self.nodes):
            return False
        return not self.names or any(_named(wanted, name) for wanted in self.names for name in event.names)


EVERYTHING = EventFilter()


def parse_filter(query: Iterable[tuple[str, str]]) -> EventFilter:
    """The filter that a query string asks for. Raises ``BadQuery`` for what can't be meant."""
    asked: dict[str, list[str]] = {name: [] for name in FILTERS}
    for name, text in query:
        if name in asked:
            asked[name] += [value for each in text.split(",") if (value := each.strip())]
    for name, values in asked.items():
        if len(values) > MAX_VALUES or any(len(value) > MAX_LENGTH for value in values):
            raise BadQuery(f"{name}: at most {MAX_VALUES} values of {MAX_LENGTH} characters each")
    if unknown := sorted(set(asked["kind"]) - set(KINDS)):
        raise BadQuery(f"kind: {unknown[0]!r} is none of {', '.join(KINDS)}")
    return EventFilter(
        kinds=frozenset(asked["kind"]),
        jobs=frozenset(asked["job"]),
        states=frozenset(value.upper() for value in asked["state"]),
        names=frozenset(value.lower() for value in asked["name"]),
        nodes=tuple(sorted(value.lower() for value in asked["node"])),
    )


def _named(wanted: str, name: str) -> bool:
    if _GLOB.search(wanted) is None:
        return wanted in name.lower()
    return _glob(wanted).match(name.lower()) is not None


@lru_cache(maxsize=1000)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))

"""One page of the list of sessions: searched, filtered, sorted and cut here, so that thousands cost a page what ten do.

Pure: what is known of each session comes in, a page goes out. What is only known of sessions that were looked at
(``summary``) sorts last where it isn't. A summary that may have grown since says nothing of whether its session
still lives, once it is older than that takes to know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, get_args

from msgspec import Struct, structs

from api.live.liveness import pushed_ms
from api.status import LOST_AFTER_MS, Status, status_of
from api.views.overview import Counts
from pipeline.stores.catalog import SessionMetadata

MAX_LIMIT = 200
MAX_OFFSET = 1_000_000
MAX_SEARCH = 200
_REMEMBERED = 1 << 17
_ZONES_MS = 26 * 3_600_000

Ident = tuple[str, str, str]
Sort = Literal["start", "length", "name", "status", "failed", "tasks"]
SORTS: tuple[Sort, ...] = get_args(Sort)
_ORDER: dict[Status | None, int] = {"live": 0, "lost": 1, None: 2, "ended": 3}


class Summary(Struct, frozen=True, kw_only=True):
    """What is known of a session that was looked at, as of ``as_of_ms``. ``final``: looking again would show the same."""

    counts: Counts
    records: int
    complete: bool
    heard_ms: int
    as_of_ms: int
    final: bool
    format: int = 1


class Line(Struct, frozen=True, kw_only=True):
    """One session. Times in ms; None where unknown, ``status`` too: see ``status.py``.

    ``too_large``: bytes of it in the store, where it has no ``summary`` because they are too many to be counted unasked.
    """

    namespace: str
    name: str
    session: str
    status: Status | None
    owner_kind: str
    owner_name: str
    created_ms: int | None
    ended_ms: int | None
    heard_ms: int | None
    length_ms: int | None
    ray_version: str | None
    summary: Summary | None
    too_large: int | None = None


class ListQuery(Struct, frozen=True):
    """What is asked for. ``search``: words that must all occur in namespace, cluster, session or owner. ``failed``:
    only sessions that are known to have a task or a job that failed."""

    search: str = ""
    namespace: str | None = None
    status: Status | None = None
    failed: bool = False
    sort: Sort = "start"
    descending: bool = True
    offset: int = 0
    limit: int = 50


class Page(Struct, frozen=True):
    """``total`` sessions there are, ``matched`` are asked for; ``namespaces`` counts all, ``statuses`` and ``failed`` what the
    other filters leave, ``uncounted`` those of them that have no summary (yet)."""

    total: int
    matched: int
    offset: int
    limit: int
    namespaces: dict[str, int]
    statuses: dict[str, int]
    sessions: list[Line]
    failed: int = 0
    uncounted: int = 0


Summaries = Mapping[Ident, Summary]
Sizes = Mapping[Ident, int]


def ident(metadata: SessionMetadata) -> Ident:
    """What a session is known by."""
    return metadata.namespace, metadata.cluster, metadata.session


def page(
    sessions: Iterable[SessionMetadata], summaries: Summaries, query: ListQuery, now_ms: int, sizes: Sizes | None = None
) -> Page:
    """The page of ``query``. ``sessions`` come newest first, and so do equals in every order. ``sizes``: of those that are too large."""
    everything = list(sessions)
    words = query.search.lower().split()
    found = [
        (known, summaries.get(ident(known)))
        for known in everything
        if query.namespace in (None, known.namespace) and all(word in _haystack(known) for word in words)
    ]
    failing = [item for item in found if has_failed(item[1])]
    statuses = [_status(known, summary, now_ms) for known, summary in (failing if query.failed else found)]
    counted = Counter(status or "unknown" for status in statuses)
    uncounted = sum(summary is None for _, summary in found)
    found, failed = failing if query.failed else found, len(failing)
    if query.status is not None:
        wanted = (query.status, None) if query.status == "live" else (query.status,)  # it may be live
        found = [item for item, status in zip(found, statuses, strict=True) if status in wanted]
        failed = sum(has_failed(summary) for _, summary in found)
    found = _ordered(found, query, now_ms)
    shown = found[query.offset : query.offset + query.limit]
    return Page(
        total=len(everything),
        matched=len(found),
        offset=query.offset,
        limit=query.limit,
        namespaces=dict(sorted(Counter(known.namespace for known in everything).items())),
        statuses=dict(sorted(counted.items())),
        sessions=[line(known, summary, now_ms, (sizes or {}).get(ident(known))) for known, summary in shown],
        failed=failed,
        uncounted=uncounted,
    )


def has_failed(summary: Summary | None) -> bool:
    """Whether a task or a job failed, as far as is known."""
    return summary is not None and bool(summary.counts.tasks.get("FAILED") or summary.counts.jobs.get("FAILED"))


def line(known: SessionMetadata, summary: Summary | None, now_ms: int, size: int | None = None) -> Line:
    """One session as a list shows it. ``size``: what it has in the store, where that is too much to count it unasked."""
    status = _status(known, summary, now_ms)
    if summary is not None and summary.final and status == "live":  # its end was taken back: it says more
        summary = structs.replace(summary, final=False)
    return Line(
        namespace=known.namespace,
        name=known.cluster,
        session=known.session,
        status=status,
        owner_kind=known.owner_kind,
        owner_name=known.owner_name,
        created_ms=known.created_ms or None,
        ended_ms=known.ended_ms,
        heard_ms=max(summary.heard_ms if summary is not None else 0, pushed_ms(known) or 0) or None,
        length_ms=_length(known, summary, status, now_ms),
        ray_version=known.ray_version,
        summary=summary,
        too_large=size if summary is None else None,
    )


@lru_cache(_REMEMBERED)
def _haystack(known: SessionMetadata) -> str:
    parts = (known.namespace, known.cluster, known.session, known.owner_kind, known.owner_name)
    return "/".join(parts).lower()


def _status(known: SessionMetadata, summary: Summary | None, now_ms: int) -> Status | None:
    heard_ms = summary.heard_ms if summary is not None and not _outdated(summary, now_ms) else None
    return status_of(known.ended_ms, known.created_ms, heard_ms, now_ms, pushed_ms(known))


def _outdated(summary: Summary, now_ms: int) -> bool:
    """Whether the session may well have said more since: it was not silent then, and that is long ago."""
    return not summary.final and summary.as_of_ms - summary.heard_ms < LOST_AFTER_MS <= now_ms - summary.as_of_ms


def _length(known: SessionMetadata, summary: Summary | None, status: Status | None, now_ms: int) -> int | None:
    """Until its end, until now while it lives, until its last word once it is lost."""
    counts = summary.counts if summary is not None else Counts()
    start = known.created_ms
    if (
        not start or abs(counts.first_ms - start) < _ZONES_MS
    ):  # the name's time is of an unknown zone: the first record knows better
        start = counts.first_ms
    end = now_ms if status == "live" else known.ended_ms or counts.last_ms
    return end - start if start and end >= start else None


Found = tuple[SessionMetadata, Summary | None]


def _ordered(found: list[Found], query: ListQuery, now_ms: int) -> list[Found]:
    """In the order asked for; what has no value comes last whichever way it goes."""
    if query.sort == "start" and query.descending:
        return found
    value = _VALUES[query.sort]
    keyed = [(value(known, summary, now_ms), (known, summary)) for known, summary in found]
    valued = [item for item in keyed if item[0] is not None]
    valued.sort(key=lambda item: item[0], reverse=query.descending)
    return [item for _, item in valued] + [item for key, item in keyed if key is None]


def _failures(counts: Counts) -> tuple[int, int]:
    """Failed tasks first; among as many of them, failed jobs."""
    return counts.tasks.get("FAILED", 0), counts.jobs.get("FAILED", 0)


def _total(counts: dict[str, int]) -> int:
    return sum(counts.values())


_VALUES: dict[Sort, Callable[[SessionMetadata, Summary | None, int], Any]] = {
    "start": lambda known, summary, now: known.created_ms or None,
    "length": lambda known, summary, now: _length(known, summary, _status(known, summary, now), now),
    "name": lambda known, summary, now: ident(known),
    "status": lambda known, summary, now: _ORDER[_status(known, summary, now)],
    "failed": lambda known, summary, now: summary and _failures(summary.counts),
    "tasks": lambda known, summary, now: summary and _total(summary.counts.tasks),
}

"""Answers that only the dashboard knows, as they are kept: ``{session}/endpoints/{name}.json``.

The name is the path and query, percent-encoded, so a request finds its answer by itself. The object says
when the answer came and its status beside the body, word for word as a JSON string (``jq -r .body``).

Owns which of two answers is the better one to keep. A cluster that goes down answers for a while with
errors and empty lists; what it knew before is what counts. So an error never replaces an answer, and an
empty or partial one replaces a full one only once it has stood for some time (``Keeper``).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Struct

from pipeline.errors import FormatError
from pipeline.layout import SessionKey
from pipeline.logs.logfiles import encode_path

FORMAT = 1
HELD_FOR = 60.0
"""Seconds for which a poorer answer must stand before it replaces a better one."""

_NAME_LIMIT = 250  # with its suffix, what a file system takes

FAILED, REFUSED, EMPTY, PARTIAL, FULL = range(5)
"""What an answer is worth: an error of the server, a refusal, an empty list, one with parts missing, or all."""

_PAYLOADS: dict[str, tuple[str, ...]] = {
    "/api/v0/placement_groups": ("data", "result", "result"),
    "/api/v0/runtime_envs": ("data", "result", "result"),
    "/api/v0/workers": ("data", "result", "result"),
    "/nodes": ("data", "summary"),
    "/api/cluster_status": ("data", "clusterStatus"),
    "/api/serve/applications/": ("applications",),
    "/api/train/v2/runs/v1": ("train_runs",),
    "/api/data/datasets/": ("datasets",),
}


class BadAnswer(FormatError):
    """An object that isn't an answer."""


class Answer(Struct, frozen=True):
    """What the dashboard answered to ``url`` (path and query), and when."""

    url: str
    status: int
    content_type: str
    time_ms: int
    body: str
    format: int = FORMAT

    def says(self, other: Answer) -> bool:
        """Whether it says the same, whenever."""
        return (self.status, self.content_type, self.body) == (other.status, other.content_type, other.body)


def folder(key: SessionKey) -> str:
    return f"{key.root}endpoints/"


def place(key: SessionKey, url: str) -> str:
    """Where the answer to ``url`` is kept."""
    return f"{folder(key)}{encode_path([url.removeprefix('/')], _NAME_LIMIT)}.json"


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Answer)
_any = msgspec.json.Decoder()


def pack(answer: Answer) -> bytes:
    return _encoder.encode(answer)


def unpack(data: bytes) -> Answer:
    """Raises ``BadAnswer``."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as exc:
        raise BadAnswer(f"not an answer of the dashboard: {exc}") from exc


def worth(answer: Answer) -> int:
    """``FAILED`` to ``FULL``."""
    if not 200 <= answer.status < 300:
        return REFUSED if 400 <= answer.status < 500 or answer.status == 501 else FAILED
    try:
        value = _any.decode(answer.body)
    except msgspec.DecodeError:
        return FULL if answer.body else EMPTY
    path = urlsplit(answer.url).path
    steps = next((steps for start, steps in _PAYLOADS.items() if path.startswith(start)), ())
    if not _at(value, steps):
        return EMPTY
    return PARTIAL if _is_partial(path, value) else FULL


def _is_partial(path: str, value: Any) -> bool:
    """A dashboard that has just started knows the nodes, but not yet what any of them measures."""
    if path == "/nodes":
        nodes = _at(value, ("data", "summary"))
        rows = nodes if isinstance(nodes, list) else []
        return not any(isinstance(row, dict) and row.get("mem") for row in rows)
    return bool(_at(value, ("data", "result", "partial_failure_warning")))


def _at(value: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


class Keeper:
    """The answers that are kept of one session. Pure: ``now`` is any clock in seconds."""

    def __init__(self, kept: list[Answer] | None = None) -> None:
        self.kept = {answer.url: answer for answer in kept or []}
        self._poorer_since: dict[str, float] = {}

    def offer(self, answer: Answer, now: float, *, last: bool = False) -> bool:
        """Whether to keep this answer from now on (then ``keep`` it). The ``last`` one never replaces a better one."""
        kept = self.kept.get(answer.url)
        if kept is not None and worth(answer) < worth(kept):
            since = self._poorer_since.setdefault(answer.url, now)
            if last or worth(answer) < EMPTY or now - since < HELD_FOR:
                return False
        else:
            self._poorer_since.pop(answer.url, None)
        return kept is None or not kept.says(answer)

    def keep(self, answer: Answer) -> None:
        """It is in the store."""
        self.kept[answer.url] = answer
        self._poorer_since.pop(answer.url, None)


def job_ids(jobs: Answer | None) -> list[str]:
    """The ids of the jobs in an answer to ``/api/jobs/``."""
    if jobs is None or not 200 <= jobs.status < 300:
        return []
    try:
        rows = _any.decode(jobs.body)
    except msgspec.DecodeError:
        return []
    ids = [row.get("job_id") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [each for each in ids if isinstance(each, str) and each.isalnum()]


def session_name(version: Answer) -> str | None:
    """The session whose dashboard answered ``/api/version``; None where it doesn't say (Ray before 2.9)."""
    try:
        said = _any.decode(version.body)
    except msgspec.DecodeError:
        return None
    name = said.get("session_name") if isinstance(said, dict) else None
    return name if isinstance(name, str) and name else None


def same_request(url: str, other: str) -> bool:
    """Whether two requests ask for the same: the order of the query's parts doesn't matter."""
    one, two = urlsplit(url), urlsplit(other)
    return one.path == two.path and sorted(parse_qsl(one.query)) == sorted(parse_qsl(two.query))

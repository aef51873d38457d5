"""What the head's dashboard said last, for what no event carries: the answers that the collector kept.

Owns how an answer is found and read. Pure: fetching them is for ``snapshot_reader.py``, what they mean for
``views/``. Whoever can write into the bucket can write an answer, so every look at one expects anything:
JSON that isn't, values of another kind, more rows than there can be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from pipeline.dashboard.endpoints import Answer
from pipeline.redact import show_masked

MAX_ROWS = 100_000
OK = 200
_ANSWER_BYTES = 1000

T = TypeVar("T")

_decode = msgspec.json.Decoder().decode


class Snapshots:
    """The answers kept of one session. ``etag`` changes when any of them does; ``time_ms`` is when the newest came."""

    def __init__(self, answers: Iterable[Answer] = (), etags: Iterable[str] = ()) -> None:
        self._answers = {_request(answer.url): answer for answer in answers}
        self.etag = blake2b("\n".join(sorted(etags)).encode(), digest_size=8).hexdigest()
        self.time_ms = max((answer.time_ms for answer in self._answers.values()), default=0)
        self._made: dict[Any, Any] = {}
        self.nbytes = sum(_ANSWER_BYTES + len(answer.body) for answer in self._answers.values())

    def __len__(self) -> int:
        return len(self._answers)

    def once(self, make: Callable[[Snapshots], T]) -> T:
        """What ``make`` makes of these answers, which don't change: made once. It should be small beside them."""
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made

    def answer(self, url: str) -> Answer | None:
        """The answer to ``url`` (path and query, in any order), whatever its status."""
        return self._answers.get(_request(url))

    def good(self, url: str) -> Answer | None:
        """The answer to ``url`` if it was one: its status 200."""
        answer = self.answer(url)
        return answer if answer is not None and answer.status == OK else None

    def value(self, url: str) -> Any:
        """The good answer to ``url``, decoded; None where there is none or it isn't JSON."""
        answer = self.good(url)
        return None if answer is None else decoded(answer)

    def table(self, url: str) -> dict[str, Any]:
        """The same where it is an object; empty otherwise."""
        value = self.value(url)
        return value if isinstance(value, dict) else {}

    def data(self, url: str) -> dict[str, Any]:
        """What stands in Ray's envelope, where it is an object; empty otherwise."""
        data = self.table(url).get("data")
        return data if isinstance(data, dict) else {}

    def state_rows(self, url: str) -> list[dict[str, Any]]:
        """The rows of a State API list."""
        result = self.data(url).get("result")
        return rows(result.get("result") if isinstance(result, dict) else None)

    def below(self, path: str) -> Iterator[tuple[str, Answer]]:
        """(rest of the path, answer) of all answers whose path begins with ``path``."""
        for (where, _), answer in self._answers.items():
            if where.startswith(path):
                yield where.removeprefix(path), answer


NONE = Snapshots()
"""Where nobody asked a dashboard."""


def decoded(answer: Answer) -> Any:
    """An answer's JSON, secrets that the collector masked named as such; None where it isn't JSON."""
    try:
        return show_masked(_json(answer.body))
    except (ValueError, RecursionError):
        return None


def _json(text: str) -> Any:
    try:
        return _decode(text)
    except msgspec.DecodeError:
        return json.loads(text)  # Ray's dashboard writes NaN and Infinity, which are no JSON


def rows(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; empty where it isn't one."""
    return [row for row in value[:MAX_ROWS] if isinstance(row, dict)] if isinstance(value, list) else []


def _request(url: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    parts = urlsplit(url)
    return parts.path, tuple(sorted(parse_qsl(parts.query, keep_blank_values=True)))

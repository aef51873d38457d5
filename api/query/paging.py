"""What lists can do beyond Ray's: order, pages, a time range and a choice of columns.

Owns the parameters (``sort_by``, ``offset``, ``page_token``, ``start_time_ms``, ``end_time_ms``, ``fields``), the order
of any two values and the token of a place in that order. A token names the last row of a page by its sort key and
its id, not by its number: rows that come later move nothing. It holds for one question about one session only.

The order, of every resource: numbers before texts, None last whichever way, rows alike by their id. A nested value
counts as its JSON, a text by its first ``KEY_CHARS`` characters, a figure that Ray writes as text as a number.

Pure functions. What it leaves to others: finding the rows (``query.py``, ``views/task_order.py``), HTTP (``routes/lists.py``).
"""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from api.query.refusal import BadQuery
from api.query.schemas import Column, Schema

KEY_CHARS = 256
MAX_TOKEN = 8192
MAX_NAME = 1024
MAX_NUMBER = 1 << 70
VERSION = 1
OF_PAGES = ("offset", "page_token")
PARAMETERS = ("sort_by", *OF_PAGES, "start_time_ms", "end_time_ms", "fields")
_NOT_OF_THE_QUESTION = frozenset({*OF_PAGES, "limit", "timeout", "detail", "fields", "format"})
_BAD_TOKEN = "page_token isn't one that was given out for this list, in this order, with these filters"

Key = tuple[int, int | float | str]
Entry = tuple[Key | None, str, Any]
"""Sort key, name, and the thing itself."""
E = TypeVar("E")


class Order(Struct, frozen=True):
    """By which column. ``none_first`` is for Ray's own order of some lists."""

    column: str
    descending: bool = False
    none_first: bool = False


class Place(Struct, frozen=True):
    """A row's place in an order. ``name`` tells rows of one key apart."""

    key: Key | None
    name: str


class Beyond(Struct, frozen=True):
    """What a request asks for beyond Ray's parameters. ``order`` None: Ray's own. ``limit`` None: all rows.

    ``stream``: the answer's rows are made later, slice by slice. ``question`` is what a token of it is good for.
    """

    question: str = ""
    order: Order | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    fields: tuple[str, ...] = ()
    offset: int = 0
    after: Place | None = None
    paged: bool = False
    stream: bool = False
    limit: int | None = None

    @property
    def ranged(self) -> bool:
        """Whether a time range is asked for."""
        return self.start_ms is not None or self.end_ms is not None

    def overlaps(self, begin_ms: float | None, end_ms: float | None) -> bool:
        """Whether a life touches the range, both ends included. No beginning: never known to live; no end: living yet."""
        if begin_ms is None:
            return False
        begun = self.end_ms is None or begin_ms <= self.end_ms
        return begun and (self.start_ms is None or end_ms is None or max(begin_ms, end_ms) >= self.start_ms)

    def token(self, place: Place) -> str:
        """What a later request hands in to go on after ``place``."""
        told = [VERSION, self.question, list(place.key) if place.key is not None else None, place.name]
        return urlsafe_b64encode(json.dumps(told, separators=(",", ":")).encode()).rstrip(b"=").decode()


# -- reading the parameters ---------------------------------------------------------------------


def asks_beyond(query: Iterable[tuple[str, str]]) -> bool:
    """Whether any parameter of ours is given."""
    return any(name in PARAMETERS for name, _ in query)


def parse_beyond(
    query: Iterable[tuple[str, str]], schema: Schema, session: str, *, stream: bool = False, limit: int | None = None
) -> Beyond:
    """Read our parameters; of a repeated name the first counts. Raises ``BadQuery``."""
    pairs = list(query)
    first = dict(reversed(pairs))
    if "offset" in first and first.get("page_token"):
        raise BadQuery("offset and page_token exclude each other: a token says where to go on")
    start_ms, end_ms = _time("start_time_ms", first), _time("end_time_ms", first)
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise BadQuery(f"start_time_ms {start_ms} is after end_time_ms {end_ms}")
    question = _question(pairs, schema, session)
    return Beyond(
        question=question,
        order=_order(first["sort_by"], schema) if "sort_by" in first else None,
        start_ms=start_ms,
        end_ms=end_ms,
        fields=_fields(first["fields"], schema) if "fields" in first else (),
        offset=whole_number("offset", first["offset"]) if "offset" in first else 0,
        after=_place(first["page_token"], question) if first.get("page_token") else None,
        paged=any(name in first for name in OF_PAGES),
        stream=stream,
        limit=limit,
    )


def whole_number(name: str, text: str, least: int = 0) -> int:
    """A parameter that is a number. Raises ``BadQuery``."""
    try:
        number = int(text) if len(text) <= 20 else None
    except ValueError:
        number = None
    if number is None or not least <= number < 1 << 63:
        raise BadQuery(f"{name} must be a whole number of at least {least}, not {text[:80]!r}")
    return number


def _time(name: str, first: dict[str, str]) -> int | None:
    return whole_number(name, first[name]) if name in first else None


def _order(text: str, schema: Schema) -> Order:
    column = text.removeprefix("-")
    return Order(_known("sort_by", column, schema), descending=text != column)


def _fields(text: str, schema: Schema) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_known("fields", name.strip(), schema) for name in text.split(",")))


def _known(parameter: str, column: str, schema: Schema) -> str:
    if schema.column(column) is None:
        valid = ", ".join(each.name for each in schema.columns)
        raise BadQuery(f"{parameter}: {schema.resource} have no column {column[:80]!r}. Valid columns: {valid}")
    return column


def _question(pairs: list[tuple[str, str]], schema: Schema, session: str) -> str:
    """A fingerprint of what decides which rows there are, and in which order."""
    said = [pair for pair in pairs if pair[0] not in _NOT_OF_THE_QUESTION]
    text = json.dumps([session, schema.resource, sorted(said, key=lambda pair: pair[0])])
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _place(text: str, question: str) -> Place:
    try:
        if len(text) > MAX_TOKEN:
            raise ValueError("too long")
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        version, asked, key, name = json.loads(urlsafe_b64decode(padded), parse_constant=_no_number)
        if version != VERSION or asked != question or not isinstance(name, str) or len(name) > MAX_NAME:
            raise ValueError("another's")
        return Place(None if key is None else _key(key), name)
    except (ValueError, TypeError, binascii.Error, RecursionError) as exc:
        raise BadQuery(_BAD_TOKEN) from exc


def _key(told: Any) -> Key:
    rank, value = told
    if rank == 0 and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER:
        return 0, value
    if rank == 1 and isinstance(value, str) and len(value) <= KEY_CHARS:
        return 1, value
    raise ValueError("no key")


def _no_number(text: str) -> float:
    raise ValueError(text)


def own_order(schema: Schema) -> Order:
    """The order in which Ray lists a resource."""
    return _RAYS.get(schema.resource) or Order(schema.sort_by)


_RAYS = {
    "jobs": Order("job_id", none_first=True),
    "cluster_events": Order("timestamp"),  # beside the columns, finer than "time"
    "runtime_envs": Order("creation_time_ms", descending=True, none_first=True),
}


def name_of(row: Mapping[str, Any], schema: Schema) -> str:
    """What tells a row from others of the same sort key, bounded."""
    parts = [row.get(column) for column in _NAMES.get(schema.resource, (schema.sort_by,))]
    name = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else json_text(parts)
    return name if len(name) <= _LONGEST_NAME else "#" + blake2b(name.encode(errors="replace")).hexdigest()


_NAMES = {"jobs": ("job_id", "type", "submission_id"), "runtime_envs": ("node_id", "runtime_env", "error")}
_LONGEST_NAME = 500


# -- the order ------------------------------------------------------------------------------------


def sort_key(value: Any, column: Column | None = None) -> Key | None:
    """What a value is sorted by; None, which comes last, for what is no value."""
    if isinstance(value, str) and column is not None and column.kind in ("int", "float"):
        value = _figure(value)
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return 0, int(value)
    if isinstance(value, int | float):
        return 0, max(-MAX_NUMBER, min(value, MAX_NUMBER))
    return 1, value[:KEY_CHARS] if isinstance(value, str) else json_text(value)[:KEY_CHARS]


def _figure(text: str) -> Any:
    try:
        return int(text) if len(text) <= 20 else text
    except ValueError:
        return text


def json_text(value: Any) -> str:
    """A value as JSON, the names of its fields sorted."""
    try:
        return msgspec.json.encode(value, order="deterministic").decode()
    except (UnicodeEncodeError, TypeError, msgspec.MsgspecError):
        return json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))


def arranged(entries: list[Entry], order: Order) -> list[Entry]:
    """The entries in their order."""
    some = sorted((entry for entry in entries if entry[0] is not None), key=lambda entry: entry[1])
    some.sort(key=lambda entry: entry[0] or (), reverse=order.descending)
    none = sorted((entry for entry in entries if entry[0] is None), key=lambda entry: entry[1])
    return none + some if order.none_first else some + none


def is_after(entry: Entry, place: Place, order: Order) -> bool:
    """Whether an entry comes after a place."""
    key, name = entry[0], entry[1]
    if key == place.key:
        return name > place.name
    if key is None or place.key is None:
        return (key is None) != order.none_first
    return key < place.key if order.descending else key > place.key


class Chosen(Generic[E]):
    """The rows of an answer, in order, made when they are asked for.

    Which rows and in which order is settled; what a row shows is what is known when it is made.
    """

    def __init__(self, things: Sequence[E], row: Callable[[E], Mapping[str, Any]], columns: tuple[str, ...]) -> None:
        self._things = things
        self._row = row
        self.columns = columns

    def __len__(self) -> int:
        return len(self._things)

    def cells(self, start: int, stop: int) -> list[list[Any]]:
        """A slice of the rows, by column; None where a row has none."""
        rows = [self._row(thing) for thing in self._things[start:stop]]
        return [[row.get(name) for row in rows] for name in self.columns]


def page(entries: list[Entry], order: Order, beyond: Beyond) -> tuple[list[Entry], str | None]:
    """The entries of the page that is asked for, and the token of the next; None where there is none."""
    after = beyond.after
    rest = arranged([each for each in entries if after is None or is_after(each, after, order)], order)
    stop = len(rest) if beyond.limit is None else beyond.offset + beyond.limit
    found = rest[beyond.offset : stop]
    more = bool(found) and stop < len(rest)
    return found, beyond.token(Place(*found[-1][:2])) if more else None


def as_rows(columns: Sequence[str], cells: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Cells by column as rows."""
    return [dict(zip(columns, each, strict=True)) for each in zip(*cells, strict=True)]

"""Ray's list and summary options: what a query string means, which rows match, what the envelope counts.

Owns the exact wording of Ray's refusals, the coercion of filter texts, and the four numbers of Ray's
answer, read as a funnel:

    total ─ source filters ─▶ num_after_truncation ─ the other filters ─▶ num_filtered ─ limit ─▶ result

Ray's sources hand out at most 10,000 rows. Ours hold every row and are searched whole, so the step where
Ray truncates loses nothing here; the most rows one answer can hold is 10,000, as in Ray.

Everything here is a pure function of its arguments. What it leaves to others: which rows there are
(``index/``, ``views/``), HTTP (``routes/``).
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from api.query.lives import life_of
from api.query.paging import Beyond, Chosen, E, Entry, as_rows, name_of, own_order, page, sort_key
from api.query.refusal import BadQuery as BadQuery
from api.query.schemas import Column, Schema, SourceFilter

DEFAULT_LIMIT = 100
MAX_LIMIT = 10_000
DEFAULT_TIMEOUT = 30

Row = dict[str, Any]
Value = str | int | float | bool
Query = Iterable[tuple[str, str]]


class Filter(Struct, frozen=True):
    """``column predicate value``, as asked; ``predicate`` is ``=`` or ``!=``."""

    column: str
    predicate: str
    value: str


class ListOptions(Struct, frozen=True):
    """What a list request asks for; ``beyond`` where it asks for more than Ray knows of (``paging.py``)."""

    limit: int = DEFAULT_LIMIT
    timeout: int = DEFAULT_TIMEOUT
    detail: bool = False
    exclude_driver: bool = True
    filters: tuple[Filter, ...] = ()
    beyond: Beyond | None = None


class SummaryOptions(Struct, frozen=True):
    """What a summary request asks for."""

    timeout: int = DEFAULT_TIMEOUT
    filters: tuple[Filter, ...] = ()
    summary_by: str | None = None


def parse_list_options(query: Query) -> ListOptions:
    """Read the (name, value) pairs of a query string; of a repeated name the first counts, as in Ray."""
    first, filters = _split(query)
    limit = _integer(first["limit"]) if "limit" in first else DEFAULT_LIMIT
    if limit > MAX_LIMIT:
        raise BadQuery(
            f"Given limit {limit} exceeds the supported limit {MAX_LIMIT}. Use a lower limit, or set the "
            "`RAY_MAX_LIMIT_FROM_API_SERVER` environment variable to a larger value."
        )
    timeout = _integer(first["timeout"]) if "timeout" in first else DEFAULT_TIMEOUT
    detail = coerce(first["detail"], "bool") if "detail" in first else False
    exclude_driver = coerce(first["exclude_driver"], "bool") if "exclude_driver" in first else True
    _check_predicates(filters)
    if limit < 0:
        raise BadQuery("Stop argument for islice() must be None or an integer: 0 <= x <= sys.maxsize.")
    return ListOptions(limit, timeout, bool(detail), bool(exclude_driver), filters)


def parse_summary_options(query: Query) -> SummaryOptions:
    """Read the (name, value) pairs of a summary's query string."""
    first, filters = _split(query)
    timeout = _integer(first["timeout"]) if "timeout" in first else DEFAULT_TIMEOUT
    _check_predicates(filters)
    return SummaryOptions(timeout, filters, first.get("summary_by") or None)


def _split(query: Query) -> tuple[dict[str, str], tuple[Filter, ...]]:
    first: dict[str, str] = {}
    keys: list[str] = []
    predicates: list[str] = []
    values: list[str] = []
    lists = {"filter_keys": keys, "filter_predicates": predicates, "filter_values": values}
    for name, value in query:
        if name in lists:
            lists[name].append(value)
        else:
            first.setdefault(name, value)
    if len(keys) != len(values):
        raise BadQuery(f"filter_keys and filter_values differ in number: {len(keys)} and {len(values)}")
    # Ray pairs them up and leaves out what has no predicate.
    filters = tuple(Filter(*parts) for parts in zip(keys, predicates, values, strict=False))
    return first, filters


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError as exc:
        raise BadQuery(str(exc)) from exc


def _check_predicates(filters: Sequence[Filter]) -> None:
    for item in filters:
        if item.predicate not in ("=", "!="):
            raise BadQuery(f"Unsupported filter predicate {item.predicate} is given. Available predicates: =, !=.")


def coerce(text: str, kind: str) -> Value:
    """A text as ``int``, ``float`` or ``bool``; anything else stays text."""
    if kind == "bool":
        if text in ("True", "true", "1"):
            return True
        if text in ("False", "false", "0"):
            return False
    elif kind in ("int", "float"):
        try:
            return int(text) if kind == "int" else float(text)
        except ValueError:
            pass
    else:
        return text
    raise BadQuery(f"Failed to convert a value {text} of type <class 'str'> to <class '{kind}'>")


_REFUSALS = {
    "int": "for a int type column. Please provide an integer filter `--filter {col} [int]`",
    "float": "for a float type column. Please provide an integer filter `--filter {col} [float]`",
    "bool": "for a boolean type column. Please provide `--filter {col} [True|true|1]` for True or "
    "`--filter {col} [False|false|0]` for False.",
}


def typed_value(item: Filter, column: Column | None) -> Value:
    """The filter's value in the column's type, so far as Ray coerces it up front."""
    if column is None or column.kind == "text":
        return item.value
    try:
        return coerce(item.value, column.kind)
    except BadQuery as exc:
        reason = _REFUSALS[column.kind].replace("{col}", item.column)
        raise BadQuery(f"Invalid filter `--filter {item.column} {item.value}` {reason}") from exc


def unsupported_column(name: str, schema: Schema) -> BadQuery:
    """Ray's refusal of a filter on a column that can't be filtered on (Ray lists them in a set's random order)."""
    supported = ", ".join(repr(column) for column in sorted(schema.filterable()))
    return BadQuery(
        f"The given filter column {name} is not supported. "
        "Enter filters with \u2013-filter key=value or \u2013-filter key!=value "
        f"Supported filter columns: {{{supported}}}"
    )


def matches(cell: object, predicate: str, value: Value) -> bool:
    """Whether one cell passes. Texts compare without case; a text is read as the cell's type, but only for ``=``."""
    if isinstance(value, str) and isinstance(cell, str):
        return (cell.lower() == value.lower()) == (predicate == "=")
    if predicate == "!=":
        return cell != value
    if isinstance(value, str) and isinstance(cell, int):
        return cell == coerce(value, "bool" if isinstance(cell, bool) else "int")
    return cell == value


def check_source(schema: Schema, filters: Sequence[Filter]) -> list[tuple[Filter, SourceFilter]]:
    """The filters that Ray hands to the source, refused in the source's words where their value can't be."""
    handed = []
    by_column = {source.column: source for source in schema.source}
    for item in filters:
        source = by_column.get(item.column)
        if source is None or (item.predicate != "=" and not source.not_equal):
            continue
        if source.values and item.value not in source.values:
            continue
        if source.id_bytes:
            _check_id(item.value, source.id_bytes)
        if source.names and item.value.upper() not in source.names:
            kind = schema.resource.removesuffix("s")
            raise BadQuery(f"Invalid {kind} {item.column} for filtering: {item.value.upper()}")
        handed.append((item, source))
    return handed


def _check_id(text: str, length: int) -> None:
    try:
        size = len(binascii.unhexlify(text))
    except ValueError as exc:
        raise BadQuery(str(exc)) from exc
    if size != length:
        raise BadQuery(f"ID string needs to have length {length}, got {size}")


def filter_rows(rows: Iterable[Row], schema: Schema, filters: Sequence[Filter]) -> list[Row]:
    """The rows that pass every filter, in their order. A column is refused when the first row gets as far as it."""
    passes = row_filter(schema, filters)
    return [row for row in rows if passes(row)]


def row_filter(schema: Schema, filters: Sequence[Filter]) -> Callable[[Row], bool]:
    """Whether a row passes every filter."""
    filterable = schema.filterable()
    absent = {column.name for column in schema.columns if column.absent}
    typed = [(item.column.lower(), item.predicate, typed_value(item, schema.column(item.column))) for item in filters]

    def passes(row: Row) -> bool:
        for name, predicate, value in typed:
            if name not in filterable:
                raise unsupported_column(name, schema)
            if name not in row or (row[name] is None and name in absent) or not matches(row[name], predicate, value):
                return False
        return True

    return passes


def envelope(total: int, num_after_truncation: int, num_filtered: int, result: Any) -> dict[str, Any]:
    """Ray's ListApiResponse and SummaryApiResponse."""
    return {
        "total": total,
        "num_after_truncation": num_after_truncation,
        "num_filtered": num_filtered,
        "result": result,
        "partial_failure_warning": "",
        "warnings": None,
    }


def list_response(
    rows: Sequence[Row],
    schema: Schema,
    options: ListOptions,
    total: int | None = None,
    order: Callable[[Row], Any] | None = None,
) -> dict[str, Any]:
    """Answer a list request over ``rows`` (dicts by column name): filtered, sorted, limited, and only the asked columns.

    A column that a row lacks is shown as None and never matches a filter. ``total`` is for a caller that
    knows of more rows than it gives, ``order`` for one whose rows aren't sorted by one column.
    """
    if options.beyond is not None:
        return choose(rows, lambda row: row, schema, options, options.beyond)
    handed = _narrowing(schema, options.filters)
    after_source = len(filter_rows(rows, schema, handed)) if handed else len(rows)
    filtered = filter_rows(rows, schema, options.filters)
    filtered.sort(key=order or (lambda row: row.get(schema.sort_by) or ""))
    shown = schema.shown(options.detail)
    result = [project(row, shown) for row in filtered[: options.limit]]
    return envelope(len(rows) if total is None else total, after_source, len(filtered), result)


def _narrowing(schema: Schema, filters: Sequence[Filter]) -> list[Filter]:
    return [item for item, source in check_source(schema, filters) if source.narrows]


def choose(
    things: Iterable[E], row: Callable[[E], Row], schema: Schema, options: ListOptions, beyond: Beyond
) -> dict[str, Any]:
    """Answer a request that asks for more than Ray knows of. ``row`` makes the whole row of a thing."""
    narrows = row_filter(schema, _narrowing(schema, options.filters))
    passes = row_filter(schema, options.filters)
    life = life_of(schema) if beyond.ranged else None
    order = beyond.order or own_order(schema)
    column = schema.column(order.column)
    total = at_source = 0
    named: dict[str, int] = {}
    entries: list[Entry] = []
    for thing in things:
        known = row(thing)
        total += 1
        at_source += narrows(known)
        if passes(known) and (life is None or beyond.overlaps(*life(known))):
            name = name_of(known, schema)
            named[name] = count = named.get(name, 0) + 1
            entries.append((sort_key(known.get(order.column), column), f"{name}#{count}" if count > 1 else name, thing))
    found, token = page(entries, order, beyond)
    chosen = Chosen([thing for _, _, thing in found], row, beyond.fields or schema.shown(options.detail))
    return chosen_answer((total, at_source, len(entries)), chosen, token, beyond)


def chosen_answer(counts: tuple[int, int, int], chosen: Chosen[E], token: str | None, beyond: Beyond) -> dict[str, Any]:
    """The envelope around what was chosen: the rows, or for a stream what makes them."""
    answer = envelope(*counts, chosen if beyond.stream else as_rows(chosen.columns, chosen.cells(0, len(chosen))))
    return answer | ({"next_page_token": token} if beyond.paged else {})


def project(row: Mapping[str, Any], columns: Sequence[str]) -> Row:
    """The asked columns of a row, None where it has none."""
    return {name: row.get(name) for name in columns}

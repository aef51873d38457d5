"""Lists asked for beyond Ray's, and what plain Python makes of the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from api.query.paging import parse_beyond
from api.query.query import ListOptions
from api.query.schemas import Schema

Row = dict[str, Any]
Asked = Callable[[ListOptions], dict[str, Any]]
MOST_PAGES = 1000
EVERYTHING = ListOptions(limit=10_000, detail=True, exclude_driver=False)


def asking(view: Asked, schema: Schema, limit: int | None = None, **told: str) -> dict[str, Any]:
    """One answer with detail; ``told`` are the parameters as they stand in an address."""
    beyond = parse_beyond(told.items(), schema, "session", limit=limit)
    return view(msgspec.structs.replace(EVERYTHING, beyond=beyond))


def pages(view: Asked, schema: Schema, size: int, **told: str) -> Iterator[list[Row]]:
    """Every page in turn, by token."""
    token = ""
    for _ in range(MOST_PAGES):
        answer = asking(view, schema, size, page_token=token, **told)
        yield answer["result"]
        token = answer["next_page_token"]
        if token is None:
            return
    raise AssertionError("pages without end")


def plainly_sorted(rows: list[Row], name: Callable[[Row], Any], column: str, *, descending: bool) -> list[Row]:
    """Numbers before texts, nested values as JSON, None last, rows alike by name."""

    def key(row: Row) -> tuple[int, Any]:
        value = row[column]
        if isinstance(value, dict | list):
            value = msgspec.json.encode(value, order="sorted").decode()
        return (1, value[:256]) if isinstance(value, str) else (0, value)

    by_name = sorted(rows, key=name)
    told = sorted((row for row in by_name if row[column] is not None), key=key, reverse=descending)
    return told + [row for row in by_name if row[column] is None]

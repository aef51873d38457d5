"""Rows as lines: NDJSON (a JSON object a line) and CSV (RFC 4180, a line of names first).

In CSV nothing is the empty cell, truth is ``true`` and ``false``, a nested value is its JSON. A text that a spreadsheet
would take for a formula (it begins with ``=``, ``+``, ``-``, ``@``, a tab or a line break) gets an apostrophe before it,
which is how spreadsheets themselves mark text; numbers are left alone. Characters that UTF-8 can't carry become ``?``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from api.query.paging import as_rows, json_text

Format = Literal["json", "ndjson", "csv"]
MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
}
_FORMULA = frozenset("=+-@\t\r\n")
_encoder = msgspec.json.Encoder()

Write = Callable[[Sequence[str], Sequence[Sequence[Any]]], bytes]
"""Some rows by column, as lines."""


def ndjson_lines(columns: Sequence[str], cells: Sequence[Sequence[Any]]) -> bytes:
    """A line a row."""
    rows = as_rows(columns, cells)
    try:
        return _encoder.encode_lines(rows)
    except UnicodeEncodeError:
        return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)


def csv_names(columns: Sequence[str]) -> bytes:
    """The first line."""
    return csv_lines(columns, [[name] for name in columns])


def csv_lines(columns: Sequence[str], cells: Sequence[Sequence[Any]]) -> bytes:
    """A line a row."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(zip(*map(_texts, cells), strict=True))
    return out.getvalue().encode("utf-8", "replace")


def _texts(cells: Sequence[Any]) -> list[str]:
    nested: dict[int, str] = {}  # rows of one kind share their cell, and its text is made once
    texts = []
    for cell in cells:
        if isinstance(cell, dict | list):
            text = nested.get(id(cell))
            if text is None:
                text = nested[id(cell)] = json_text(cell)
            texts.append(text)
        else:
            texts.append(_text(cell))
    return texts


def _text(cell: Any) -> str:
    if isinstance(cell, str):
        return f"'{cell}" if cell and cell[0] in _FORMULA else cell
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell)


WRITERS: dict[Format, Write] = {"ndjson": ndjson_lines, "csv": csv_lines}


# -- which of them a request wants ------------------------------------------------------------------


def wanted(asked: str | None, accept: str) -> Format | None:
    """The format that ``format=`` or else the Accept header names; None where ``format=`` names none that there is."""
    if asked is not None:
        return next((known for known in MEDIA_TYPES if known == asked), None)
    best: tuple[float, Format] = (0.0, "json")
    for part in accept.lower().split(",")[:50]:
        media_type, *parameters = (each.strip() for each in part.split(";"))
        for known, its_type in MEDIA_TYPES.items():
            # Of types as welcome as each other the first counts; a wildcard is satisfied by JSON, as in Ray.
            if media_type == its_type and _quality(parameters) > best[0]:
                best = (_quality(parameters), known)
    return best[1]


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0

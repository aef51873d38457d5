"""State API lists over the entities of an index, without a row for each where few are asked for."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from api.query.query import ListOptions, Row, choose, list_response
from api.query.schemas import Schema

E = TypeVar("E")


class Rows(Sequence[Row], Generic[E]):
    """Rows made one at a time while they are looked at."""

    def __init__(self, entities: Collection[E], row: Callable[[E], Row]) -> None:
        self._entities = entities
        self._row = row

    def __len__(self) -> int:
        return len(self._entities)

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, self._entities)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return list(self)[index]


def list_entities(
    entities: Collection[E],
    key: Callable[[E], Any],
    row: Callable[[E], Row],
    schema: Schema,
    options: ListOptions,
) -> dict[str, Any]:
    """Answer a list request over ``entities``, which sort by ``key`` as their rows do by ``schema.sort_by``."""
    if options.beyond is not None:
        return choose(entities, row, schema, options, options.beyond)
    if options.filters:
        return list_response(Rows(entities, row), schema, options)
    first = heapq.nsmallest(options.limit, entities, key=key)
    answer = list_response([row(entity) for entity in first], schema, options)
    counts = dict.fromkeys(("total", "num_after_truncation", "num_filtered"), len(entities))
    return answer | counts

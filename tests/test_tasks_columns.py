"""Columns grow without hurting whoever reads them, and codes give back what was put in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.query.columns import FIRST_CAPACITY, Column, IdColumn, Interner, Texts, capacity_for


def test_a_view_taken_before_growing_stays_readable_and_unchanged() -> None:
    column = Column(np.int64)
    column.cells[3] = 7
    view, cells = column.array(10), column.cells
    column.reserve(100_000)
    column.cells[3] = 8
    assert (view[3], cells[3]) == (7, 7)
    assert column.array(10)[3] == 8
    assert len(column.array(100_000)) == 100_000


def test_ids_keep_their_bytes_when_the_column_grows() -> None:
    ids = IdColumn(4)
    ids[5] = b"abcd"
    view = ids.array(6)
    ids.reserve(5000)
    ids[4999] = b"wxyz"
    assert (ids[5], ids[4999], ids[6]) == (b"abcd", b"wxyz", bytes(4))
    assert view[5].tobytes() == b"abcd"


@pytest.mark.parametrize("column", [Column(np.int32), IdColumn(2)])
def test_readers_cannot_write(column: Column | IdColumn) -> None:
    with pytest.raises(ValueError, match="read-only"):
        column.array(3)[0] = 1


@given(st.integers(0, 10**9))
def test_a_capacity_holds_its_row_and_at_most_doubles(row: int) -> None:
    assert row < capacity_for(row) <= max(FIRST_CAPACITY, 2 * row)


def test_a_value_that_repeats_costs_nothing_more() -> None:
    interner: Interner[str] = Interner("")
    codes = [interner.code(value) for value in ("", "a", "b", "a", "")]
    assert codes == [0, 1, 2, 1, 0]
    before = interner.nbytes
    interner.code("b")
    assert interner.nbytes == before > 0
    assert interner.values[2] == "b"
    assert interner.greater(1, 2) == 2


@given(st.lists(st.text(), max_size=40))
def test_long_texts_come_back_as_they_were(texts: list[str]) -> None:
    arena = Texts()
    codes = [arena.code(text) for text in texts]
    assert [arena[code] for code in codes] == texts
    assert len(set(codes)) == len(set(texts))


def test_texts_of_one_hash_are_told_apart() -> None:
    class Same(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 1

    arena = Texts()
    codes = [arena.code(Same(text)) for text in ("a", "b", "a", "\ud800")]
    assert codes == [1, 2, 1, 3]
    assert [arena[code] for code in codes] == ["a", "b", "a", "\ud800"]


def test_many_texts_are_counted_and_survive_growing() -> None:
    arena = Texts()
    codes = [arena.code(f"text {number}") for number in range(5000)]
    assert arena[codes[0]] == "text 0"
    assert arena[codes[-1]] == "text 4999"
    assert arena.nbytes > sum(len(f"text {number}") for number in range(5000))

"""Typed columns that grow: what the index keeps a million task attempts in.

A column is one numpy array with room to spare. Single cells are written through ``cells``, a memoryview
(about 40 ns); whole columns are read as numpy arrays. Growing allocates anew and copies, so an array or a
memoryview that a reader still holds stays valid and keeps what it showed; it just no longer follows.
Untouched room costs address space, not memory.

``Interner`` turns values that repeat into small integers; ``Texts`` does so for long texts and keeps them
as bytes in one arena. In both 0 stands for "nothing".

Promises: ``nbytes`` is what the rows in use take. What it leaves to others: which thread writes (one at a
time), what the columns mean.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

FIRST_CAPACITY = 1024
_ENTRY_BYTES = 110
"""About what one entry of a dict costs beside its key: slot, boxed value, spare room."""

H = TypeVar("H", bytes, str)


class Column:
    """One number a row, 0 until written. ``cells[row] = value`` writes; fetch ``cells`` anew after ``reserve``."""

    __slots__ = ("_array", "cells")

    def __init__(self, dtype: DTypeLike, capacity: int = FIRST_CAPACITY) -> None:
        self._array: NDArray[Any] = np.zeros(capacity, dtype)
        self.cells = memoryview(self._array)  # type: ignore[arg-type]

    @property
    def itemsize(self) -> int:
        """Bytes a row."""
        return self._array.itemsize

    def reserve(self, capacity: int) -> None:
        """Have room for ``capacity`` rows; those there keep their values."""
        old = self._array
        if capacity > len(old):
            self._array = np.zeros(capacity, old.dtype)
            self._array[: len(old)] = old
            self.cells = memoryview(self._array)  # type: ignore[arg-type]

    def array(self, rows: int) -> NDArray[Any]:
        """The first ``rows`` values, read-only."""
        view = self._array[:rows]
        view.flags.writeable = False
        return view


class IdColumn:
    """One id of ``width`` bytes a row, all zero until written."""

    __slots__ = ("_array", "_cells", "width")

    def __init__(self, width: int, capacity: int = FIRST_CAPACITY) -> None:
        self.width = width
        self._array = np.zeros(capacity * width, np.uint8)
        self._cells = memoryview(self._array)  # type: ignore[arg-type]

    def reserve(self, capacity: int) -> None:
        """Have room for ``capacity`` rows; those there keep their values."""
        old = self._array
        if capacity * self.width > len(old):
            self._array = np.zeros(capacity * self.width, np.uint8)
            self._array[: len(old)] = old
            self._cells = memoryview(self._array)  # type: ignore[arg-type]

    def __setitem__(self, row: int, value: bytes) -> None:
        width = self.width
        self._cells[row * width : row * width + width] = value

    def __getitem__(self, row: int) -> bytes:
        width = self.width
        return self._cells[row * width : row * width + width].tobytes()

    def array(self, rows: int) -> NDArray[np.uint8]:
        """The first ``rows`` ids as rows of bytes, read-only."""
        view = self._array[: rows * self.width].reshape(rows, self.width)
        view.flags.writeable = False
        return view


class Interner(Generic[H]):
    """Values that repeat, as small integers from 1 on. 0 is nothing, and is what the empty value gets."""

    __slots__ = ("codes", "nbytes", "values")

    def __init__(self, nothing: H) -> None:
        self.codes: dict[H, int] = {nothing: 0}
        self.values: list[H] = [nothing]
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self.values)

    def code(self, value: H) -> int:
        """The integer of ``value``, a new one for a new value."""
        code = self.codes.get(value)
        if code is None:
            code = self.codes[value] = len(self.values)
            self.values.append(value)
            self.nbytes += len(value) + _ENTRY_BYTES
        return code

    def greater(self, one: int, other: int) -> int:
        """Of two codes the one with the greater value: how two accounts of one thing are settled."""
        return one if self.values[one] >= self.values[other] else other


class Texts:
    """Long texts in one arena, each once. Texts that don't encode as UTF-8 are kept all the same."""

    __slots__ = ("_arena", "_by_hash", "_count", "_ends")

    def __init__(self) -> None:
        self._arena = bytearray()
        self._ends = Column(np.int64)
        self._count = 1
        self._by_hash: dict[int, int] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """About how much memory the texts take."""
        return len(self._arena) + self._count * (self._ends.itemsize + _ENTRY_BYTES)

    def code(self, text: str) -> int:
        """The integer of ``text``; 0 for the empty one."""
        if not text:
            return 0
        key = hash(text)
        while (code := self._by_hash.get(key)) is not None:
            if self[code] == text:
                return code
            key += 1  # another text of the same hash: its neighbour's place
        code = self._by_hash[key] = self._count
        self._ends.reserve(capacity_for(code))
        self._arena += text.encode("utf-8", "surrogatepass")
        self._ends.cells[code] = len(self._arena)
        self._count += 1
        return code

    def __getitem__(self, code: int) -> str:
        if not code:
            return ""
        start, end = self._ends.cells[code - 1], self._ends.cells[code]
        return self._arena[start:end].decode("utf-8", "surrogatepass")

    def greater(self, one: int, other: int) -> int:
        """Of two codes the one with the greater text."""
        return one if self[one] >= self[other] else other


def capacity_for(row: int) -> int:
    """A capacity that holds ``row``: the next power of two, so that growing costs a constant a row."""
    return max(FIRST_CAPACITY, 1 << row.bit_length())

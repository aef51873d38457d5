"""A task group's error is the error that happened, not a group of one around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def first_error() -> Iterator[None]:
    """Around ``async with create_task_group()``: raise the first of what the group gathered, as it was raised.

    The others are what the first one's cancellation brought about, or failed for the same reason.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from error.__cause__

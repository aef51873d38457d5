"""Lines on stdout: coloured where rich finds that wanted (a terminal, NO_COLOR, FORCE_COLOR), as wide as the terminal.

What isn't a terminal gets whole lines. A reader that has gone (``| head``) ends the program quietly, at once, though
nothing may be to say for hours.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.style import Style

from pipeline.errors import OutputFailed

Span = tuple[str, str]
"""Text, and its style as rich calls it; empty for none."""


class Terminal:
    """stdout."""

    def __init__(self, *, colour: bool = True) -> None:
        self._console = Console(file=_stdout(), no_color=None if colour else True, highlight=False)
        self.is_one = sys.stdout.isatty()
        self._system = None if self._console.no_color else self._console._color_system

    def write(self, lines: Iterable[Sequence[Span]], *, whole: bool = False) -> None:
        """Lines, at once. ``whole``: also those wider than the terminal."""
        width = None if whole or not self.is_one else self._console.width
        self.write_text("".join(f"{self._line(spans, width)}\n" for spans in lines))

    def write_text(self, text: str) -> None:
        """Text as it is."""
        print_bytes(text.encode(_stdout().encoding or "utf-8", "replace"))

    def _line(self, spans: Sequence[Span], width: int | None) -> str:
        if width is not None:
            spans = cut(spans, width)
        if self._system is None:
            return "".join(text for text, _ in spans)
        return "".join(
            _style(style).render(text, color_system=self._system) if style else text for text, style in spans
        )


def print_bytes(data: bytes) -> None:
    """Bytes to stdout, at once. Raises ``OutputFailed``, and ``BrokenPipeError`` for a reader that has gone."""
    out = _stdout()
    try:
        out.buffer.write(data)
        out.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        # What is still in the buffer would be tried again when the program ends, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise OutputFailed(f"stdout can't be written: {exc.strerror or exc}") from exc


def _stdout() -> TextIO:
    """A program that is begun with its stdout closed has none."""
    out: TextIO | None = sys.stdout
    if out is None:
        raise OutputFailed("stdout is closed")
    return out


@lru_cache
def _style(name: str) -> Style:
    return Style.parse(name)


def cut(spans: Sequence[Span], width: int) -> list[Span]:
    """As much as goes into so many columns, with a sign where that isn't all."""
    found: list[Span] = []
    for text, style in spans:
        size = cell_len(text)
        if size > width:
            found.append((f"{set_cell_size(text, max(0, width - 1)).rstrip()}…", style))
            return found
        found.append((text, style))
        width -= size
    return found


def end_with_the_reader() -> None:
    """End this program, quietly, when nobody reads its stdout any more. Raises ``OutputFailed`` where there is none."""
    try:
        out = _stdout().fileno()
        mode = os.fstat(out).st_mode
    except (OSError, ValueError):
        return
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        threading.Thread(target=_watch, args=(out,), daemon=True, name="reader of stdout").start()


def _watch(out: int) -> None:
    poll = select.poll()
    poll.register(out, 0)  # an error is told unasked
    poll.poll()
    os._exit(0)

"""Texts from outside made fit for an answer: bounded, and their changing parts taken out so that alike ones match."""

from __future__ import annotations

import re

MAX_TEXT = 300

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_CHANGING = re.compile(
    r"0x[0-9a-fA-F]+"  # an address
    r"|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"
    r"|\b(?=[0-9a-f]*[0-9])[0-9a-f]{8,}\b"  # Ray's ids
    r"|(?<![A-Za-z0-9])[0-9]+(?:[.,:][0-9]+)*"  # numbers, versions, addresses with ports; not the 64 of int64
)
_FRAME = '  File "'
_PREFACES = ("User exception:", "CreationTaskError: User exception:")


def clipped(text: str, limit: int = MAX_TEXT) -> str:
    """The text, cut where it is longer than anyone reads, and of characters that JSON can carry."""
    short = text if len(text) <= limit else f"{text[:limit]}…"
    return short.encode("utf-8", "replace").decode()


def telling_line(message: str) -> str:
    """The line of an error that says what went wrong: of a traceback the exception, otherwise the first."""
    message = _COLOURS.sub("", message).partition("\nSystem error:")[0]
    lines = message.splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith(_FRAME)]
    after = lines[frames[-1] + 1 :] if frames else lines
    for line in after:
        if line.strip() and not line[0].isspace() and line not in _PREFACES:
            return line.strip()
    return next((line.strip() for line in lines if line.strip()), "")


def normalised(line: str) -> str:
    """The line with ids, addresses and numbers as ``#``: what errors of one cause have in common."""
    return clipped(_CHANGING.sub("#", line[: 4 * MAX_TEXT]))

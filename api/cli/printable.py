"""Text from outside made fit for a terminal: one line, bounded, and nothing in it that a terminal would obey. Pure."""

from __future__ import annotations

import re

LONGEST = 2000
"""Characters that are shown of one text."""
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, the cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links
    r"|\x1b[ -/]*[0-~]"
)


def printable(text: str, limit: int = LONGEST) -> str:
    """The text without sequences, control and bidi characters, what parts words as one blank.

    The same text comes back where it is plain. It holds nothing that can't be encoded.
    """
    short = text[: 4 * limit]
    if "\x1b" in short or "\x9b" in short or not short.isascii():
        short = _SEQUENCES.sub("", short)
    if not short.isprintable() or "  " in short:
        short = "".join(c for c in " ".join(short.split()) if c.isprintable())
    return short.strip() if len(short) <= limit else f"{short[: limit - 1].strip()}…"

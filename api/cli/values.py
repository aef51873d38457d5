"""Sizes and durations as people write them: ``16MiB``, ``10s``."""

from __future__ import annotations

import re

import click

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*([KMGT]i?B?|B)?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*(ms|s|m|h|d)?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Size(click.ParamType[int]):
    """Bytes: a number with B, KB, MB, GB (thousands) or KiB, MiB, GiB (1024s; ``Mi`` too, as in Kubernetes)."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not a size such as 16MiB, 2GB or 1048576", param, ctx)
        unit = (found[2] or "").lower().removesuffix("b")
        base = 1024 if unit.endswith("i") else 1000
        return int(float(found[1]) * base ** _POWERS[unit.removesuffix("i")])


class Duration(click.ParamType[float]):
    """Seconds: a number with ms, s, m, h or d; without a unit, seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = _DURATION.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not a duration such as 500ms, 10s or 2m", param, ctx)
        return float(found[1]) * _SECONDS[(found[2] or "").lower()]


SIZE = Size()
DURATION = Duration()


def size_text(count: int) -> str:
    """``count`` bytes in the largest unit that shows it exactly."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count and count % 1024**power == 0:
            return f"{count // 1024**power}{unit}"
    return str(count)


def duration_text(seconds: float) -> str:
    """``seconds`` with its unit."""
    return f"{seconds:g}s"

"""The spelling of keys in the dashboard's own answers: camelCase, by Ray's rules.

Ray respells every key of such an answer, at any depth, those that users chose (labels, resources) too:
``node:__internal_head__`` becomes ``node:InternalHead``. The UI expects it so.
"""

from __future__ import annotations

from typing import Any


def camel_case(name: str) -> str:
    """``object_store_memory`` -> ``objectStoreMemory``."""
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)


def google_style(value: dict[str, Any]) -> dict[str, Any]:
    """``value`` with every key respelled; dicts in lists too, lists in lists not, as in Ray."""
    return {camel_case(name): _inside(item) for name, item in value.items()}


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return google_style(value)
    if isinstance(value, list):
        return [google_style(item) if isinstance(item, dict) else item for item in value]
    return value

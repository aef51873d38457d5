"""Secrets of runtime environments, masked in what a browser is shown, as Ray masks them.

Ray's command line and SDK get the values; pages get ``<redacted>``. Which requests are a browser's is for
the routes to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

REDACTED = "<redacted>"


def redacted_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of tasks, actors, jobs or runtime environments, masked; the rows given are left as they are."""
    return [_redacted_row(row) for row in rows]


def redacted_deep(value: Any) -> Any:
    """The same of anything, wherever in it a ``runtime_env`` stands (Serve has them at several depths)."""
    if isinstance(value, dict):
        return {
            name: _runtime_env(inner) if name == "runtime_env" else redacted_deep(inner)
            for name, inner in value.items()
        }
    return [redacted_deep(inner) for inner in value] if isinstance(value, list) else value


def _redacted_row(row: dict[str, Any]) -> dict[str, Any]:
    masked = {name: mask(row[name]) for name, mask in _MASKS.items() if name in row}
    return row | masked if masked else row


def _runtime_env(env: Any) -> Any:
    variables = env.get("env_vars") if isinstance(env, dict) else None
    return env | {"env_vars": dict.fromkeys(variables, REDACTED)} if isinstance(variables, dict) else env


def _serialized(text: Any) -> Any:
    if not isinstance(text, str) or not text:
        return text
    try:
        env = json.loads(text)
    except (ValueError, RecursionError):
        return REDACTED
    return json.dumps(_runtime_env(env), sort_keys=True) if isinstance(env, dict) else REDACTED


def _info(info: Any) -> Any:
    if not isinstance(info, dict) or "serialized_runtime_env" not in info:
        return info
    return info | {"serialized_runtime_env": _serialized(info["serialized_runtime_env"])}


_MASKS = {"runtime_env": _runtime_env, "serialized_runtime_env": _serialized, "runtime_env_info": _info}
MASKED = frozenset(_MASKS)
"""Columns that a page isn't shown the whole of."""

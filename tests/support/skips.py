"""What a test needs from the machine: skipped with the reason where it is absent, failed in CI, where it may not be."""

from __future__ import annotations

import os

import pytest


def need(condition: object, reason: str) -> None:
    """Go on only if ``condition`` holds. A check that quietly never runs in CI proves nothing.

    Called while a module is imported, it is the whole module that is skipped.
    """
    if condition:
        return
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def extra(condition: object, reason: str) -> None:
    """Go on only if ``condition`` holds: for larger material that isn't in the repository and proves the same once more."""
    if not condition:
        pytest.skip(reason)

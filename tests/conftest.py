"""What every test gets: the asyncio backend."""

from __future__ import annotations

import pytest

pytest_plugins = ["support.seaweed", "support.motoserver"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"

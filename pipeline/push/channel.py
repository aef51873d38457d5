"""Which way pushes go, if any: HTTP to a server, or NATS where several servers listen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from pipeline.config import CollectorConfig
from pipeline.errors import ConfigError
from pipeline.push.push import Channel
from pipeline.push.push_http import http_channel


@asynccontextmanager
async def open_channel(config: CollectorConfig) -> AsyncIterator[Channel | None]:
    """The way that the settings name. It need not be there yet. Raises ``ConfigError``."""
    url = config.push or config.server
    if url is None:
        yield None
    elif url.startswith(("nats://", "tls://")):
        async with _nats_channel(url) as channel:
            yield channel
    else:
        async with http_channel(url, config.push_token) as channel:
            yield channel


def _nats_channel(url: str) -> AbstractAsyncContextManager[Channel]:
    try:
        from pipeline.push.push_nats import nats_channel
    except ImportError as exc:
        raise ConfigError("--push nats://… needs nats-py: pip install 'ray-history[nats]'") from exc
    return nats_channel(url)

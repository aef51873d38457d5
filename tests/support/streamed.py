"""What a request for a log is answered, as one piece, without a server."""

from __future__ import annotations

from api.groups import first_error
from api.live.live import Live
from api.logs.log_stream import Ended, LogStreams
from api.logs.logs import LogStore
from api.views.log_target import Place
from api.views.logs import LogOptions
from pipeline.layout import SessionKey


async def streamed(
    logs: LogStore, session: SessionKey, places: list[Place], asked: LogOptions, ended: Ended | None = None
) -> bytes:
    with first_error():
        async with LogStreams(logs, Live(1 << 20)) as streams:
            return b"".join([piece async for piece in streams.stream(session, places, asked, ended)])

"""``/live`` of a session: its events as they happen, as server-sent events.

kind, job, state, name, node    which events (``live_filter.py``)
Last-Event-ID (or last_event_id)  go on from there
since, speed                    play what was: from a time on, so many times faster (0: as fast as you read)
follow=0                        end with an ``end`` event once all is told that there is by then
"""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.routes.session import named, query_of, while_connected
from api.session.sessions import Sessions
from api.streams.event_stream import EventStream
from api.streams.hub import Hub
from api.streams.hubs import Hubs
from api.streams.live_filter import parse_filter
from api.streams.replay import Pace, parse_speed
from api.streams.stream import Stream, parse_follow, parse_since

NO_CONTENT = 204
"""What makes a browser stop asking."""


async def _live(request: Request) -> Response:
    query = query_of(request)
    asked = dict(reversed(query))
    chosen, since = parse_filter(query), parse_since(asked.get("since"))
    pace, follow = Pace(parse_speed(asked.get("speed"))), parse_follow(asked.get("follow"))
    last_id = request.headers.get("last-event-id") or asked.get("last_event_id") or None
    hubs: Hubs = request.app.state.hubs
    hub = await while_connected(request, partial(_join, request, hubs))
    stream = Stream(hubs, hub, chosen, last_id, since, pace, follow)
    leave = partial(hubs.leave, hub, stream.subscriber)
    if stream.over:
        leave()
        return Response(status_code=NO_CONTENT)
    return EventStream(stream.chunks(), stream.subscriber, leave, request.app.state.closing)


async def _join(request: Request, hubs: Hubs) -> Hub:
    sessions: Sessions = request.app.state.sessions
    return await hubs.join(await sessions.resolve(*named(request)))


SESSION_ROUTES = [Route("/live", _live)]
ROUTES = [Route("/api/v0/live", _live)]

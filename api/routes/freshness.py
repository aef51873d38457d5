"""How long an answer stays true: what is over doesn't change, so nobody has to fetch it twice.

The dashboard's pages ask again every few seconds, also about a cluster that ended last year. They obey the HTTP
cache, so answers about a session that is over may be kept for a minute and are then asked about by their ``ETag``
(304 costs the server neither a query nor a byte of answer). The tag is made of what the store holds of the
session, so it is the same from every server of this version, and another one when anything was added.

    a session that lives             no-store
    one that is over                 private, max-age=60, ETag
    the same at the root (cookie)    private, no-cache, ETag: the same address means another session tomorrow
      or by ``live``, ``latest``
"""

from __future__ import annotations

from hashlib import blake2b

from starlette.requests import Request
from starlette.responses import Response

from api.session.reader import SessionReader
from api.session.sessions import Sessions
from pipeline.ship.ship import VERSION
from pipeline.stores.catalog import new_metadata

MAX_AGE = 60
LIVE = "no-store"
OVER = f"private, max-age={MAX_AGE}"
ASK_AGAIN = "private, no-cache"
ALIASES = ("live", "latest")


def over_ms(request: Request, reader: SessionReader) -> int:
    """The last that was heard of a session that is over (in ms); 0 of one that lives.

    That is the newest record or the dashboard's last answer, but not after the end that its head's collector said, or
    else its collectors' last word: a record may say any time.
    """
    sessions: Sessions = request.app.state.sessions
    metadata, sealed_ms = reader.metadata or new_metadata(reader.key), reader.completeness.sealed_ms
    heard_ms, now_ms = max(sealed_ms, reader.snapshots.time_ms), request.app.state.overviews.now_ms()
    if sessions.live.liveness.status(metadata, heard_ms, now_ms) == "live":
        return 0
    latest = max(reader.last_ns // 1_000_000, reader.snapshots.time_ms)
    word = metadata.ended_ms or sealed_ms or latest
    return min(latest or word, word) or max(metadata.created_ms, 1)


def cache_headers(request: Request, reader: SessionReader, over: int, browser: bool) -> dict[str, str]:
    """What to say about keeping an answer to this request."""
    if not over:
        return {"Cache-Control": LIVE}
    session = request.path_params.get("session")
    named = session is not None and session not in ALIASES
    return {"Cache-Control": OVER if named else ASK_AGAIN, "ETag": _tag(request, reader, over, browser)}


def not_modified(request: Request, headers: dict[str, str]) -> Response | None:
    """304 where the client has just this answer."""
    tag = headers.get("ETag")
    asked = request.headers.get("if-none-match", "")
    if tag is None or request.method not in ("GET", "HEAD"):
        return None
    known = {each.strip().removeprefix("W/") for each in asked.split(",")}
    return Response(status_code=304, headers=headers) if known & {tag.removeprefix("W/"), "*"} else None


def _tag(request: Request, reader: SessionReader, over: int, browser: bool) -> str:
    """Weak: the same answer may be compressed or not."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    parts = (VERSION, reader.state_tag, over, browser, request.headers.get("accept", ""), path)
    text = "\n".join(map(str, parts)).encode(errors="replace") + b"\n" + request.scope["query_string"]
    return f'W/"{blake2b(text, digest_size=12).hexdigest()}"'

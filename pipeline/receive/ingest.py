"""Where Ray posts its events: ``POST /v1/events`` to the spool, fsync, 200.

Ray's sender waits 3 s, repeats for ever, and sends nothing else meanwhile, so an answer is 200 as soon
as the records are durable, bad ones included (they are kept aside and named in the log). What can't be
taken now is refused with 503 and a reason; Ray keeps it. Bounded: the bytes of one body, packed or not,
and of all bodies under way.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
import structlog
from anyio import to_thread
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pipeline.errors import Full
from pipeline.receive.post import split_post
from pipeline.receive.spool import AppendResult, Spool

BODY_SECONDS = 30.0
"""For a body to arrive; Ray's own patience is 3 s."""
MAX_MEMBERS = 16
"""Parts of one gzip body, each of which is looked for from its start."""
RETRY_AFTER = {"Retry-After": "5"}
NAMED = 20
"""Bad records of one post named one by one in the log; of more, their number."""

log = structlog.get_logger()


class Outcome(Struct, frozen=True):
    """What became of one post, for whoever counts: its status, its bytes unpacked, and what was stored."""

    status: int
    size: int = 0
    result: AppendResult | None = None


class Metrics(Struct, frozen=True):
    """What to answer at ``/metrics``, and whom to tell of each post."""

    render: Callable[[], tuple[bytes, str]]
    count: Callable[[Outcome], None] = lambda _: None


def ingest_app(
    spool: Spool,
    *,
    body_limit: int = 64 << 20,
    in_flight_limit: int | None = None,
    ready: Callable[[], str | None] = lambda: None,
    metrics: Metrics | None = None,
) -> Starlette:
    """The app.

    ``in_flight_limit`` bounds all bodies together (default: four of the largest; a packed one counts as the
    largest while it is unpacked). ``ready`` says why the collector isn't ready, or None.
    """
    limit = in_flight_limit or body_limit * 4
    posts = _Posts(spool, body_limit, limit, metrics.count if metrics else lambda _: None)
    routes = [
        Route("/v1/events", posts.take, methods=["POST"]),
        Route("/livez", _livez),
        Route("/readyz", _readyz(lambda: spool.full or ready())),
    ]
    if metrics is not None:
        routes.append(Route("/metrics", _metrics(metrics.render)))
    return Starlette(routes=routes)


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Budget:
    """Bytes in memory over all requests."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function to take bytes with; they are given back at the end. It raises where there are no more."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._left:
                raise _Refused(503, "too many bytes under way")
            self._left -= size
            taken += size

        try:
            yield take
        finally:
            self._left += taken


class _Posts:
    def __init__(self, spool: Spool, body_limit: int, in_flight_limit: int, count: Callable[[Outcome], None]) -> None:
        self._spool, self._body_limit, self._count = spool, body_limit, count
        self._budget = _Budget(in_flight_limit)

    async def take(self, request: Request) -> Response:
        size, result = 0, None
        try:
            with self._budget.share() as take:
                body = await self._body(request, take)
                size = len(body)
                result = await self._store(body)
            status, said = 200, _said(result)
        except _Refused as exc:
            status, said = exc.status, {"error": str(exc)}
        except Full as exc:
            status, said = 503, {"error": str(exc)}
        except ClientDisconnect:
            status, said = 400, {"error": "the sender went away"}
        if status != 200:
            log.warning("post refused", status=status, reason=said["error"])
        self._count(Outcome(status, size, result))
        return JSONResponse(said, status, headers=RETRY_AFTER if status == 503 else None)

    async def _store(self, body: bytes) -> AppendResult:
        post = await to_thread.run_sync(split_post, body)
        dropped = self._spool.quarantine_dropped
        result = await self._spool.append(post.records, post.bad)
        _name_bad(result)
        if self._spool.quarantine_dropped != dropped:
            log.error(
                "quarantine is full, its oldest files are deleted", deleted=self._spool.quarantine_dropped - dropped
            )
        return result

    async def _body(self, request: Request, take: Callable[[int], None]) -> bytes:
        packing = request.headers.get("content-encoding", "identity").strip().lower()
        if packing not in ("identity", "", "gzip"):
            raise _Refused(415, f"content encoding {packing[:40]!r} is not known: use gzip or none")
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self._body_limit:
            raise self._too_large()
        with anyio.move_on_after(BODY_SECONDS):
            body = await self._read(request, take)
            if packing != "gzip":
                return body
            take(self._body_limit)
            unpacked = await to_thread.run_sync(self._unpack, body)
            take(len(unpacked) - self._body_limit)
            return unpacked
        raise _Refused(408, f"the body did not arrive within {BODY_SECONDS:.0f} s")

    async def _read(self, request: Request, take: Callable[[int], None]) -> bytes:
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._body_limit:
                raise self._too_large()
            take(len(chunk))
            chunks.append(chunk)
        return b"".join(chunks)

    def _unpack(self, packed: bytes) -> bytes:
        """A gzip body; the packed bytes themselves where they aren't one, so that they are kept aside."""
        out, rest = bytearray(), packed
        for _ in range(MAX_MEMBERS):
            member = zlib.decompressobj(wbits=31)
            try:
                out += member.decompress(rest, self._body_limit + 1 - len(out))
            except zlib.error:
                return packed
            if len(out) > self._body_limit:
                raise self._too_large()
            if member.eof and not member.unused_data:
                return bytes(out)
            rest = member.unused_data
        return packed

    def _too_large(self) -> _Refused:
        return _Refused(413, f"a post may have {self._body_limit} bytes")


def _said(result: AppendResult) -> dict[str, object]:
    return {"accepted": result.accepted, "duplicates": result.duplicates, "quarantined": result.quarantined}


def _name_bad(result: AppendResult) -> None:
    for kept in result.kept[:NAMED]:
        bad = kept.record
        log.error("bad record kept aside", why=bad.why, detail=bad.detail, session=bad.session, file=kept.file)
    if len(result.kept) > NAMED:
        log.error("more bad records kept aside", count=len(result.kept) - NAMED, file=result.kept[-1].file)


async def _livez(_: Request) -> Response:
    return PlainTextResponse("ok")


def _readyz(reason: Callable[[], str | None]) -> Callable[[Request], Awaitable[Response]]:
    async def readyz(_: Request) -> Response:
        why = reason()
        return PlainTextResponse("ok") if why is None else PlainTextResponse(why, 503)

    return readyz


def _metrics(render: Callable[[], tuple[bytes, str]]) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(_: Request) -> Response:
        body, content_type = await to_thread.run_sync(render)
        return Response(body, headers={"Content-Type": content_type})

    return metrics

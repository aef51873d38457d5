"""What the pages show of sessions, worked out once: a summary for a line of the list, an overview for a page.

A summary costs a look at the whole session. So it is kept: in memory for as many sessions as a list may have, and
in the store beside the session (``snapshot/summary.json``), where the next server finds it. That object is derived:
it may be deleted at any time, is written on a best-effort basis after the answer has gone out, and read as hostile.

    find(key) ─▶ in memory and final? ─▶ in the store and final? ─▶ small enough, or asked to? ─▶ load and count

Sessions that nobody asks for are counted in the background (``backfill.py``). A page asks for those that it shows before
their turn has come; sessions over ``MAX_BYTES`` or ``MAX_SEGMENTS`` it loads only when someone asks for that one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

import anyio
import msgspec
import structlog
from msgspec import Struct, structs

from api.index.session_index import SessionIndex
from api.session.reader import SessionReader
from api.session.sessions import ENDED_AGE, Sessions
from api.status import LOST_AFTER_MS
from api.views.overview import Counts, Overview, counts, overview
from api.views.session_list import Ident, Summary
from api.views.undefined import undefined_attempts
from pipeline.errors import Denied, NotFound, StoreError
from pipeline.layout import SessionKey
from pipeline.stores.catalog import SessionMetadata, new_metadata

MAX_KNOWN = 100_000
MAX_OBJECT = 64 << 10
MAX_BYTES = 2 << 20  # compressed: some ten thousand attempts
MAX_SEGMENTS = 64
MAX_STATES = 64
PUT_TIMEOUT = 10.0
SKEW_MS = 60_000
"""A summary that may grow and is from further ahead than clocks differ is none: it would never be counted again."""
PUT_AGE_MS = 60_000
"""A growing session's summary is written again after this long."""
PICTURE_MS = 2000
"""A living session's picture goes on in steps of this."""
SILENT_MS = 24 * 3_600_000
"""After so long a silence nothing more is expected of a session without an end: an idle cluster seals nothing for hours."""
ZONES_MS = 26 * 3_600_000
"""So far the time in a session's name, of an unknown zone, may be from the true one."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Summary).decode
log = structlog.get_logger()


class Found(Struct, frozen=True):
    """``summary`` None: the session holds ``bytes`` (at least) and was not loaded for a line of a list."""

    summary: Summary | None
    bytes: int = 0


def wall_ms() -> int:
    """Now."""
    return int(time.time() * 1000)


class Overviews:
    """Summaries and overviews of one server's sessions."""

    def __init__(self, sessions: Sessions, now_ms: Callable[[], int] = wall_ms) -> None:
        self.now_ms = now_ms
        self._sessions = sessions
        self._known: OrderedDict[Ident, Summary] = OrderedDict()
        self.sizes: dict[Ident, int] = {}
        """Bytes in the store of sessions that are too large to be counted unasked."""
        self._put_ms: OrderedDict[SessionKey, int] = OrderedDict()
        self._pages: WeakKeyDictionary[SessionIndex, tuple[tuple[int, int, int], Overview]] = WeakKeyDictionary()
        self._may_put = True

    @property
    def known(self) -> OrderedDict[Ident, Summary]:
        """What is in memory, for a list."""
        return self._known

    def metadata(self, reader: SessionReader) -> SessionMetadata:
        """What is known of a session that is open, what was heard of it included."""
        live = self._sessions.live
        return live.liveness.of(reader.metadata or new_metadata(reader.key), live.now_ms())

    async def find(self, key: SessionKey, load: bool) -> Found:
        """A session's summary. ``load``: whatever its size. Raises what ``Sessions.open`` raises."""
        known = self._known.get(_ident(key))
        if known is None and not self._sessions.loaded(key):
            known = await self.stored(key)
        if known is not None and known.final and not self._speaks(key):
            return Found(known)
        if not load and not self._sessions.loaded(key) and (size := await self._too_large(key)):
            return Found(known, size)
        return Found(await self.summary(await self._sessions.open(key)))

    async def summary(self, reader: SessionReader) -> Summary:
        """The summary of a session that is open, counted now."""
        return await self.remember(reader, await reader.query(counts))

    async def overview(self, reader: SessionReader, bins: int) -> tuple[Overview, Summary]:
        """A page of a session that is open, worked out once for all who look at the same records."""

        def question(index: SessionIndex) -> Overview:
            of = index.version, bins, self._until_ms(reader)
            known, made = self._pages.get(index, (None, None))
            if made is None or known != of:
                made = overview(index, bins, of[2] * 1_000_000)
                self._pages[index] = of, made
            return made

        made = await reader.query(question)
        return made, await self.remember(reader, made.counts)

    async def keep(self, key: SessionKey) -> None:
        """Put the summary into the store, if that is worth it and allowed. Never raises what a store may raise."""
        known = self._known.get(_ident(key))
        if known is None or not self._may_put or not self._worth_a_put(key, known):
            return
        self._put_ms[key] = known.as_of_ms
        self._put_ms.move_to_end(key)
        while len(self._put_ms) > MAX_KNOWN:
            self._put_ms.popitem(last=False)
        try:
            with anyio.move_on_after(PUT_TIMEOUT):
                await self._sessions.store.put(key.summary, _encode(known))
        except Denied as exc:
            self._may_put = False
            log.info("summaries are not kept: the store may only be read", reason=str(exc))
        except StoreError as exc:
            log.info("summary not kept", session=str(key), reason=str(exc))

    def _worth_a_put(self, key: SessionKey, known: Summary) -> bool:
        last = self._put_ms.get(key)
        if last is None:
            return True
        return last != known.as_of_ms and (known.final or known.as_of_ms - last >= PUT_AGE_MS)

    async def stored(self, key: SessionKey) -> Summary | None:
        """What the store has, noted unless more is known. Raises ``StoreError``."""
        try:
            data = await self._sessions.store.get(key.summary, end=MAX_OBJECT + 1)
        except NotFound:
            return None
        summary = parse_summary(data)
        if summary is None or (not summary.final and summary.as_of_ms > self.now_ms() + SKEW_MS):
            log.info("summary ignored", session=str(key), reason="not a summary")
            return None
        known = self._known.get(_ident(key))
        if known is not None and known.as_of_ms >= summary.as_of_ms:
            return known
        self._put_ms[key] = summary.as_of_ms
        return self._note(key, summary)

    def confirm(self, metadata: SessionMetadata, known: Summary) -> Summary:
        """Note that what was counted is still all that the store has."""
        now_ms = self.now_ms()
        final = not self._speaks(metadata.key) and _is_final(metadata, known.heard_ms, now_ms)
        return self._note(metadata.key, structs.replace(known, as_of_ms=now_ms, final=final))

    async def _too_large(self, key: SessionKey) -> int:
        """Its bytes where it is too large to load for a line, otherwise 0."""
        found = await self._sessions.store.list(key.events, limit=MAX_SEGMENTS + 1)
        size = sum(info.size for info in found)
        return size if size > MAX_BYTES or len(found) > MAX_SEGMENTS else 0

    async def warning(self, reader: SessionReader) -> str:
        """What a session that is open lacks, attempts that nobody defined included; empty where nothing is known to."""
        undefined = await reader.query(partial(undefined_attempts, now_ms=self.now_ms()))
        return reader.completeness.warning(undefined)

    async def remember(self, reader: SessionReader, counted: Counts) -> Summary:
        """Note what was counted of a session that is open."""
        now_ms, warning = self.now_ms(), await self.warning(reader)
        heard_ms = reader.completeness.sealed_ms or counted.last_ms
        summary = Summary(
            counts=counted,
            records=reader.completeness.records,
            complete=not warning,
            heard_ms=heard_ms,
            as_of_ms=now_ms,
            final=not self._speaks(reader.key)
            and _is_final(reader.metadata or new_metadata(reader.key), heard_ms, now_ms),
        )
        return self._note(reader.key, summary)

    def _note(self, key: SessionKey, summary: Summary) -> Summary:
        name = _ident(key)
        self._known[name] = summary
        self._known.move_to_end(name)
        self.sizes.pop(name, None)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return summary

    def _speaks(self, key: SessionKey) -> bool:
        """Whether it lives, by push, whatever was said of an end and however long it has had nothing to store."""
        live = self._sessions.live
        return bool(live.liveness.present(key, live.now_ms()))

    def _until_ms(self, reader: SessionReader) -> int:
        """Up to when what hasn't ended went on: until now (about) in one that is heard, 0 in one that is over."""
        now_ms, sealed_ms = self.now_ms(), reader.completeness.sealed_ms
        if self._speaks(reader.key):
            return now_ms - now_ms % PICTURE_MS
        ended = reader.metadata is not None and reader.metadata.ended_ms is not None
        return sealed_ms if not ended and now_ms - sealed_ms < LOST_AFTER_MS else 0


def parse_summary(data: bytes) -> Summary | None:
    """None for anything that isn't a summary as this program writes it."""
    if len(data) > MAX_OBJECT:
        return None
    try:
        summary = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    known = summary.counts
    tallies = (known.tasks, known.actors, known.jobs, known.nodes)
    numbers = [known.first_ms, known.last_ms, summary.records, summary.heard_ms, summary.as_of_ms]
    numbers += [number for tally in tallies for number in tally.values()]
    sane = all(len(tally) <= MAX_STATES for tally in tallies) and all(0 <= number < 1 << 53 for number in numbers)
    return summary if sane and summary.format == 1 else None


def _is_final(metadata: SessionMetadata, heard_ms: int, now_ms: int) -> bool:
    if metadata.ended_ms is not None:
        return now_ms - max(metadata.ended_ms, heard_ms) > ENDED_AGE * 1000
    if not heard_ms:  # it has only just begun, or never got further
        return bool(metadata.created_ms) and now_ms - metadata.created_ms > ZONES_MS + SILENT_MS
    return now_ms - heard_ms > SILENT_MS


def _ident(key: SessionKey) -> Ident:
    return key.namespace, key.cluster, key.session

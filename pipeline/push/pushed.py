"""What a collector tells a server as it happens: a segment's form before there is a segment. Pure.

    zstd of    {header of a segment, seq 0, reason "push", and these:  word, role, polled, ended_ms}
               the records, byte for byte as the segment will have them

A push is one of six words, each a whole message of its own:

    hello    a collector begins, or begins again: the answer says how far the server has come
    batch    records, as soon as they were read
    sealed   segment ``seq`` with these ``sources`` is in the store; no records
    alive    nothing new, but somebody is there
    log      bytes of plain logs that somebody follows, as the answer before asked for them; no records, and nothing
             that is counted as stored: the same bytes come in a chunk of their log, sooner or later
    bye      nothing more comes; ``ended_ms`` where the session is over

``seq`` of a hello, a batch or an alive is that of the last sealed segment (0: none), so a server knows when to look
at the store. Every message comes from outside: ``read_head`` and ``unpack_push`` check all of it and bound what they
unpack, whatever was sent.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec
import zstandard
from msgspec import Struct, field

from pipeline.errors import BadKey, BadPush
from pipeline.layout import SessionKey, part
from pipeline.segments.segment import FORMAT, Header, Span

MAX_BODY = 16 << 20
"""Bytes of records in one push: twice the longest line."""
MAX_HEADER = 256 << 10
MAX_UNPACKED = MAX_BODY + MAX_HEADER
MAX_PACKED = MAX_UNPACKED + (64 << 10)
"""Bytes of a message: records that can't be made smaller become a little larger."""
MAX_SPANS = 1000
MAX_LOGS = 100
"""Logs of one session that are followed at once; of more, what is in the store is shown as it comes there."""
MAX_LOG_BODY = 1 << 20
MAX_OFFSET = 1 << 53
MAX_GENERATION = 1_000_000
MAX_MS = 253_402_300_799_999
"""The last millisecond that has a date."""
MEDIA_TYPE = "application/zstd"
LEVEL = 1
_WINDOW = 1 << 23
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@=+~/-]{0,510}")
_LOG = re.compile(r"[A-Za-z0-9%][A-Za-z0-9._@=+~%-]*(?:/[A-Za-z0-9%][A-Za-z0-9._@=+~%-]*)*")
_LOG_LENGTH = 1024

Word = Literal["hello", "batch", "sealed", "alive", "log", "bye"]


class LogId(Struct, frozen=True):
    """One life of a file, as ``logfiles.py`` tells them apart: where it is stored, encoded."""

    path: str
    generation: int = 0


class LogSpan(Struct, frozen=True):
    """The bytes ``[start, end)`` of a log. ``then``: nothing comes behind them, its name is another log's by now.

    ``tail`` is a checksum of the last bytes before ``end`` (``source.tail_checksum``), which whoever asks for more says again.
    ``checked``: nothing stood behind ``end`` when it was looked at for the question of that number.
    """

    log: LogId
    start: int
    end: int
    tail: int = 0
    checked: int = 0
    then: LogId | None = None


class LogAsk(Struct, frozen=True):
    """What somebody lacks: the bytes from ``start`` on of the log that was found under ``name``, and what comes under that name after it.

    ``tail`` as in ``LogSpan``, where the bytes before ``start`` were pushed; else 0. ``check``: the number of a question
    whether that is all of it; 0: nobody asks.
    """

    name: str
    log: LogId
    start: int
    tail: int = 0
    check: int = 0


class Push(Header, frozen=True, omit_defaults=False, kw_only=True):
    """The first line of a push. ``writer`` is one run of a collector for one session.

    ``polled``: how many answers of the dashboard it has put into the store: where that is more than before, some are new.
    """

    word: Word = "batch"
    role: Literal["head", "worker"] = "worker"
    polled: int = 0
    ended_ms: int | None = None
    logs: list[LogSpan] = field(default_factory=list)

    @property
    def carries(self) -> int:
        """Bytes that stand behind the header."""
        if self.word == "log":
            return sum(span.end - span.start for span in self.logs)
        return self.body_length if self.word == "batch" else 0

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.namespace, self.cluster, self.session)


class Answer(Struct, frozen=True, omit_defaults=True):
    """What a server says to a push.

    ``cursor``: where each source ends that it holds beyond the sealed segments (all of them after a hello, else those
    of the push). ``again``: it doesn't know this collector, nothing was taken, say hello. ``seal``: it lacks what
    only a segment can bring: close one now. ``watched``: somebody waits for what comes next. ``logs``: of which logs, and
    from where on; all of them, each time. ``within``: seconds after which another word is welcome, though nothing is new.
    """

    cursor: dict[str, int] = {}
    again: bool = False
    seal: bool = False
    watched: bool = False
    logs: list[LogAsk] = []
    within: float = 0.0


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Push)
encode_answer = msgspec.json.Encoder().encode
decode_answer = msgspec.json.Decoder(Answer).decode


def pack_push(push: Push, chunks: list[bytes]) -> bytes:
    """One message. Raises ``BadPush`` where header and records don't agree."""
    body = b"".join(chunks)
    if len(body) != push.carries:
        raise BadPush(f"{len(body)} bytes of records, the header says {push.carries}")
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(_encode(push) + b"\n" + body)


def read_head(data: bytes) -> Push:
    """The header of a message, checked. Raises ``BadPush``; unpacks no more than the header."""
    _check_frame(data)
    try:
        with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(data) as stream:
            return _decode(stream.read(MAX_HEADER))
    except zstandard.ZstdError as exc:
        raise BadPush(f"not zstd: {exc}") from exc


def unpack_push(data: bytes) -> tuple[Push, memoryview]:
    """The header and the records of a message. Raises ``BadPush``."""
    _check_frame(data)
    try:
        text = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompress(data, max_output_size=MAX_UNPACKED)
    except zstandard.ZstdError as exc:
        raise BadPush(f"not a whole zstd frame: {exc}") from exc
    push = _decode(text[:MAX_HEADER])
    body = memoryview(text)[text.index(b"\n") + 1 :]
    if len(body) != push.carries:
        raise BadPush(f"{len(body)} bytes of records, the header says {push.carries}")
    return push, body


def _check_frame(data: bytes) -> None:
    try:
        params = zstandard.get_frame_parameters(data)
    except zstandard.ZstdError as exc:
        raise BadPush(f"not zstd: {exc}") from exc
    if not 0 < params.content_size <= MAX_UNPACKED:
        raise BadPush(f"{params.content_size} bytes unpacked, the limit is {MAX_UNPACKED}")


def _decode(text: bytes) -> Push:
    line, newline, _ = text.partition(b"\n")
    if not newline:
        raise BadPush(f"no header line within {MAX_HEADER} bytes")
    try:
        push = _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise BadPush(f"bad header: {exc}") from exc
    _check(push)
    return push


def _check(push: Push) -> None:
    if push.format != FORMAT:
        raise BadPush(f"format {push.format} is newer than this program knows ({FORMAT}): upgrade it")
    try:
        SessionKey(push.namespace, push.cluster, push.session)
        part(push.node)
    except BadKey as exc:
        raise BadPush(str(exc)) from exc
    if len(push.sources) > MAX_SPANS or len(push.gaps) > MAX_SPANS:
        raise BadPush(f"more than {MAX_SPANS} sources or gaps")
    if not 0 <= push.seq < MAX_OFFSET or not 0 <= push.polled < MAX_OFFSET:
        raise BadPush("seq or polled out of range")
    if not 0 <= (push.ended_ms or 0) <= MAX_MS or len(push.writer) > 100:
        raise BadPush("ended_ms or writer out of range")
    ends: dict[str, int] = {}
    for span in push.sources:
        _check_span(span, ends.get(span.source, 0))
        ends[span.source] = span.end
    if push.word == "batch" and push.body_length > MAX_BODY:
        raise BadPush(f"{push.body_length} bytes of records, the limit is {MAX_BODY}")
    _check_logs(push)


def _check_logs(push: Push) -> None:
    if len(push.logs) > MAX_LOGS:
        raise BadPush(f"more than {MAX_LOGS} logs")
    for span in push.logs:
        for each in (span.log, span.then):
            if each is not None and not _is_log(each):
                raise BadPush(f"not a log: {each.path[:80]!r}")
        if not 0 <= span.start <= span.end < MAX_OFFSET or not 0 <= span.tail < 1 << 32 or span.checked < 0:
            raise BadPush(f"{span.log.path}: [{span.start}, {span.end}) is no range")
    if push.word == "log" and push.carries > MAX_LOG_BODY:
        raise BadPush(f"{push.carries} bytes of logs, the limit is {MAX_LOG_BODY}")


def _is_log(log: LogId) -> bool:
    path = log.path
    whole = len(path) <= _LOG_LENGTH and ".." not in path and _LOG.fullmatch(path) is not None
    return whole and 0 <= log.generation < MAX_GENERATION


def _check_span(span: Span, after: int) -> None:
    if _SOURCE.fullmatch(span.source) is None or ".." in span.source:
        raise BadPush(f"not a source: {span.source[:80]!r}")
    if not after <= span.start <= span.end < MAX_OFFSET:
        raise BadPush(f"{span.source}: [{span.start}, {span.end}) is no range, or not after the one before")

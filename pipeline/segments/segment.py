"""The stored format: one zstd file, a JSON header line, then the records byte for byte as Ray wrote them.

    zstd -dc 000000000007.jsonl.zst | head -1 | jq     the header
    zstd -dc 000000000007.jsonl.zst | tail -n +2       the records

The body is exactly the concatenation of ``source[start:end]`` over ``header.sources`` in order, so a
record's identity (source, byte offset) is known without storing it. Pure: no file, no clock, no store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import zstandard
from msgspec import Struct

from pipeline.errors import BadSegment

FORMAT = 1
MAX_BODY = 1 << 30  # uncompressed; a hostile object can't make a reader allocate more

Dialect = Literal["ray_event", "export_api", "log_event"]
CloseReason = Literal["full", "age", "idle", "shutdown", "asked", "push"]


class Span(Struct, frozen=True):
    """The bytes ``[start, end)`` of one source, and how many lines they are.

    ``tail`` is a checksum of the last bytes before ``end``: it tells a resuming collector that the file it
    finds is the one that was read (``source.tail_checksum``).
    """

    source: str
    dialect: Dialect
    start: int
    end: int
    records: int
    tail: int = 0

    @property
    def length(self) -> int:
        return self.end - self.start


class Header(Struct, frozen=True, omit_defaults=False):
    """The first line of a segment. Times in ns since the epoch, 0 where no record carried one."""

    namespace: str
    cluster: str
    session: str
    node: str
    seq: int
    sources: list[Span]
    min_time_ns: int = 0
    max_time_ns: int = 0
    created_ns: int = 0
    reason: CloseReason = "full"
    writer: str = ""
    version: str = ""
    gaps: list[dict[str, Any]] = []
    format: int = FORMAT

    @property
    def records(self) -> int:
        return sum(span.records for span in self.sources)

    @property
    def body_length(self) -> int:
        return sum(span.length for span in self.sources)


_header_encoder = msgspec.json.Encoder()
_header_decoder = msgspec.json.Decoder(Header)


def pack(header: Header, chunks: list[bytes], *, level: int = 3) -> bytes:
    """Compress a segment. ``chunks`` is the body in the order of ``header.sources``; raises ``BadSegment`` if it isn't as long as they say."""
    length = sum(map(len, chunks))
    if length != header.body_length:
        raise BadSegment(f"body is {length} bytes, the header says {header.body_length}")
    first = _header_encoder.encode(header) + b"\n"
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj(size=len(first) + length)
    parts = [compressor.compress(first)]
    parts.extend(compressor.compress(chunk) for chunk in chunks)
    parts.append(compressor.flush())
    return b"".join(parts)


def read_header(data: bytes) -> Header:
    """The header alone, from the first bytes of a segment (64 KiB do for all but the widest ones).

    Raises ``BadSegment``; a header cut off by too short ``data`` raises ``TruncatedHeader``, so fetch more.
    """
    out = bytearray()
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    for start in range(0, len(data), 16384):
        try:
            out += decompressor.decompress(data[start : start + 16384])
        except zstandard.ZstdError as exc:
            raise BadSegment(f"not a zstd file: {exc}") from exc
        end = out.find(b"\n")
        if end >= 0:
            return _decode_header(bytes(out[:end]))
        if len(out) > MAX_BODY:
            break
    raise TruncatedHeader(f"no header line in the first {len(data)} bytes")


class TruncatedHeader(BadSegment):
    """The bytes given end before the header does."""


class BodyTooLarge(BadSegment):
    """The body is over the limit that was given."""


def unpack(data: bytes, limit: int = MAX_BODY) -> tuple[Header, memoryview]:
    """The header and the whole body of a segment. Raises ``BadSegment`` for anything that doesn't hold together,
    ``BodyTooLarge`` before more than ``limit`` bytes are unpacked."""
    try:
        params = zstandard.get_frame_parameters(data)
        if params.content_size > limit:
            raise BodyTooLarge(f"body of {params.content_size} bytes is over the limit of {limit}")
        text = zstandard.ZstdDecompressor().decompress(data, max_output_size=limit)
    except zstandard.ZstdError as exc:
        raise BadSegment(f"not a whole zstd file: {exc}") from exc
    end = text.find(b"\n")
    if end < 0:
        raise BadSegment("no header line")
    header = _decode_header(text[:end])
    body = memoryview(text)[end + 1 :]
    if len(body) != header.body_length:
        raise BadSegment(f"body is {len(body)} bytes, the header says {header.body_length}")
    return header, body


def runs(header: Header, body: memoryview) -> Iterator[tuple[Span, memoryview]]:
    """Each source's span with its bytes."""
    at = 0
    for span in header.sources:
        yield span, body[at : at + span.length]
        at += span.length


def _decode_header(line: bytes) -> Header:
    try:
        header = _header_decoder.decode(line)
    except msgspec.DecodeError as exc:
        raise BadSegment(f"bad header: {exc}") from exc
    if header.format != FORMAT:
        raise BadSegment(f"format {header.format} is newer than this program knows ({FORMAT}): upgrade it")
    if any(span.start < 0 or span.end < span.start for span in header.sources):
        raise BadSegment("a span ends before it starts")
    return header

"""How a node's plain logs are stored: names, chunks, and the list of files. Pure.

    {session}/logs/{node}/{path}/{offset:016d}.zst                       a chunk of a log file
    {session}/logs/{node}/{path}/{generation:06d}.{offset:016d}.zst      of one that began again under that path
    {session}/logs/{node}/_files.json.zst                                which files there are

A *log* is one life of one file: what was written from its creation to its deletion or truncation, whatever
names it had. It is stored under the path at which it was first seen and a generation, 0 unless an earlier
log had that path. Its chunks follow on one another from offset 0; each is one zstd frame that says how long
its content is, so ``zstd -dc {path}/*.zst`` is the file.

The list of files says what each log is called now. So after a rotation ``raylet.out`` and ``raylet.out.1``
show what they show on the live node, and no byte was stored twice. What no name leads to any more (a
truncated file's earlier content, a deleted file whose name was taken) is ``{path}~{generation}``.

The list can be rebuilt from the keys, but for empty files, folders, and renames. Paths are kept
readable: a byte that can't stand in a key is ``%XX``; a path too long for a key is ``%-`` and a hash, and
then only the list knows its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

import msgspec
import zstandard
from msgspec import Struct

from pipeline.errors import FormatError
from pipeline.layout import SessionKey, part
from pipeline.stores.store import MAX_KEY

FORMAT = 1
FRAME_HEADER = 18
"""Bytes of a chunk that are enough to know its length."""
MAX_CHUNK = 64 << 20
"""Uncompressed bytes of the largest chunk that is read; ours are far smaller."""
MAX_LIST = 256 << 20
HEAD = 1024
"""Bytes at the beginning of a log by which it is known again."""

_PATH_LIMIT = 700
_CHUNK_NAME = 32  # characters of a chunk's name, and some to spare
_PART_LIMIT = 255
_DEPTH_LIMIT = 48
_CHUNK = re.compile(r"(?:(\d{6})\.)?(\d{16})\.zst")
_UNSAFE = re.compile(rb"^[^A-Za-z0-9]|(?<=\.)\.|[^A-Za-z0-9._@=+~-]")
_ESCAPED = re.compile(rb"%([0-9A-F]{2})")


class BadLog(FormatError):
    """An object that isn't the chunk or the list that its place says it is."""


def encode_path(parts: Iterable[str], limit: int = _PATH_LIMIT) -> str:
    """A file's path below the logs folder (its parts, as ``os`` gives them) as a part of a key. ``decode_path`` undoes it.

    Of more than ``limit`` characters it is a hash, which nothing undoes.
    """
    raw = [name.encode(errors="surrogateescape") for name in parts]
    names = [_encode_name(name) for name in raw]
    path = "/".join(names)
    if len(path) > limit or len(names) > _DEPTH_LIMIT or any(len(name) > _PART_LIMIT for name in names):
        return "%-" + blake2b(b"/".join(raw), digest_size=16).hexdigest()
    return path


@lru_cache(maxsize=1 << 16)  # the same names come with every scan
def _encode_name(name: bytes) -> str:
    if _CHUNK.fullmatch(name.decode("latin-1")):  # must not look like a chunk of the folder it is in
        return f"%{name[0]:02X}{name[1:].decode('latin-1')}"
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], name).decode("ascii")


def decode_path(path: str) -> str:
    """The path that a person knows; where it isn't valid UTF-8 (or only its hash is known) the encoded one."""
    try:
        return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), path.encode()).decode()
    except UnicodeDecodeError:
        return path


class LogKeys(Struct, frozen=True):
    """Where one node's logs stand."""

    session: SessionKey
    node: str

    @property
    def prefix(self) -> str:
        return f"{self.session.root}logs/{part(self.node)}/"

    @property
    def path_limit(self) -> int:
        """Characters that a path may have without its keys growing longer than a store takes."""
        return min(_PATH_LIMIT, MAX_KEY - len(self.prefix) - _CHUNK_NAME)

    @property
    def list(self) -> str:
        return f"{self.prefix}_files.json.zst"

    def log(self, path: str) -> str:
        return f"{self.prefix}{path}/"

    def chunk(self, path: str, generation: int, offset: int) -> str:
        return f"{self.log(path)}{f'{generation:06d}.' if generation else ''}{offset:016d}.zst"

    def parse(self, key: str) -> ChunkName | None:
        """What a key says, or None where it isn't a chunk's (anyone may write into a bucket)."""
        path, slash, name = key.removeprefix(self.prefix).rpartition("/")
        found = _CHUNK.fullmatch(name)
        if not key.startswith(self.prefix) or not slash or not path or found is None:
            return None
        return ChunkName(path, int(found[1] or 0), int(found[2]))


class ChunkName(Struct, frozen=True):
    """A chunk's log and the offset of its first byte."""

    path: str
    generation: int
    offset: int


class LogEntry(Struct, omit_defaults=True):
    """One log. ``name`` is where it lies now, encoded; empty where that is ``path``.

    ``head`` is a digest of its first ``head_length`` bytes, ``last`` and ``digest`` the offset of the last chunk
    and a digest of what was stored in it: by these a collector that comes later knows the file again.
    """

    path: str
    generation: int = 0
    name: str = ""
    gone: bool = False
    size: int = 0
    end: int = 0
    mtime_ms: int = 0
    device: int = 0
    inode: int = 0
    head: str = ""
    head_length: int = 0
    last: int = 0
    digest: str = ""

    @property
    def place(self) -> str:
        return self.name or self.path


class RecordEntry(Struct):
    """A file whose lines travel as records: its encoded path, and the source id it has in segments (``source.py``)."""

    name: str
    source: str = ""
    size: int = 0


class LogList(Struct, omit_defaults=True):
    """All files of one node. ``root`` is the folder that they are in on the node."""

    root: str = ""
    updated_ms: int = 0
    folders: list[str] = []
    files: list[LogEntry] = []
    records: list[RecordEntry] = []
    format: int = FORMAT

    def names(self) -> dict[str, LogEntry]:
        """What each name stands for: files as the node shows them (or showed them last), then ``{path}~{generation}``."""
        shown: dict[str, LogEntry] = {}
        rest: list[LogEntry] = []
        for entry in sorted(self.files, key=lambda e: (e.gone, -e.mtime_ms, -e.generation)):
            name = decode_path(entry.place)
            if name in shown:
                rest.append(entry)
            else:
                shown[name] = entry
        for entry in rest:
            shown.setdefault(f"{decode_path(entry.path)}~{entry.generation}", entry)
        return shown


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(LogList)


def pack_list(files: LogList) -> bytes:
    return zstandard.compress(_encoder.encode(files), 3)


def unpack_list(data: bytes) -> LogList:
    """Raises ``BadLog``."""
    try:
        found = _decoder.decode(_decompress(data, MAX_LIST))
    except msgspec.DecodeError as exc:
        raise BadLog(f"not a list of log files: {exc}") from exc
    if found.format != FORMAT:
        raise BadLog(f"list of log files in format {found.format}, newer than this program knows: upgrade it")
    return found


def pack_chunk(content: bytes, level: int = 3) -> bytes:
    return zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True).compress(content)


def chunk_length(head: bytes) -> int:
    """The length of a chunk's content, from its first ``FRAME_HEADER`` bytes. Raises ``BadLog``."""
    try:
        size = zstandard.get_frame_parameters(head).content_size
    except zstandard.ZstdError as exc:
        raise BadLog(f"not a chunk of a log: {exc}") from exc
    if not 0 < size <= MAX_CHUNK:
        raise BadLog(f"a chunk of {size} bytes")
    return int(size)


def unpack_chunk(data: bytes) -> bytes:
    """A chunk's content. Raises ``BadLog``."""
    chunk_length(data[:FRAME_HEADER])
    return _decompress(data, MAX_CHUNK)


def _decompress(data: bytes, limit: int) -> bytes:
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size > limit:
            raise BadLog(f"{size} bytes are over the limit of {limit}")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=limit)
    except zstandard.ZstdError as exc:
        raise BadLog(f"not a whole zstd frame: {exc}") from exc


def digest(content: bytes) -> str:
    return blake2b(content, digest_size=8).hexdigest()


def rebuilt(chunks: Iterable[ChunkName]) -> LogList:
    """The list as far as the keys tell: of each path the newest generation has its name."""
    newest: dict[str, int] = {}
    logs: dict[tuple[str, int], LogEntry] = {}
    for chunk in chunks:
        newest[chunk.path] = max(newest.get(chunk.path, 0), chunk.generation)
        entry = logs.setdefault((chunk.path, chunk.generation), LogEntry(chunk.path, chunk.generation))
        entry.end = max(entry.end, chunk.offset)
    for (path, generation), entry in logs.items():
        entry.gone = generation != newest[path]
    return LogList(files=list(logs.values()))

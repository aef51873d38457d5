"""What stands in a store, record by record, held to the one rule: no byte of a source twice, none left out.

``stored_records`` reads every segment of a session and fails the test where two segments overlap, where
one leaves a hole that no header declares, or where a header doesn't describe its body.
"""

from __future__ import annotations

from pathlib import Path

import zstandard

from pipeline.layout import SessionKey, segment_seq
from pipeline.read.source import tail_checksum
from pipeline.segments.cursor import declared
from pipeline.segments.segment import Header, runs, unpack
from pipeline.stores.store import ObjectStore

Record = tuple[str, str, int, bytes]


async def stored_segments(store: ObjectStore, key: SessionKey) -> list[tuple[Header, bytes]]:
    """Every segment of a session with its body, node by node in the order of their numbers."""
    found = []
    for info in await store.list(key.events):
        node = info.key.removeprefix(key.events).split("/")[0]
        header, body = unpack(await store.get(info.key))
        assert (header.namespace, header.cluster, header.session) == (key.namespace, key.cluster, key.session), info.key
        assert (header.node, header.seq) == (node, segment_seq(info.key)), info.key
        found.append((header, bytes(body)))
    return found


async def stored_records(store: ObjectStore, key: SessionKey) -> list[Record]:
    """(node, source, offset, line) of every record of a session, node by node, source by source, in order."""
    ends: dict[tuple[str, str], int] = {}
    numbers: dict[str, int] = {}
    found: list[Record] = []
    for header, body in await stored_segments(store, key):
        assert header.seq == numbers.get(header.node, 0) + 1, f"{header.node}: segment {header.seq} leaves out a number"
        numbers[header.node] = header.seq
        for span, run in runs(header, memoryview(body)):
            data = bytes(run)
            where = (header.node, span.source)
            at = ends.get(where, 0)
            assert span.start >= at, f"{where}: segment {header.seq} has {span.start}..{at} a second time"
            assert span.start == at or declared(header.gaps, span, at), f"{where}: nobody has {at}..{span.start}"
            lines = _lines(data)
            records = sum(not line.isspace() for line in lines)
            assert records == span.records, f"{where}: {records} records, the header says {span.records}"
            if span.length >= 256 and b"env_vars" not in data[-4096:]:  # it is taken before secrets are masked
                assert span.tail == tail_checksum(data), f"{where}: wrong tail checksum"
            offset = span.start
            for line in lines:
                found.append((header.node, span.source, offset, line))
                offset += len(line)
            ends[where] = span.end
    return sorted(found)


async def stored_lines(store: ObjectStore, key: SessionKey) -> list[bytes]:
    """The lines alone."""
    return [line for _, _, _, line in await stored_records(store, key)]


def objects_with(folder: Path, text: bytes) -> list[Path]:
    """The objects of a store in a folder that hold ``text``, packed or not."""
    objects = [file for file in folder.rglob("*") if file.is_file()]
    assert objects, f"nothing is stored in {folder}"
    return [file for file in objects if text in _unpacked(file)]


def _unpacked(file: Path) -> bytes:
    data = file.read_bytes()
    return zstandard.ZstdDecompressor().stream_reader(data).readall() if file.suffix == ".zst" else data


def _lines(data: bytes) -> list[bytes]:
    assert not data or data.endswith(b"\n"), "a run ends in the middle of a line"
    return [line + b"\n" for line in data.split(b"\n")[:-1]]

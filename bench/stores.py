"""Where a benchmark keeps its history: a folder, or a bucket on a SeaweedFS of its own; and how to look into it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.processes import on_disk, on_s3
from support.s3server import S3Server
from support.seaweed import seaweed

from pipeline.layout import segment_seq
from pipeline.segments.segment import TruncatedHeader, read_header

FIRST = 1 << 16


class Place(ABC):
    """A store as a command is told of it, counted from outside. Objects never change, so each is read once."""

    options: list[str]
    environment: dict[str, str]

    def __init__(self) -> None:
        self._records: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def records(self) -> int:
        """How many records the segments' headers say there are."""
        for key, size in self._listed():
            if segment_seq(key) is not None and key not in self._records:
                self._records[key] = self._count(key)
                self._sizes[key] = size
        return sum(self._records.values())

    def size(self) -> int:
        return sum(self._sizes.values())

    def segments(self) -> int:
        return len(self._records)

    def _count(self, key: str) -> int:
        length = FIRST
        while True:
            try:
                return read_header(self._start(key, length)).records
            except TruncatedHeader:
                length *= 8

    @abstractmethod
    def _listed(self) -> Iterator[tuple[str, int]]: ...

    @abstractmethod
    def _start(self, key: str, length: int) -> bytes: ...


class Folder(Place):
    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self.options = on_disk(root)
        self.environment = {}

    def _listed(self) -> Iterator[tuple[str, int]]:
        for path in self._root.rglob("*.jsonl.zst"):
            yield str(path.relative_to(self._root)), path.stat().st_size

    def _start(self, key: str, length: int) -> bytes:
        with (self._root / key).open("rb") as file:
            return file.read(length)


class Bucket(Place):
    def __init__(self, server: S3Server) -> None:
        super().__init__()
        self._bucket = server.new_bucket()
        self._client: Any = server.client()
        self.options = on_s3(server, self._bucket)
        self.environment = server.environment()

    def _listed(self) -> Iterator[tuple[str, int]]:
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket):
            for found in page.get("Contents", []):
                yield found["Key"], found["Size"]

    def _start(self, key: str, length: int) -> bytes:
        answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=0-{length - 1}")
        body: bytes = answer["Body"].read()
        return body


@contextmanager
def place(kind: str, folder: Path) -> Iterator[Place]:
    """A new, empty store: ``file`` or ``s3``."""
    if kind == "file":
        yield Folder(folder / "store")
        return
    with seaweed() as server:
        yield Bucket(server)

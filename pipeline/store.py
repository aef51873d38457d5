"""The object store: the protocol all else is written against, in memory and on a local disk.

``s3.py`` has the third one. All three pass the same contract suite (``tests/contract``).
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class ObjectInfo(Struct, frozen=True):
    """What a listing says of an object: its key (relative to the root), size in bytes, and entity tag."""

    key: str
    size: int
    etag: str


class Listing(Struct, frozen=True):
    """One level below a prefix: the objects there, and the common prefixes (each ends in ``/``)."""

    objects: list[ObjectInfo]
    prefixes: list[str]


class ObjectStore(Protocol):
    """Objects by key below one root.

    A put is atomic: readers see the whole object or none. What a put returned from is durable and is
    seen by every later get and list. Every method raises only ``StoreError``s (see ``errors.py``), and
    every one may be tried again. Keys use ``/``; no key can lead outside the root (``BadKey``).
    """

    @property
    def url(self) -> str:
        """Where this store is, fit for a log: never with credentials."""
        ...

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        """Write an object and return its etag. With ``if_absent``, raise ``AlreadyExists`` where the key is taken."""
        ...

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """The object's bytes from ``start`` up to ``end`` (exclusive; None: to its end). Raises ``NotFound``.

        A range that reaches beyond the object is cut; one that starts at or beyond its end gives ``b""``.
        """
        ...

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[ObjectInfo]:
        """All objects whose key starts with ``prefix`` and is greater than ``after``, in key order, at most ``limit``."""
        ...

    async def list_level(self, prefix: str) -> Listing:
        """What stands directly below ``prefix`` (which ends in ``/`` or is empty), as a folder would show it."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; no error where there is none."""
        ...

    async def check(self) -> None:
        """Return if the store can be reached and its root be listed; raise the ``StoreError`` that says why not."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...

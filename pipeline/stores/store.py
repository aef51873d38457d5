"""The object store: the protocol all else is written against, what a key may be, and the store in memory.

``filestore.py`` and ``s3.py`` have the other two, ``open_store.py`` picks one. All of them pass the same
contract suite (``tests/test_store_contract.py``).
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Protocol
from uuid import uuid4

from msgspec import Struct

from pipeline.errors import AlreadyExists, BadKey, NotFound, StoreError

MAX_KEY = 1024  # bytes, S3's own bound
MAX_PART = 255  # bytes, the bound of file systems
MAX_DEPTH = 64  # parts
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


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
    every one may be tried again. Keys use ``/``; no key can lead outside the root (``BadKey``). A listing
    gives only keys that ``get`` takes: what else stands in a bucket or folder (dot files, folder markers,
    symbolic links, names with control characters) is not an object of ours and isn't shown.

    No key may be another one's folder (``a`` beside ``a/b``): a file system can't hold both.
    """

    @property
    def url(self) -> str:
        """Where this store is, fit for a log: never with credentials."""
        ...

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        """Write an object and return its etag. With ``if_absent``, raise ``AlreadyExists`` where the key is taken.

        Of many such puts to one key exactly one takes effect. It isn't always the one that returns: where the
        answer was lost on the way and the put tried again, by the store's client or by the caller, the second
        try meets the first one's object. So ``AlreadyExists`` means "look what stands there", not "not mine".
        """
        ...

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """The object's bytes from ``start`` up to ``end`` (exclusive; None: to its end). Raises ``NotFound``.

        A range that reaches beyond the object is cut; one that starts at or beyond its end gives ``b""``.
        Objects may be of any size, whoever wrote them: see ``ObjectInfo.size``, or set ``end``, before reading.
        """
        ...

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[ObjectInfo]:
        """All objects whose key starts with ``prefix`` and is greater than ``after``, in key order, at most ``limit``."""
        ...

    async def list_level(self, prefix: str) -> Listing:
        """What stands directly below ``prefix`` (which ends in ``/`` or is empty), as a folder would show it.

        A prefix may still be shown for a while after the last object below it was deleted (SeaweedFS does so).
        """
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


def check_key(key: str) -> str:
    """``key`` itself if it may name an object; raises ``BadKey`` otherwise."""
    if not key or key.endswith("/"):
        raise BadKey(f"not an object's key: {key[:80]!r}")
    return check_prefix(key)


def check_prefix(prefix: str) -> str:
    """``prefix`` itself if the key of an object may start with it (or equal it); raises ``BadKey`` otherwise."""
    *folders, last = prefix.split("/")
    if "" in folders or any(name.startswith(".") for name in (*folders, last)):
        raise BadKey(f"a part of the key is empty or starts with a dot: {prefix[:80]!r}")
    if _CONTROL.search(prefix):
        raise BadKey(f"a control character in the key: {prefix[:80]!r}")
    try:
        sizes = [len(name.encode()) for name in (*folders, last)]
    except UnicodeEncodeError as exc:
        raise BadKey(f"key is not valid Unicode: {prefix[:80]!r}") from exc
    if max(sizes) > MAX_PART or len(sizes) > MAX_DEPTH or sum(sizes) + len(folders) > MAX_KEY:
        raise BadKey(f"key is too long or too deep: {prefix[:80]!r}…")
    return prefix


def check_level(prefix: str) -> str:
    """``prefix`` itself if it names a level (ends in ``/`` or is empty); raises ``BadKey`` otherwise."""
    if prefix and not prefix.endswith("/"):
        raise BadKey(f"a level ends in a slash: {prefix[:80]!r}")
    return check_prefix(prefix)


def check_range(start: int, end: int | None) -> None:
    """Raises ``ValueError`` for a range that counts from the end: a caller's mistake, never data's."""
    if start < 0 or (end is not None and end < 0):
        raise ValueError(f"negative range: {start}..{end}")


def is_key(key: str) -> bool:
    """Whether a listed name is one that ``get`` takes."""
    try:
        check_key(key)
    except BadKey:
        return False
    return True


async def conditional_put_works(store: ObjectStore) -> bool:
    """Whether the store honours ``if_absent``, tried out on a key of its own. Raises ``Denied`` where it can't be written to.

    Some S3-compatible stores ignore the header and overwrite: two collectors of one node could then do so too.
    """
    key = f"_probe/{uuid4().hex}"
    await store.put(key, b"1")
    try:
        await store.put(key, b"2", if_absent=True)
    except AlreadyExists:
        return await store.get(key) == b"1"
    except StoreError as exc:
        if exc.retryable:
            raise
        return False  # refused the header as such
    else:
        return False
    finally:
        await store.delete(key)


class MemoryStore:
    """Objects in a dict: for tests and for trying things out. Nothing outlives the process."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._keys: list[str] = []  # sorted

    @property
    def url(self) -> str:
        return "memory://"

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        if check_key(key) in self._objects:
            if if_absent:
                raise AlreadyExists(f"{key} exists in {self.url}")
        else:
            insort(self._keys, key)
        self._objects[key] = bytes(data)
        return self._info(key).etag

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        check_range(start, end)
        try:
            return self._objects[check_key(key)][start:end]
        except KeyError:
            raise NotFound(f"no object {key} in {self.url}") from None

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[ObjectInfo]:
        check_prefix(prefix)
        found: list[ObjectInfo] = []
        for key in self._from(prefix, check_prefix(after)):
            if limit is not None and len(found) >= limit:
                break
            found.append(self._info(key))
        return found

    async def list_level(self, prefix: str) -> Listing:
        objects: list[ObjectInfo] = []
        prefixes: dict[str, None] = {}
        for key in self._from(check_level(prefix), ""):
            name, slash, _ = key[len(prefix) :].partition("/")
            if slash:
                prefixes[f"{prefix}{name}/"] = None
            else:
                objects.append(self._info(key))
        return Listing(objects, list(prefixes))

    async def delete(self, key: str) -> None:
        if self._objects.pop(check_key(key), None) is not None:
            del self._keys[bisect_right(self._keys, key) - 1]

    async def check(self) -> None:
        return None

    async def aclose(self) -> None:
        return None

    def _from(self, prefix: str, after: str) -> Iterator[str]:
        at = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after) if after else 0)
        return takewhile(lambda key: key.startswith(prefix), islice(self._keys, at, None))

    def _info(self, key: str) -> ObjectInfo:
        data = self._objects[key]
        return ObjectInfo(key, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest())

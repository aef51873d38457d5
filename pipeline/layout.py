"""Where things stand in the store: the only module that puts keys together or takes them apart.

    {namespace}/{cluster}/{session}/metadata.json
    {namespace}/{cluster}/{session}/events/{node}/{seq:012d}.jsonl.zst
    {namespace}/{cluster}/{session}/quarantine/{node}/{name}
    {namespace}/{cluster}/{session}/snapshot/summary.json
    _catalog/{namespace}/{cluster}/{session}

Keys are relative to the store's root. Every part that comes from outside passes ``part`` first, so
no name, whoever wrote it, can lead out of its place.
"""

from __future__ import annotations

import re

from msgspec import Struct

from pipeline.errors import BadKey

CATALOG = "_catalog/"
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@=+~-]{0,254}")
_SEGMENT = re.compile(r"(\d{12})\.jsonl\.zst")


def part(name: str) -> str:
    """``name`` itself if it can stand between two slashes of a key; raises ``BadKey`` otherwise."""
    if _PART.fullmatch(name) is None or ".." in name:
        raise BadKey(f"not a valid name: {name[:80]!r}")
    return name


class SessionKey(Struct, frozen=True, order=True):
    """One life of one cluster. ``session`` is Ray's own name, ``session_2026-01-16_02-00-00_123456_1``."""

    namespace: str
    cluster: str
    session: str

    def __post_init__(self) -> None:
        part(self.namespace)
        part(self.cluster)
        part(self.session)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.cluster}/{self.session}"

    @property
    def root(self) -> str:
        return f"{self.namespace}/{self.cluster}/{self.session}/"

    @property
    def metadata(self) -> str:
        return f"{self.root}metadata.json"

    @property
    def events(self) -> str:
        return f"{self.root}events/"

    @property
    def summary(self) -> str:
        """What a list of sessions shows of this one: derived, may be deleted at any time."""
        return f"{self.root}snapshot/summary.json"

    @property
    def catalog(self) -> str:
        return f"{CATALOG}{self.namespace}/{self.cluster}/{self.session}"

    def node_events(self, node: str) -> str:
        return f"{self.events}{part(node)}/"

    def segment(self, node: str, seq: int) -> str:
        return f"{self.node_events(node)}{seq:012d}.jsonl.zst"

    def quarantine(self, node: str, name: str) -> str:
        return f"{self.root}quarantine/{part(node)}/{part(name)}"


def segment_seq(key: str) -> int | None:
    """The ``seq`` a segment's key carries, or None for a key that isn't a segment's."""
    found = _SEGMENT.fullmatch(key.rpartition("/")[2])
    return int(found[1]) if found else None


def catalog_entry(key: str) -> SessionKey | None:
    """The session a catalog key names, or None where the key isn't one (anyone may write into a bucket)."""
    parts = key.removeprefix(CATALOG).split("/")
    if not key.startswith(CATALOG) or len(parts) != 3:
        return None
    try:
        return SessionKey(*parts)
    except BadKey:
        return None

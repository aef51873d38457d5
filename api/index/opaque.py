"""The records that no entity is made of, kept whole for those who ask (Ray Train, Ray Data, platform events).

Promises: of each (kind, key) the latest record, whatever order they arrive in. Kept as JSON, which takes
a fraction of what its dict would.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from api.index.order import encode, order_of
from pipeline.events import Opaque

_OPAQUE_BYTES = 350
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class OpaqueTable:
    """Latest record by kind and key."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def of_kind(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(key, data) of all records of one kind, oldest first."""
        found = sorted((order, name[1], data) for name, (order, data) in self._records.items() if name[0] == kind)
        return ((key, _decode(data)) for _, key, data in found)

    def add(self, record: Opaque, position: int) -> None:
        """Take in one record."""
        name = (record.kind, record.key)
        entry = (order_of(record.timestamp_ns, position), encode(record.data))
        known = self._records.get(name)
        if known is None:
            self.nbytes += _OPAQUE_BYTES + len(entry[1])
        elif entry <= known:
            return
        else:
            self.nbytes += len(entry[1]) - len(known[1])
        self._records[name] = entry

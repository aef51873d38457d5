"""What a session has and what it lacks, so that an answer can say how complete it is.

Fed by the reader while it reads; pure. Two kinds of lack are told apart: what *we* miss (holes in a
source, segments that are absent or can't be read) and what was said to be missing by those who wrote
(gaps named in segment headers, records that no decoder took).

Bounded: lists of examples keep the first ``KEPT``; counts go on.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from pipeline.segments.segment import Header, Span

KEPT = 100


class SourceSeen(Struct):
    """One source as far as it is known: ``[0, end)`` less the holes. ``sealed``: how much of that segments are known to hold."""

    node: str
    source: str
    dialect: str
    end: int = 0
    sealed: int = 0
    records: int = 0
    holes: list[tuple[int, int]] = field(default_factory=list)
    missing_bytes: int = 0


class NodeSeen(Struct):
    """One node's segments: how many were read, the last one's number (they count from 1), and how many numbers are absent."""

    segments: int = 0
    last_seq: int = 0
    missing_segments: int = 0


class BadObject(Struct, frozen=True):
    """An object that can't be read as what its place says it is, and why."""

    key: str
    reason: str


class Completeness(Struct):
    """See the module. ``as_dict`` is the answer of ``/completeness``."""

    nodes: dict[str, NodeSeen] = field(default_factory=dict)
    sources: dict[tuple[str, str], SourceSeen] = field(default_factory=dict)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    gap_count: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)
    rejected_count: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    bad_segments: list[BadObject] = field(default_factory=list)
    bad_segment_count: int = 0
    repeated_bytes: int = 0
    seals: int = 0
    """How many segments were read, bad ones included: a node's ``last_seq`` or a source's ``sealed`` has changed when this has."""
    sealed_ms: int = 0
    """When the newest segment was sealed, by its collector's clock: the last word of the session in the store."""

    def saw_segment(self, node: str, seq: int, header: Header | None) -> None:
        """A segment was read (or found unreadable: ``header`` None), in order of ``seq`` per node."""
        seen = self.nodes.setdefault(node, NodeSeen())
        seen.missing_segments += max(0, seq - seen.last_seq - 1)
        seen.last_seq = seq
        seen.segments += 1
        self.seals += 1
        if header is not None:
            self.sealed_ms = max(self.sealed_ms, header.created_ns // 1_000_000)
            for span in header.sources:
                source = self.source(node, span)
                source.sealed = max(source.sealed, span.end)
        for gap in header.gaps if header is not None else []:
            self.gap_count += 1
            if len(self.gaps) < KEPT:
                self.gaps.append({"node": node, **gap})

    def source(self, node: str, span: Span) -> SourceSeen:
        """The tally of one source, made at first sight."""
        key = node, span.source
        if key not in self.sources:
            self.sources[key] = SourceSeen(node, span.source, span.dialect)
        return self.sources[key]

    def saw_bytes(self, seen: SourceSeen, start: int, end: int, records: int) -> None:
        """``[start, end)`` of a source was applied; what lies between its end so far and ``start`` is a hole."""
        self.skipped(seen, start)
        seen.end = end
        seen.records += records

    def skipped(self, seen: SourceSeen, start: int) -> None:
        """A source goes on at ``start``: what lies before that and after its end so far is a hole."""
        if start > seen.end:
            seen.missing_bytes += start - seen.end
            if len(seen.holes) < KEPT:
                seen.holes.append((seen.end, start))
            seen.end = start

    def saw_bad(self, key: str, reason: str) -> None:
        """An object can't be read."""
        self.bad_segment_count += 1
        if len(self.bad_segments) < KEPT:
            self.bad_segments.append(BadObject(key, reason))

    def saw_rejected(self, seen: SourceSeen, offset: int, why: str, detail: str) -> None:
        """A line of a source that no decoder took."""
        self.rejected_count += 1
        if len(self.rejected) < KEPT:
            self.rejected.append(
                {"node": seen.node, "source": seen.source, "offset": offset, "why": why, "detail": detail}
            )

    def saw_unknown(self, kind: str, count: int) -> None:
        """Records of a type this version doesn't know: kept in the store, not in the answers."""
        name = kind if kind in self.unknown or len(self.unknown) < KEPT else "(other)"
        self.unknown[name] = self.unknown.get(name, 0) + count

    @property
    def records(self) -> int:
        return sum(seen.records for seen in self.sources.values())

    @property
    def missing_bytes(self) -> int:
        return sum(seen.missing_bytes for seen in self.sources.values())

    @property
    def missing_segments(self) -> int:
        return sum(seen.missing_segments for seen in self.nodes.values())

    def warning(self, undefined: int = 0) -> str:
        """What is lacking, in one sentence for ``partial_failure_warning``; empty where nothing is known to be.

        ``undefined``: attempts that nobody defined (``views/undefined.py``), where that was counted.
        """
        lacks = []
        if self.missing_bytes:
            lacks.append(f"{self.missing_bytes} bytes of its sources are missing from the store")
        elif self.missing_segments:
            lacks.append(f"{self.missing_segments} segments are missing from the store")
        if self.bad_segment_count:
            lacks.append(f"{self.bad_segment_count} segments can't be read")
        if self.gap_count:
            lacks.append(f"{self.gap_count} gaps were reported by the collectors")
        if self.rejected_count:
            lacks.append(f"{self.rejected_count} records could not be decoded")
        if undefined:
            lacks.append(
                f"{undefined} task attempts ran that nobody defined, so no list has them: was what submitted them told to tell?"
            )
        return f"this session is incomplete: {', '.join(lacks)} (see /completeness)" if lacks else ""

    def as_dict(self, undefined: int = 0) -> dict[str, Any]:
        """The answer of ``/completeness``, less what only the session knows."""
        return {
            "complete": not self.warning(undefined),
            "records": self.records,
            "nodes": dict(sorted(self.nodes.items())),
            "sources": [self.sources[key] for key in sorted(self.sources)],
            "missing_bytes": self.missing_bytes,
            "missing_segments": self.missing_segments,
            "repeated_bytes": self.repeated_bytes,
            "gaps": {"count": self.gap_count, "first": self.gaps},
            "rejected": {"count": self.rejected_count, "first": self.rejected},
            "undefined_attempts": undefined,
            "unknown_types": dict(sorted(self.unknown.items())),
            "bad_segments": {"count": self.bad_segment_count, "first": self.bad_segments},
        }

"""Indexes for tests: from records told in the test, or from a capture's files and posts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from support.captures import DATA, captures, event_files, posts

from api.index.session_index import SessionIndex
from api.query.query import ListOptions
from api.views import actors, events, jobs, nodes, placement_groups, workers
from pipeline.decoding.decode import Decoded, decode_block
from pipeline.events import Record

DETAIL = ListOptions(limit=10_000, detail=True)


def index_of(records: Iterable[Record | tuple[Record, int]]) -> SessionIndex:
    """An index of these records; one without a position stands where it is told."""
    index = SessionIndex()
    placed = [item if isinstance(item, tuple) else (item, at * 1000) for at, item in enumerate(records)]
    index.apply(Decoded([record for record, _ in placed], [position for _, position in placed]))
    return index


def recorded() -> list[Path]:
    """The committed recordings, and the larger captures where there are any."""
    others = captures()
    found = [DATA / "posted", DATA / "export", *(others.iterdir() if others is not None else [])]
    return [folder for folder in sorted(found) if (folder / "live" / "index.tsv").is_file()]


def blocks(capture: Path) -> list[Decoded]:
    """All that a capture holds, decoded: a block a post, a block a file."""
    done = []
    for body in posts(capture):
        lines = b"".join(msgspec.json.encode(event) + b"\n" for event in json.loads(body))
        done.append(decode_block(lines, "ray_event"))
    done.extend(decode_block(file.read_bytes(), "export_api") for file in event_files(capture, "export_events"))
    done.extend(decode_block(file.read_bytes(), "log_event") for file in event_files(capture, "events"))
    return done


def index_of_capture(capture: Path) -> SessionIndex:
    """What a capture tells, all of it."""
    index = SessionIndex()
    for block in blocks(capture):
        index.apply(block)
    return index


def sent(value: Any) -> Any:
    """A view's answer as a client receives it."""
    return msgspec.json.decode(msgspec.json.encode(value))


def answers(index: SessionIndex) -> dict[str, Any]:
    """Everything the views of this index say, as a client receives it."""
    said: dict[str, Any] = sent(
        {
            "actors": actors.list_actors(index, DETAIL),
            "logical": actors.logical_actors(index),
            "nodes": nodes.list_nodes(index, DETAIL),
            "summary": nodes.nodes_summary(index),
            "hosts": nodes.nodes_host_names(index),
            "workers": workers.list_workers(index, DETAIL),
            "jobs": jobs.list_jobs(index, DETAIL),
            "rest": jobs.jobs_rest(index),
            "groups": placement_groups.list_placement_groups(index, DETAIL),
            "events": events.all_events(index),
        }
    )
    return said

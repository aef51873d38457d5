"""What a server needs to answer for a session: a new process each time, so that the first answer loads all of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from support.processes import Program, server, session_url
from support.rayhead import fetch

from bench.generate import Generated
from bench.stores import Place

SUMMARY = "/api/v0/tasks/summarize"
ROWS = "/api/v0/tasks?limit=10000&detail=1"
WARM = (
    SUMMARY,
    "/api/v0/tasks?limit=100",
    ROWS,
    "/api/v0/tasks?limit=10000&filter_keys=state&filter_predicates=%3D&filter_values=FAILED",
    "/api/v0/tasks?limit=100&filter_keys=name&filter_predicates=%3D&filter_values=step_07",
    "/api/v0/actors?detail=1",
)


class Loaded(NamedTuple):
    """Seconds until each first answer came, each of a server just started; the best of some for the warm ones."""

    summary: float
    summary_cpu: float
    rows: float
    rows_cpu: float
    warm: dict[str, float]
    peak_rss: int
    idle_rss: int


def load(generated: Generated, place: Place, folder: Path, *, repeats: int = 5) -> Loaded:
    folder.mkdir(parents=True, exist_ok=True)
    with server(place.options, folder, environment=place.environment) as program:
        started = program.cpu_seconds()
        rows, body = _time(program, generated, ROWS)
        rows_cpu = program.cpu_seconds() - started
        _check(json.loads(body)["data"]["result"], generated)
    with server(place.options, folder, environment=place.environment) as program:
        idle, started = program.peak_rss(), program.cpu_seconds()
        summary, body = _time(program, generated, SUMMARY)
        summary_cpu = program.cpu_seconds() - started
        _check_summary(json.loads(body)["data"]["result"]["result"], generated)
        warm = {url: min(_time(program, generated, url)[0] for _ in range(repeats)) for url in WARM}
        return Loaded(summary, summary_cpu, rows, rows_cpu, warm, program.peak_rss(), idle)


def _time(program: Program, generated: Generated, url: str) -> tuple[float, bytes]:
    begin = time.perf_counter()
    status, body = fetch(session_url(program, generated.session) + url, timeout=600)
    if status != 200:
        raise AssertionError(f"{url} was answered {status}: {body[:500]!r}\n{program.log()[-3000:]}")
    return time.perf_counter() - begin, body


def _check(result: dict[str, object], generated: Generated) -> None:
    if result["total"] != generated.attempts:
        raise AssertionError(f"{generated.attempts} attempts were collected, {result['total']} are answered")


def _check_summary(result: dict[str, Any], generated: Generated) -> None:
    """Of a summary, every attempt in its last state."""
    counts: dict[str, int] = {}
    for row in result["node_id_to_summary"]["cluster"]["summary"].values():
        for state, count in row["state_counts"].items():
            counts[state] = counts.get(state, 0) + count
    wanted = {"FINISHED": generated.attempts - generated.failed, "FAILED": generated.failed}
    if counts != wanted:
        raise AssertionError(f"the summary counts {counts}, not {wanted}")

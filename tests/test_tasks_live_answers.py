"""The answers about tasks of recorded sessions are those that the live dashboard gave, leaf by leaf.

Exceptions are listed in ``LOST``, each with why no record carries it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from support.captures import DATA, captures, live_answers
from support.skips import extra
from support.taskset import index_of, recorded

from api.query.query import BadQuery, parse_list_options, parse_summary_options
from api.views.summaries import summarize_tasks
from api.views.tasks import list_tasks
from api.views.timeline import timeline

LOST = {
    # The export dialect doesn't name tasks; Ray says the name again only when one has run.
    "export": {"name", "task_log_info"},
    # ... and says where a task's log begins only if it runs past the next flush.
    "export-api-files": {"task_log_info"},
    # The posted dialect has the time of the event, not of the job's end: it is 2 ms later here.
    "ray-event-export": {"events", "end_time_ms"},
    "posted": set(),
}
MOST_LOST = {"export": 13, "export-api-files": 14, "ray-event-export": 4}


@pytest.fixture(params=sorted(LOST))
def capture(request: pytest.FixtureRequest) -> Path:
    small = DATA / request.param
    if small.is_dir():
        return small
    folder = captures()
    extra(folder, "needs the larger captures: RAY_HISTORY_CAPTURES names their folder")
    assert folder is not None
    return folder / request.param


def asked(capture: Path, path: str) -> list[tuple[list[tuple[str, str]], int, Any]]:
    """What was asked of a path: the query, the status and the body of the live answer."""
    found = [
        (parse_qsl(url.partition("?")[2], keep_blank_values=True), status, body)
        for url, (status, body) in live_answers(capture).items()
        if url.partition("?")[0] == path
    ]
    assert found
    return found


def test_lists_are_the_live_ones(capture: Path) -> None:
    index = index_of(recorded(capture))
    lost = []
    for query, status, body in asked(capture, "/api/v0/tasks"):
        if status != 200:
            continue
        ours, live = list_tasks(index, parse_list_options(query)), body["data"]["result"]
        rows, live_rows = ours.pop("result"), live.pop("result")
        assert ours == live
        assert [list(row) for row in rows] == [list(row) for row in live_rows]
        for row, live_row in zip(rows, live_rows, strict=True):
            lost += [name for name in row if row[name] != live_row[name]]
    assert set(lost) <= LOST[capture.name]
    assert len(lost) <= MOST_LOST.get(capture.name, 0)


def test_refusals_are_the_live_ones(capture: Path) -> None:
    index = index_of(recorded(capture))
    refused = [(query, body) for query, status, body in asked(capture, "/api/v0/tasks") if status == 400]
    assert len(refused) == 3
    for query, body in refused:
        with pytest.raises(BadQuery) as refusal:
            list_tasks(index, parse_list_options(query))
        assert refusal.value.status == 400
        # The columns stand in a set's order, which changes from run to run.
        assert sorted(str(refusal.value)) == sorted(body["msg"])


def test_summaries_are_the_live_ones(capture: Path) -> None:
    index = index_of(recorded(capture))
    for query, _, body in asked(capture, "/api/v0/tasks/summarize"):
        ours, live = summarize_tasks(index, parse_summary_options(query)), body["data"]["result"]
        if "name" in LOST[capture.name]:  # names are the groups: only what doesn't depend on them
            for answer in (ours, live):
                del answer["result"]["node_id_to_summary"]["cluster"]["summary"]
        assert ours == live


def test_timelines_are_the_live_ones(capture: Path) -> None:
    index = index_of(recorded(capture))
    ((_, _, live),) = asked(capture, "/api/v0/tasks/timeline")
    assert timeline(index, None) == live

"""The Grafana dashboard we hand out asks addresses that answer, for rows and columns that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.captures import DATA
from support.client import client
from support.recorded_store import put_recording

from pipeline.store import MemoryStore

DASHBOARD = json.loads((Path(__file__).resolve().parents[1] / "docs" / "grafana-dashboard.json").read_text())
TARGETS = {panel["title"]: panel["targets"][0] for panel in DASHBOARD["panels"]}


def at(answer: Any, path: str) -> Any:
    for name in path.split("."):
        answer = answer[name]
    return answer


@pytest.mark.anyio
@pytest.mark.parametrize("title", TARGETS)
async def test_every_panel_finds_its_rows_and_columns(title: str) -> None:
    target = TARGETS[title]
    store = MemoryStore()
    key = await put_recording(store, DATA / "posted", "default", "demo", ended_ms=1)
    async with client(store) as http:
        answer = await http.get(target["url"].replace("${session}", str(key)))
    assert answer.status_code == 200
    rows = at(answer.json(), target["root_selector"])
    assert rows
    missing = [column["selector"] for column in target["columns"] if column["selector"] not in rows[0]]
    assert missing == []


def test_every_panel_and_the_session_choice_ask_by_the_chosen_data_source() -> None:
    choice = next(v for v in DASHBOARD["templating"]["list"] if v["name"] == "session")
    assert choice["query"]["infinityQuery"]["url"].startswith("/v1/sessions")
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"${datasource}"}

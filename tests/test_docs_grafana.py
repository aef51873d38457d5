"""The Grafana dashboard we hand out asks addresses that answer, for rows and columns that are there.

Infinity takes a root selector as JSONata; so does this.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonata import Jsonata
from support.captures import DATA
from support.client import client
from support.recorded_store import put_recording

from pipeline.stores.store import MemoryStore

DASHBOARD = json.loads((Path(__file__).resolve().parents[1] / "docs" / "grafana-dashboard.json").read_text())
TARGETS = {panel["title"]: panel["targets"][0] for panel in DASHBOARD["panels"]}
CHOICE = next(variable for variable in DASHBOARD["templating"]["list"] if variable["name"] == "session")


@pytest.mark.anyio
@pytest.mark.parametrize("title", TARGETS)
async def test_every_panel_finds_its_rows_and_columns(title: str) -> None:
    target = TARGETS[title]
    store = MemoryStore()
    key = await put_recording(store, DATA / "posted", "default", "demo", ended_ms=1)
    async with client(store) as http:
        answer = await http.get(target["url"].replace("${session}", str(key)))
    assert answer.status_code == 200
    rows = Jsonata(target["root_selector"]).evaluate(answer.json())
    assert rows
    missing = [column["selector"] for column in target["columns"] if column["selector"] not in rows[0]]
    assert missing == []


@pytest.mark.anyio
async def test_the_sessions_to_choose_from_are_what_panels_put_in_their_addresses() -> None:
    asked = CHOICE["query"]["infinityQuery"]
    store = MemoryStore()
    keys = [
        await put_recording(store, DATA / "posted", "default", "demo", ended_ms=1),
        await put_recording(store, DATA / "export", "team", "demo", ended_ms=1),
    ]
    async with client(store) as http:
        answer = (await http.get(asked["url"])).json()
    rows = Jsonata(asked["root_selector"]).evaluate(answer)
    (column,) = asked["columns"]
    assert {row[column["selector"]] for row in rows} == {str(key) for key in keys}


def test_every_panel_and_the_session_choice_ask_by_the_chosen_data_source() -> None:
    assert CHOICE["datasource"]["uid"] == "${datasource}"
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"${datasource}"}

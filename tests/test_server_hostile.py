"""Nothing that anyone writes into the bucket or the address bar crashes the server or leads it outside the store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.client import client
from support.sessions import KEY, NODE, SegmentWriter, WrappedStore, tasks

from pipeline.stores.filestore import FileStore

pytestmark = pytest.mark.anyio

AT = f"/sessions/{KEY}"

HOSTILE_METADATA = {
    "not json": b"\xff\xfe{",
    "another session's": b'{"namespace": "a", "cluster": "b", "session": "c"}',
    "a newer format": b'{"format": 99}',
    "wrong types": b'{"namespace": [], "created_ms": "x"}',
    "huge": b'{"namespace": "' + b"x" * (1 << 20) + b'"}',
    "deep": b"[" * 100_000,
    "times beyond any date": b'{"namespace": "default", "cluster": "demo", "session": "%s", "created_ms": %d}'
    % (KEY.session.encode(), 1 << 62),
}


@pytest.mark.parametrize("what", HOSTILE_METADATA)
async def test_hostile_metadata_is_as_good_as_none(what: str) -> None:
    store = WrappedStore()
    await SegmentWriter(store).write(tasks(2))
    await store.put(KEY.metadata, HOSTILE_METADATA[what])
    await store.put(KEY.catalog, HOSTILE_METADATA[what])
    async with client(store) as http:
        assert (await http.get(f"{AT}/api/v0/tasks")).json()["data"]["result"]["total"] == 2
        assert [row["sessionName"] for row in (await http.get("/clusters")).json()] == [KEY.session]
        assert [row["session"] for row in (await http.get("/v1/sessions")).json()["sessions"]] == [KEY.session]
        assert (await http.get(f"{AT}/completeness")).json()["metadata"] is None


SECRET = "the secret outside the store"
CLIMBS = (
    "/sessions/../../../secret/session/metadata.json",
    "/sessions/%2e%2e/%2e%2e/secret/api/v0/tasks",
    "/sessions/..%2f..%2fsecret/x/y/api/v0/tasks",
    "/sessions/default/demo/..%2f..%2f..%2fsecret/api/v0/tasks",
    "/sessions/default/demo/%2e%2e/api/v0/tasks",
    "/sessions/default/demo/link/api/v0/tasks",
    "/sessions/default/demo/link/completeness",
    "/enter_cluster/%2e%2e/%2e%2e/secret",
    "/enter_cluster/default/demo/..%5c..%5csecret",
    "/sessions/default/demo/a%00b/nodes",
    "//etc/passwd",
    "/nodes/..%2f..%2fetc%2fpasswd",
    f"{AT}/nodes/..%2f..%2fmetadata.json",
    f"{AT}/api/jobs/..%2f..%2fmetadata.json",
    f"{AT}/logical/actors/..%2fx",
)


@pytest.mark.parametrize("path", CLIMBS)
async def test_no_address_leads_outside_the_store(tmp_path: Path, path: str) -> None:
    root, outside = tmp_path / "store", tmp_path / "secret"
    (outside / "events" / NODE).mkdir(parents=True)
    (outside / "metadata.json").write_text(SECRET)
    store = FileStore(root)
    await SegmentWriter(store).write(tasks(1))
    os.symlink(outside, root / "default" / "demo" / "link")
    async with client(store) as http:
        for name, value in (("cluster_namespace", ".."), ("cluster_name", ".."), ("session_name", "secret")):
            http.cookies.set(name, value)
        answer = await http.get(path)
    assert answer.status_code in (400, 404)
    assert SECRET not in answer.text
    assert "root:" not in answer.text

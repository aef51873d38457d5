"""Which sessions there are, which one lives, and which node this is, as Ray's folder says it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
from pathlib import Path

import pytest
from support.collecting import LATER, SESSION, RayFolder, append, collecting, line, settings

from pipeline.errors import ConfigError
from pipeline.read import node
from pipeline.read.session import find, newest_ms, places, raylet_answers, state
from pipeline.stores.store import MemoryStore

ONE, TWO = "1a" * 28, "2b" * 28


def test_the_current_session_is_the_one_the_link_names_wherever_it_is_mounted(tmp_path: Path) -> None:
    ray = RayFolder(tmp_path)
    ray.begin(LATER)
    ray.begin(SESSION)
    (tmp_path / "session_latest").unlink()
    (tmp_path / "session_latest").symlink_to(Path("/somewhere/else") / SESSION)
    found = find(tmp_path, [])
    assert (found.current, found.others) == (SESSION, [LATER])


def test_without_a_link_the_newest_is_current_spooled_ones_too(tmp_path: Path) -> None:
    assert find(tmp_path / "absent", [SESSION, LATER]).current == LATER
    assert find(tmp_path / "absent", []).current is None


def test_a_link_to_a_session_that_is_not_there_is_no_session(tmp_path: Path) -> None:
    (tmp_path / "session_latest").symlink_to(LATER)
    assert find(tmp_path, [SESSION]).current == SESSION


@pytest.mark.parametrize("target", ["..", ".", "/", "../../etc", "session_latest", "a b", "x" * 300, "session_\n"])
def test_a_link_to_anything_else_is_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / SESSION).mkdir()
    os.symlink(target, tmp_path / "session_latest")
    assert find(tmp_path, []).current == SESSION
    assert find(tmp_path, []).others == []


def test_only_real_folders_with_a_session_s_name_are_sessions(tmp_path: Path) -> None:
    (tmp_path / SESSION).mkdir()
    (tmp_path / "session_file").write_text("")
    (tmp_path / "session_link").symlink_to(tmp_path / SESSION)
    (tmp_path / "ray_current_cluster").mkdir()
    (tmp_path / "session_a b").mkdir()
    found = find(tmp_path, [])
    assert (found.current, found.others) == (SESSION, [])


def test_the_state_of_a_session_changes_with_its_sources_and_with_nothing_else(tmp_path: Path) -> None:
    ray = RayFolder(tmp_path / "ray")
    folder = ray.begin()
    where = places(ray.root, tmp_path / "data", lambda *_: None, SESSION)
    before = state(where)
    (folder / "logs" / "raylet.out").write_text("x")
    assert state(where) == before == frozenset()
    append(ray.export(), line(1))
    after = state(where)
    assert after != before
    assert newest_ms(after) == ray.export().stat().st_mtime_ns // 1_000_000
    assert newest_ms(before) is None


def test_ray_lives_where_its_raylet_listens_however_long_the_path_is(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 100)
    sockets = root / SESSION / "sockets"
    assert raylet_answers(root, SESSION) is None
    sockets.mkdir(parents=True)
    assert raylet_answers(root, SESSION) is False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raylet, contextlib.chdir(sockets):
        raylet.bind("raylet")
        raylet.listen()
        assert raylet_answers(root, SESSION) is True
    assert raylet_answers(root, SESSION) is False
    (sockets / "raylet").unlink()
    (sockets / "raylet").write_text("no socket")
    assert raylet_answers(root, SESSION) in (False, None)


# the node


def test_the_node_is_the_one_whose_ports_stand_in_the_session_folder(tmp_path: Path) -> None:
    assert node.from_session_folder(tmp_path) is None
    (tmp_path / f"runtime_env_agent_port_{ONE}").write_text("1")
    assert node.from_session_folder(tmp_path) == ONE


def test_of_several_raylets_in_one_folder_it_is_the_first_for_ever(tmp_path: Path) -> None:
    for number, node_id in enumerate([TWO, ONE]):
        file = tmp_path / f"metrics_agent_port_{node_id}"
        file.write_text("1")
        os.utime(file, ns=(number, number))
    assert node.from_session_folder(tmp_path) == TWO


def test_before_any_port_is_known_the_raylet_s_log_names_the_node(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "raylet.out").write_text(f"[2026 I 1 1] (raylet) main.cc:711: Setting node ID node_id={ONE}\n")
    assert node.from_session_folder(tmp_path) == ONE


@pytest.mark.parametrize("name", [f"metrics_agent_port_{'g' * 56}", f"metrics_agent_port_{ONE}0", f"x_{ONE}", "logs"])
def test_other_files_name_no_node(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("1")
    assert node.from_session_folder(tmp_path) is None


def test_a_pipe_in_the_log_s_place_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    os.mkfifo(tmp_path / "logs" / "raylet.out")
    assert node.from_session_folder(tmp_path) is None


@pytest.mark.parametrize("field", ["nodeId", "node_id"])
def test_a_posted_record_names_its_node_in_both_spellings(tmp_path: Path, field: str) -> None:
    record = json.dumps({field: base64.b64encode(bytes.fromhex(ONE)).decode(), "other": 1}).encode()
    assert node.from_record(record) == ONE
    (tmp_path / "1.jsonl").write_bytes(b'{"nodeId": 17}\n' + record + b"\n")
    (tmp_path / "2.jsonl").write_bytes(record + b"\n")
    assert node.from_spool(tmp_path) == ONE


@pytest.mark.parametrize(
    "record", [b"", b"{}", b"[]", b'{"nodeId": "!"}', b'{"nodeId": "AAAA"}', b'{"nodeId": null}', b"\xff"]
)
def test_a_record_that_names_no_node_is_no_error(record: bytes) -> None:
    assert node.from_record(record) is None


@pytest.mark.anyio
@pytest.mark.parametrize("node_id", ["", "abc", ONE.upper(), ONE + "0", "../" + ONE])
async def test_a_node_id_in_the_settings_that_is_none_is_refused(tmp_path: Path, node_id: str) -> None:
    with pytest.raises(BaseExceptionGroup) as raised:
        async with collecting(settings(tmp_path, node_id=node_id), MemoryStore()):
            pass
    assert raised.value.subgroup(ConfigError) is not None


@pytest.mark.anyio
async def test_a_port_that_is_taken_is_refused_in_words(tmp_path: Path) -> None:
    async with collecting(settings(tmp_path), MemoryStore()) as it:
        with pytest.raises(BaseExceptionGroup) as raised:
            async with collecting(settings(tmp_path, events_port=it.port, data_dir=tmp_path / "2"), MemoryStore()):
                pass
    assert raised.group_contains(ConfigError, match=f"can't take posts on 127.0.0.1:{it.port}")

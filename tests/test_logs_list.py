"""Which log files a node has, and what a request asks for: as Ray understands globs, groups and options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.query.query import BadQuery
from api.views.logs import (
    NEITHER_ID_NOR_IP,
    LogOptions,
    NoLog,
    asked_node,
    glob,
    grouped,
    parse_log_options,
    tree_of,
)

FILES = [
    "raylet.out", "raylet.err", "raylet.1.out", "gcs_server.out", "dashboard.log", "dashboard_agent.log", "monitor.log",
    "log_monitor.log", ".hidden", "runtime_env_setup-01000000.log", "debug_state.txt", "worker-ab-01-7.out",
    "worker-ab-01-7.err", "python-core-worker-ab_7.log", "python-core-driver-01_8.log", "java-worker-ab-7.log",
    "events/event_GCS.log", "events/deep/er/x.log", "old/worker-cd-01-9.out", "[odd]*.log", "a b",
]  # fmt: skip
FOLDERS = ["events", "events/deep", "events/deep/er", "old", "export_events", "nsight/empty", "nsight"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("logs")
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (root / name).touch()
    return root


def as_on_a_node(root: Path, pattern: str) -> list[str]:
    """What Ray's agent does with a glob."""
    if Path(pattern).anchor or ".." in Path(pattern).parts:
        raise ValueError(pattern)
    return sorted({str(p.relative_to(root)) + ("/" if p.is_dir() else "") for p in root.glob(pattern)})


parts = st.sampled_from(
    [
        "*",
        "**",
        "?aylet.out",
        "*log*",
        "*.out",
        "[re]*",
        "events",
        "old",
        "deep",
        ".",
        "..",
        "x",
        "*7*err",
        "[odd]*",
        "",
        "ev[!x]nts",
        "nsight",
    ]
)
patterns = st.lists(parts, min_size=1, max_size=4).map("/".join) | st.text(alphabet="*?[]/a.r!-e", max_size=8)


@settings(max_examples=600, deadline=None)
@given(pattern=patterns)
def test_a_glob_matches_what_it_matches_on_a_node(folder: Path, pattern: str) -> None:
    try:
        expected = as_on_a_node(folder, pattern)
    except (ValueError, NotImplementedError, IndexError, AttributeError):
        with pytest.raises(NoLog):
            glob(tree_of(FILES, FOLDERS), pattern)
    else:
        assert glob(tree_of(FILES, FOLDERS), pattern) == expected


@pytest.mark.parametrize("pattern", ["a" * 2000, "/".join("*" * 60), "/" + "*", "..", "a/../b", "", "/", "a**"])
def test_a_glob_that_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(NoLog):
        glob(tree_of(FILES, FOLDERS), pattern)


def test_stars_upon_stars_cost_no_more_than_the_files_there_are() -> None:
    deep = ["/".join("abcdefgh"[:n]) for n in range(1, 9)]
    root = tree_of([f"{folder}/{n}" for folder in deep for n in range(200)], [])

    assert len(glob(root, "/".join(["**"] * 20 + ["*"]))) == 8 * 200 + 8


names = st.lists(st.sampled_from(["worker", "core-worker", "core-driver", "raylet.", "gcs_server.", "log_monitor", "monitor", "agent.", "dashboard.", "x", ".out", ".err", ".log", "/"]), min_size=1, max_size=5).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(paths=st.lists(names, max_size=20))
def test_files_stand_in_rays_groups(paths: list[str]) -> None:
    manager = pytest.importorskip("ray.dashboard.modules.log.log_manager")

    assert grouped(paths) == manager.LogsManager(None)._categorize_log_files(paths)


values = {
    "node_id": ["", "ab"], "node_ip": ["", "1.2.3.4"], "filename": ["", "x"], "actor_id": ["", "ab"], "task_id": ["ab"],
    "submission_id": ["", "s"], "pid": ["0", "7", "x"], "lines": ["", "0", "-1", "50", "x", "1.5"],
    "suffix": ["", "out", "err", "log"], "attempt_number": ["0", "2"], "interval": ["2", "x"],
    "download_filename": ["a.txt", ""], "timeout": ["3"],
}  # fmt: skip
queries = st.lists(
    st.sampled_from(sorted(values)).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(values[name]))),
    max_size=6,
)


IDS = ("node_id", "node_ip", "filename", "actor_id", "task_id", "submission_id", "pid")


def as_ray_reads(query: list[tuple[str, str]], media_type: str) -> Any:
    """Ray's options, or its refusal as a text."""
    common = pytest.importorskip("ray.util.state.common")
    asked: dict[str, str] = {}
    for name, value in query:
        asked.setdefault(name, value)
    try:
        return common.GetLogOptions(
            timeout=int(asked.get("timeout", "30")),
            media_type=media_type,
            lines=asked.get("lines", 1000),
            suffix=asked.get("suffix", "out"),
            attempt_number=asked.get("attempt_number", 0),
            download_filename=asked.get("download_filename", "file.txt"),
            **{name: asked.get(name) for name in (*IDS, "interval")},
        )
    except (ValueError, AssertionError) as exc:
        return str(exc)


@settings(max_examples=800, deadline=None)
@given(query=queries, media_type=st.sampled_from(["file", "stream", "zip"]))
def test_options_mean_what_they_mean_to_ray(query: list[tuple[str, str]], media_type: str) -> None:
    theirs = as_ray_reads(query, media_type)
    if isinstance(theirs, str):
        with pytest.raises(NoLog) as refused:
            parse_log_options(query, media_type)
        if "Value error, " in theirs and not {"interval", "pid", "lines"} & {name for name, _ in query}:
            assert str(refused.value) in theirs
        return
    ours = parse_log_options(query, media_type)
    assert ours.lines == (theirs.lines or 1000)
    for name in IDS:
        assert getattr(ours, name) == (getattr(theirs, name) or None) or (name == "pid" and ours.pid == 0)
    assert (ours.suffix, ours.download_filename) == (theirs.suffix, theirs.download_filename)
    assert ours.attempt_number == int(theirs.attempt_number)
    assert ours.follow == (media_type == "stream")


def test_a_name_to_download_as_cannot_leave_its_header() -> None:
    asked = parse_log_options(
        [("node_id", "a"), ("filename", "x"), ("download_filename", 'a"b\r\nSet-Cookie: x\\')], "file"
    )

    assert asked.download_filename == "abSet-Cookie: x"


def test_ansi_codes_are_filtered_when_the_word_is_true() -> None:
    query = [("node_id", "a"), ("filename", "x")]
    assert parse_log_options([*query, ("filter_ansi_code", "True")], "file").filter_ansi_code
    assert not parse_log_options([*query, ("filter_ansi_code", "1")], "file").filter_ansi_code
    assert parse_log_options(query, "file") == LogOptions(node_id="a", filename="x")


def test_a_node_is_asked_for_by_id_or_by_address() -> None:
    by_ip = {"1.2.3.4": "ab"}.get
    assert asked_node("cd", "1.2.3.4", by_ip) == "cd"
    assert asked_node(None, "1.2.3.4", by_ip) == "ab"
    with pytest.raises(BadQuery, match=NEITHER_ID_NOR_IP) as neither:
        asked_node("", None, by_ip)
    assert neither.value.status == 400
    with pytest.raises(BadQuery, match=r"Cannot find matching node_id for a given node ip 9\.9\.9\.9") as unknown:
        asked_node(None, "9.9.9.9", by_ip)
    assert unknown.value.status == 404


def test_the_tests_run_where_globs_are_rays() -> None:
    assert os.sep == "/"

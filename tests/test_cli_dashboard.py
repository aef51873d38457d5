"""``ray-history dashboard`` fetches and lists the official pages, and says in one line what is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import dashboard as command
from api.cli.commands import ray_history
from api.dashboard_install import NotFetched
from pipeline.errors import ConfigError


def run(*arguments: str) -> Result:
    return CliRunner().invoke(ray_history, ["dashboard", *arguments])


def build(folder: Path) -> Path:
    (folder / "static").mkdir(parents=True)
    (folder / "index.html").write_text("<html>")
    return folder


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a server without Ray beside it."""
    monkeypatch.setattr("api.dashboard._build_of_installed_ray", lambda: iter(()))


def test_installing_fetches_the_version_into_the_folder_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str | None, Path]] = []

    def install(version: str | None, into: Path) -> Path:
        asked.append((version, into))
        return build(into / (version or "2.61.0"))

    monkeypatch.setattr(command, "install", install)
    for version in ("2.60.0", None):
        done = run("install", *filter(None, [version]), "--dashboards", str(tmp_path))
        assert done.exit_code == 0, done.output
    assert asked == [("2.60.0", tmp_path), (None, tmp_path)]
    assert run("list", "--dashboards", str(tmp_path)).output.splitlines() == [
        f"2.60.0\t{tmp_path / '2.60.0'}",
        f"2.61.0\t{tmp_path / '2.61.0'}",
    ]


@pytest.mark.parametrize("version", ["2.x", "latest", "--pre", "../2.60.0", "2.60.0;rm", "https://evil.example/x.whl"])
def test_only_a_version_is_ever_handed_to_pip(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "install", lambda *_: pytest.fail("asked pip"))
    done = run("install", "--dashboards", str(tmp_path), "--", version)
    assert isinstance(done.exception, ConfigError)


def test_what_the_index_does_not_have_is_no_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found for ray==99.99.99\n")
    monkeypatch.setattr("api.dashboard_install.subprocess.run", lambda *_, **__: failed)
    done = run("install", "99.99.99", "--dashboards", str(tmp_path))
    assert isinstance(done.exception, NotFetched), "exit code 1"
    assert "No matching distribution" in str(done.exception)


def test_a_folder_that_can_t_be_written_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(version: str | None, into: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(command, "install", install)
    done = run("install", "2.60.0", "--dashboards", str(tmp_path))
    assert isinstance(done.exception, ConfigError)
    assert "--dashboards" in str(done.exception)


def test_pages_that_were_named_stand_before_those_that_are_installed(tmp_path: Path) -> None:
    mine = build(tmp_path / "mine")
    build(tmp_path / "installed" / "2.60.0")
    listed = run("list", "--dashboard-dir", str(mine), "--dashboards", str(tmp_path / "installed"))
    assert [line.split("\t")[0] for line in listed.output.splitlines()] == ["any", "2.60.0"]


def test_without_any_pages_the_list_says_how_to_get_some(tmp_path: Path) -> None:
    listed = run("list", "--dashboards", str(tmp_path))
    assert (listed.exit_code, "dashboard install" in listed.output) == (0, True)


def test_the_folder_has_a_variable_for_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "2.60.0")
    monkeypatch.setenv("RAY_HISTORY_DASHBOARDS", str(tmp_path))
    assert run("list").output.startswith("2.60.0")
    monkeypatch.setenv("RAY_HISTORY_DASHBOARD_DIR", str(tmp_path / "2.60.0"))
    assert len(run("list").output.splitlines()) == 2

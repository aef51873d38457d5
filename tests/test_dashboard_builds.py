"""The official pages are found, the right version is chosen, and nothing outside a build is ever read."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from api.dashboard import Build, DashboardFiles, choose, find_builds
from api.dashboard_install import PREFIX, unpack
from pipeline.errors import ConfigError


def make_build(folder: Path, text: str = "<html>") -> Path:
    (folder / "static" / "js").mkdir(parents=True)
    (folder / "index.html").write_text(text)
    (folder / "static" / "js" / "main.abc.js").write_text("1")
    return folder


def scope(method: str = "GET") -> dict[str, object]:
    return {"type": "http", "method": method, "path": "/", "headers": []}


def test_a_folder_may_be_one_build_or_hold_several(tmp_path: Path) -> None:
    one = make_build(tmp_path / "pages")
    make_build(tmp_path / "many" / "2.9.3")
    make_build(tmp_path / "many" / "2.60.0")
    (tmp_path / "many" / "notes").mkdir()
    nowhere = tmp_path / "nowhere"
    named = [b for b in find_builds(one, nowhere) if b.folder.is_relative_to(tmp_path)]
    held = [b for b in find_builds(tmp_path / "many", nowhere) if b.folder.is_relative_to(tmp_path)]
    assert [b.version for b in named] == [""]
    assert sorted(b.version for b in held) == ["2.60.0", "2.9.3"]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("2.60.0", "2.60.0"),
        ("2.60.1", "2.60.0"),
        ("2.9.0", "2.9.3"),
        ("2.30.0", "2.60.0"),
        ("3.1.0", "2.61.0"),
        (None, "2.61.0"),
        ("nightly", "2.61.0"),
    ],
)
def test_a_sessions_own_version_is_preferred_and_the_nearest_stands_in(wanted: str | None, chosen: str) -> None:
    builds = [Build(version, Path(version)) for version in ("2.9.3", "2.60.0", "2.61.0")]
    found = choose(builds, wanted)
    assert found is not None
    assert found.version == chosen


@pytest.mark.anyio
async def test_files_are_answered_and_nothing_else(tmp_path: Path) -> None:
    make_build(tmp_path / "2.60.0")
    (tmp_path / "secret").write_text("secret")
    files = DashboardFiles([Build("2.60.0", tmp_path / "2.60.0")])
    page = await files.file("2.60.0", "", scope())
    script = await files.file("2.60.0", "static/js/main.abc.js", scope())
    assert page is not None
    assert script is not None
    assert page.headers["cache-control"] == "no-cache"
    assert "immutable" in script.headers["cache-control"]
    for path in ("../secret", "static/../../secret", "/etc/passwd", "static", "nope", "a\x00b", "x" * 5000):
        assert await files.file("2.60.0", path, scope()) is None


@pytest.mark.anyio
async def test_without_a_build_there_is_no_page() -> None:
    assert await DashboardFiles([]).file("2.60.0", "", scope()) is None


def make_wheel(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return path


def test_only_the_pages_leave_the_wheel(tmp_path: Path) -> None:
    names = [PREFIX + "index.html", PREFIX + "static/js/main.js", "ray/__init__.py"]
    wheel = make_wheel(tmp_path / "ray-2.60.0-cp311-cp311-manylinux2014_x86_64.whl", names)
    build = unpack(wheel, tmp_path / "builds")
    assert build == tmp_path / "builds" / "2.60.0"
    assert sorted(str(p.relative_to(build)) for p in build.rglob("*") if p.is_file()) == [
        "index.html",
        "static/js/main.js",
    ]
    assert unpack(wheel, tmp_path / "builds") == build
    assert [p.name for p in (tmp_path / "builds").iterdir()] == ["2.60.0"]


@pytest.mark.parametrize("bad", [PREFIX + "../../../evil", PREFIX + "static/../../evil"])
def test_a_wheel_that_leads_out_of_its_folder_is_refused(tmp_path: Path, bad: str) -> None:
    wheel = make_wheel(tmp_path / "ray-2.60.0-x.whl", [PREFIX + "index.html", PREFIX + "static/a.js", bad])
    with pytest.raises(ConfigError, match="leads out"):
        unpack(wheel, tmp_path / "builds")
    assert list((tmp_path / "builds").iterdir()) == []


def test_a_wheel_without_pages_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "ray-2.60.0-x.whl", ["ray/__init__.py"])
    with pytest.raises(ConfigError, match="no dashboard pages"):
        unpack(wheel, tmp_path / "builds")

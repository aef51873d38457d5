"""The image is made of what the build context holds, has what its commands need, and is what the manifests take it for.

No Docker is needed here, so what `docker build` does is read from the Dockerfile: each file it copies, each variable it sets.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import tomllib
from pathlib import PurePosixPath

import click
import pytest
from support.manifests import K8S, SCRIPT, TOP, ours, overlay

from api.cli.commands import ray_history

DOCKERFILE = (K8S / "images" / "Dockerfile").read_text()
LINES = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
IGNORED = [line for line in (TOP / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


def instructions(word: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in LINES if line.partition(" ")[0] == word]


def copied() -> list[str]:
    """What is copied from the build context."""
    found = [shlex.split(line) for line in instructions("COPY") if "--from=" not in line]
    return [source for words in found for source in words[:-1]]


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a file in: the last line that fits decides, and a line for a folder is for all below it."""
    kept = True
    for line in IGNORED:
        pattern = line.removeprefix("!")
        places = [PurePosixPath(path), *PurePosixPath(path).parents][:-1]
        if any(_fits(str(place), pattern) for place in places):
            kept = line.startswith("!")
    return kept


def _fits(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(PurePosixPath(path).name, pattern.removeprefix("**/"))
    return "/" not in path and fnmatch.fnmatchcase(path, pattern)


def environment() -> dict[str, str]:
    """What the last stage sets."""
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :].replace("\\\n", " ")
    words = shlex.split(re.findall(r"^ENV (.+)$", last, re.MULTILINE)[0])
    return dict(word.split("=", 1) for word in words)


def test_every_file_that_is_copied_is_there_and_in_the_context() -> None:
    assert set(copied()) == {"LICENSE", "README.md", "api", "constraints.txt", "pipeline", "pyproject.toml"}
    for source in copied():
        assert (TOP / source).exists()
        assert in_context(source)


@pytest.mark.parametrize("name", ["pipeline", "api"])
def test_all_of_our_code_and_its_pages_are_in_the_context(name: str) -> None:
    files = [path for path in (TOP / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) > 30
    assert not [path for path in files if not in_context(str(path.relative_to(TOP)))]


@pytest.mark.parametrize(
    "path",
    [".git/config", ".venv/bin/python", "tests/conftest.py", "k8s/base/server.yaml", ".env", "api/__pycache__/x.pyc"],
)
def test_nothing_else_is(path: str) -> None:
    assert not in_context(path)


def test_what_pyproject_reads_is_copied() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"]} <= set(copied())


def test_it_is_installed_with_known_versions_and_nats_and_without_what_tests_need() -> None:
    install = next(line for line in instructions("RUN") if "pip install" in line)
    assert "--constraint constraints.txt" in install
    assert shlex.split(install)[-1] == ".[nats]"
    assert "nats" in tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_every_variable_is_one_that_the_commands_read() -> None:
    read = {
        each
        for command in ("collect", "serve")
        for param in ray_history.commands[command].params
        for each in param.envvar
    }  # type: ignore[union-attr]
    assert {name for name in environment() if name.startswith("RAY_HISTORY_")} <= read


def test_the_pages_are_where_the_server_looks_for_them() -> None:
    pages = environment()["RAY_HISTORY_DASHBOARDS"]
    install = next(line for line in instructions("RUN") if "dashboard install" in line)
    assert f"--dashboards {pages} " in install
    assert f"--from=pages {pages} {pages}" in instructions("COPY")
    words = shlex.split(install[install.index("ray-history dashboard") : install.index(" ||")])
    command = ray_history.commands["dashboard"]
    assert isinstance(command, click.Group)
    assert command.commands["install"].make_context("install", words[3:]).params["version"] == "$version"


def test_the_versions_of_the_pages_are_rays_in_the_manifests() -> None:
    """Pages of another version than the session's would do, its own do better."""
    said = {re.findall(r'RAY_VERSIONS[=-]"?([\d. ]+\d)', text)[0] for text in (DOCKERFILE, SCRIPT.read_text())}
    clusters = [
        one["spec"].get("rayClusterSpec", one["spec"]) for one in overlay("kind") if one["kind"].startswith("Ray")
    ]
    assert said == {one["rayVersion"] for one in clusters}
    images = {
        group["template"]["spec"]["containers"][0]["image"]
        for one in clusters
        for group in [one["headGroupSpec"], *one["workerGroupSpecs"]]
    }
    assert images == {f"rayproject/ray:{each}" for each in said}


def test_the_user_is_the_one_that_the_manifests_name() -> None:
    assert instructions("USER") == ["1000:100"]
    for command in ("collect", "serve"):
        for pod, container in ours(overlay("kind"), command):
            security = pod.spec.get("securityContext", {}) | container["securityContext"]
            assert f"{security['runAsUser']}:{security['runAsGroup']}" == "1000:100"
    assert any("useradd --uid 1000 --gid 100 " in line for line in instructions("RUN"))


def test_without_a_word_it_is_a_collector() -> None:
    """KubeRay's operator gives its collector no command."""
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["ray-history"]
    assert json.loads(instructions("CMD")[0]) == ["collect"]
    data = environment()["RAY_HISTORY_DATA_DIR"]
    assert data.startswith(environment()["HOME"])
    assert any(f"install -d -o 1000 -g 100 -m 0770 {environment()['HOME']}" in line for line in instructions("RUN"))


def test_the_base_image_is_pinned() -> None:
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+-slim-\w+", instructions("ARG")[0])
    assert {line.split()[0] for line in instructions("FROM")} == {"${PYTHON_IMAGE}", "build"}

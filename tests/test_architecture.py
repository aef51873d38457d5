"""The import directions hold: data flows one way, and so do imports.

The layers below are the way of the data. A module may import from its own layer's earlier rows and from
lower layers, never upwards; ``pipeline`` never imports ``api``. Type-only imports count too.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "api")


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, known: set[str]) -> set[str]:
    """The project's own modules that ``path`` imports, resolved to modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.update(
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else str(node.module)
                for alias in node.names
            )
    return {name for name in found if name.split(".")[0] in PACKAGES}


MODULES = modules()
GRAPH = {name: imports(path, set(MODULES)) for name, path in MODULES.items()}


def test_the_pipeline_never_imports_the_api() -> None:
    wrong = {
        name: sorted(t for t in to if t.startswith("api")) for name, to in GRAPH.items() if name.startswith("pipeline")
    }
    assert {name: to for name, to in wrong.items() if to} == {}


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Ways that lead back to where they begin."""
    done: set[str] = set()
    found: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            found.append(" -> ".join((*path[path.index(name) :], name)))
        elif name not in done:
            for to in sorted(graph.get(name, ())):
                visit(to, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    return found


def folder(module: str) -> str:
    """The room that a module stands in: its folder, or itself where it stands beside the folders."""
    parts = module.split(".")
    return ".".join(parts[:2])


def test_no_module_imports_itself_through_others() -> None:
    assert circles(GRAPH) == []


def test_no_folder_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {}
    for name, imported in GRAPH.items():
        graph.setdefault(folder(name), set()).update({folder(to) for to in imported} - {folder(name)})
    assert circles(graph) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a -> b -> c -> a"]


@pytest.mark.parametrize("package", PACKAGES)
def test_init_files_stay_empty(package: str) -> None:
    assert [str(p) for p in (ROOT / package).rglob("__init__.py") if p.read_text().strip()] == []


PURE = {
    "pipeline.events",
    "pipeline.layout",
    "pipeline.errors",
    "pipeline.segments.segment",
    "pipeline.segments.batch",
    "pipeline.decoding",
    "api.index",
    "api.query",
    "api.views",
}
"""Modules, and packages with all that is in them."""


def test_the_pure_core_holds_no_async_no_files_no_clock_no_log() -> None:
    forbidden = {"asyncio", "anyio", "time", "structlog", "logging", "pathlib", "os", "aiobotocore", "starlette"}
    pure = [name for name in MODULES if name in PURE or name.startswith(tuple(f"{each}." for each in PURE))]
    wrong = {}
    for name in pure:
        tree = ast.parse(MODULES[name].read_text())
        used = {
            (alias.name if isinstance(node, ast.Import) else str(node.module)).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        asynchronous = any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree))
        if used & forbidden or asynchronous:
            wrong[name] = sorted(used & forbidden) + (["async"] if asynchronous else [])
    assert wrong == {}


@pytest.mark.parametrize(
    ("library", "only_in"),
    [
        ("aiobotocore", {"pipeline.stores.s3"}),
        ("botocore", {"pipeline.stores.s3"}),
        ("watchfiles", None),
        ("ray", set()),
    ],
)
def test_vendors_stay_behind_their_module(library: str, only_in: set[str] | None) -> None:
    users = set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [str(node.module)]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if any(n.split(".")[0] == library for n in names):
                users.add(name)
    if only_in is None:
        assert len(users) <= 1, users
    else:
        assert users <= only_in

"""The official dashboard's own pages: which builds there are, which one suits a session, and its files.

A *build* is the folder that Ray ships as ``ray/dashboard/client/build``. Builds come from ``--dashboard-dir``
(one build, or a folder of them named by Ray version), from ``ray-history dashboard install``, and from a
``ray`` installed beside us, which is found but never imported. Owns the choice and the reading; which
address a file has is for the routes. Promises never to read outside a build's folder (starlette's
``StaticFiles`` sees to it) and never to answer a page where there is no such file.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

INDEX = "index.html"
_VERSION = re.compile(r"\d+(\.\d+)*[A-Za-z0-9.+-]*")
# Names below static/ carry a hash of their content, so they never change; the page that names them may.
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"


class Build(Struct, frozen=True):
    """One version of the pages. ``version`` is Ray's, or ``""`` where the folder doesn't say."""

    version: str
    folder: Path


def is_build(folder: Path) -> bool:
    """Whether a folder holds the dashboard's pages."""
    return (folder / INDEX).is_file() and (folder / "static").is_dir()


def find_builds(dashboard_dir: Path | None, installed: Path | None) -> list[Build]:
    """Every build there is, those the user named first."""
    found: list[Build] = []
    for folder in filter(None, (dashboard_dir, installed)):
        found.extend(_builds_in(folder))
    found.extend(_build_of_installed_ray())
    return found


def _builds_in(folder: Path) -> Iterator[Build]:
    if is_build(folder):
        yield Build(folder.name if _VERSION.fullmatch(folder.name) else "", folder)
        return
    if not folder.is_dir():
        return
    for child in sorted(folder.iterdir()):
        if _VERSION.fullmatch(child.name) and is_build(child):
            yield Build(child.name, child)


def _build_of_installed_ray() -> Iterator[Build]:
    try:
        spec = importlib.util.find_spec("ray")
        version = importlib.metadata.version("ray")
    except (ImportError, ValueError):
        return
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "dashboard" / "client" / "build"
    if is_build(folder):
        yield Build(version, folder)


def version_order(version: str) -> tuple[int, ...]:
    """Sorts versions as numbers: 2.9 before 2.60."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:4])


def _as_number(order: tuple[int, ...]) -> int:
    major, minor, patch, *_ = (*order, 0, 0, 0)
    return (major * 10_000 + minor) * 10_000 + patch


def choose(builds: list[Build], ray_version: str | None) -> Build | None:
    """The build that suits a session best: its own version, else the nearest of its minor line, else the nearest above, else the newest.

    One that doesn't say its version was named for all sessions, and is taken.
    """
    if not builds:
        return None
    if any(not build.version for build in builds):
        return next(build for build in builds if not build.version)
    wanted = version_order(ray_version or "")
    if not wanted:
        return max(builds, key=lambda build: version_order(build.version))

    def distance(build: Build) -> tuple[bool, bool, int]:
        has = version_order(build.version)
        return has[:2] != wanted[:2], has < wanted, abs(_as_number(has) - _as_number(wanted))

    exact = [build for build in builds if build.version == ray_version]
    return exact[0] if exact else min(builds, key=distance)


class DashboardFiles:
    """Answers a build's files. Made once; the builds are looked for once, at the start."""

    def __init__(self, builds: list[Build]) -> None:
        self.builds = builds
        self._files = {build: StaticFiles(directory=build.folder) for build in builds}

    async def file(self, ray_version: str | None, path: str, scope: Scope) -> Response | None:
        """The file at ``path`` (``""``: the page itself) of the build that suits, or None where there is none."""
        build = choose(self.builds, ray_version)
        if build is None:
            return None
        try:
            response = await self._files[build].get_response(path or INDEX, scope)
        except HTTPException as exc:
            if exc.status_code == 405:
                raise
            return None
        headers = MutableHeaders(raw=response.raw_headers)
        headers["cache-control"] = IMMUTABLE if path.startswith("static/") else REVALIDATE
        return response

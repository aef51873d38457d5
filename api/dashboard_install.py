"""``ray-history dashboard install``: fetch the official pages of a Ray version from the package index, with pip.

Owns what leaves the wheel: only files below ``ray/dashboard/client/build``, never a path that leads out of
it, never more than ``MAX_BYTES``. The build appears whole or not at all (unpacked beside, then renamed).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from api.dashboard import INDEX, is_build
from pipeline.errors import ConfigError, RayHistoryError

PREFIX = "ray/dashboard/client/build/"
MAX_BYTES = 512 << 20
MAX_FILES = 20_000
# Ray's wheels differ by platform, its pages don't: any wheel of the version will do.
ANY_WHEEL = ("--platform", "manylinux2014_x86_64", "--python-version", "3.11", "--implementation", "cp")


class NotFetched(RayHistoryError):
    """The package index gave no such version, or no answer."""


def install(version: str | None, into: Path) -> Path:
    """Fetch and unpack; returns the build's folder. ``version`` None: the newest.

    Raises ``NotFetched`` with pip's own words, ``ConfigError`` where the wheel has no pages.
    """
    with tempfile.TemporaryDirectory(prefix="ray-history-") as folder:
        wheel = _download(version, Path(folder))
        return unpack(wheel, into)


def _download(version: str | None, folder: Path) -> Path:
    wanted = f"ray=={version}" if version else "ray"
    said = ""
    for extra in ((), ANY_WHEEL):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]
        done = subprocess.run([*command, str(folder), *extra, wanted], capture_output=True, text=True, check=False)
        wheels = list(folder.glob("ray-*.whl"))
        if done.returncode == 0 and wheels:
            return wheels[0]
        said = done.stderr.strip().rpartition("\n")[2] or f"pip ended with {done.returncode}"
    raise NotFetched(f"could not fetch {wanted}: {said}")


def unpack(wheel: Path, into: Path) -> Path:
    """Take the pages out of a wheel. The version is the one its own name carries."""
    version = wheel.name.split("-")[1]
    target = into / version
    into.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory(dir=into, prefix=".unpack-") as scratch:
        build = Path(scratch) / "build"
        members = [info for info in archive.infolist() if info.filename.startswith(PREFIX) and not info.is_dir()]
        if len(members) > MAX_FILES or sum(info.file_size for info in members) > MAX_BYTES:
            raise ConfigError(f"{wheel.name} holds more than the dashboard's pages can be")
        for info in members:
            name = PurePosixPath(info.filename.removeprefix(PREFIX))
            if name.is_absolute() or ".." in name.parts:
                raise ConfigError(f"{wheel.name} holds a file that leads out of its folder: {info.filename!r}")
            path = build.joinpath(*name.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        if not is_build(build):
            raise ConfigError(f"{wheel.name} holds no dashboard pages ({PREFIX}{INDEX})")
        if target.exists():
            shutil.rmtree(target)
        build.rename(target)
    return target

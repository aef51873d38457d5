"""``ray-history dashboard``: the official pages that are served for sessions, fetched and listed."""

from __future__ import annotations

import re
from pathlib import Path

import click

from api.cli.options import dashboard_dir_option, dashboards_option
from api.dashboard import find_builds
from api.dashboard_install import install
from pipeline.errors import ConfigError

_VERSION = re.compile(r"\d+(\.\d+){1,3}[A-Za-z0-9.]*")


@click.group()
def dashboard() -> None:
    """The official dashboard's pages, for the sessions that are served.

    Several versions may stand side by side: a session is shown with the pages of its own Ray, or the nearest.
    Where Ray is installed beside this program, its pages are used too.
    """


@dashboard.command("install")
@click.argument("version", required=False)
@dashboards_option
def install_pages(version: str | None, dashboards: Path) -> None:
    """Fetch the pages of a Ray VERSION (the newest without one) from the package index, with pip."""
    if version is not None and _VERSION.fullmatch(version) is None:
        raise ConfigError(f"not a version of Ray: {version[:40]!r}")
    try:
        build = install(version, dashboards.expanduser().absolute())
    except OSError as exc:
        raise ConfigError(f"--dashboards {dashboards}: {exc.strerror or exc}") from exc
    click.echo(f"the pages of Ray {build.name} are in {build}")


@dashboard.command("list")
@dashboard_dir_option
@dashboards_option
def list_pages(dashboard_dir: Path | None, dashboards: Path) -> None:
    """Which pages there are, those that are preferred first."""
    builds = find_builds(dashboard_dir, dashboards.expanduser())
    for build in builds:
        click.echo(f"{build.version or 'any'}\t{build.folder}")
    if not builds:
        click.echo("none: fetch some with `ray-history dashboard install`", err=True)

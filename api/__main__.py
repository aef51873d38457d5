"""The program ``ray-history`` (also ``python -m api``)."""

from __future__ import annotations

import sys

import click

from api.cli.commands import ray_history
from pipeline.errors import ConfigError, RayHistoryError


def main() -> None:
    """Run the command line. What is wrong with the settings is one line and exit code 2; what else stops it, one line and 1."""
    try:
        ray_history(prog_name="ray-history")
    except RayHistoryError as exc:
        click.echo(f"ray-history: {exc}", err=True)
        sys.exit(2 if isinstance(exc, ConfigError) else 1)


if __name__ == "__main__":
    main()

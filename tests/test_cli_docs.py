"""docs/cli.md has every command, and each of its examples is one that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from api.cli.commands import ray_history

DOC = (Path(__file__).resolve().parent.parent / "docs" / "cli.md").read_text()
EXAMPLES = [part for line in DOC.split("\n") if line.startswith("ray-history ") for part in line.split(" | ")]
ASKED = [re.sub(r"^xargs -n1 ", "", part) for part in EXAMPLES]
COMMANDS = [shlex.split(part)[1:] for part in ASKED if part.startswith("ray-history ")]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})


def taken(command: click.Command, name: str, arguments: list[str]) -> list[str]:
    """The names of the commands that take the arguments. Raises where one doesn't."""
    with command.make_context(name, list(arguments)) as context:
        if not isinstance(command, click.Group):
            return [name]
        said, below, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert said is not None
        assert below is not None
        return [name, *taken(below, said, rest)]


def leaves(command: click.Command, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    return [leaf for name, below in command.commands.items() for leaf in leaves(below, (*path, name))]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_example_is_a_command_that_is_taken(arguments: list[str]) -> None:
    assert taken(ray_history, "ray-history", arguments)[1] == arguments[0]


def test_every_command_has_an_example() -> None:
    shown = {tuple(taken(ray_history, "ray-history", arguments)) for arguments in COMMANDS}
    assert shown == set(leaves(ray_history, ("ray-history",)))

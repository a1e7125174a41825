"""Help, --json and a place in the documentation: every command has them."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from compute.cli import app


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All commands of a group, and of those in it."""
    if hasattr(group, "commands"):
        for part, command in group.commands.items():
            yield from commands(command, f"{name} {part}".strip())
    else:
        yield name, group


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", ALL)
def test_a_command_has_help_and_json(name: str) -> None:
    command = ALL[name]
    assert command.help
    options = {option for param in command.params for option in param.opts}
    assert "--json" in options
    unexplained = [param.name for param in command.params if not getattr(param, "help", None)]
    assert unexplained == []


def test_a_command_that_talks_to_a_server_takes_its_address_and_its_key() -> None:
    """Both or none."""
    for name, command in ALL.items():
        options = {option for param in command.params for option in param.opts}
        assert ("--url" in options) == ("--key" in options), name

"""`python -m tools.cli_reference`: write the reference of all commands into docs/cli.md."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from compute.cli import app

__all__ = ["PAGE", "commands", "reference", "with_reference"]

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"

BEGIN, END = "<!-- made by `python -m tools.cli_reference` from here -->", "<!-- to here -->"
_OWN = ("--help", "--install-completion", "--show-completion")
_COMMON = ("--json", "--url", "--key", *_OWN)
"""Options that most commands have; they are described once."""


def commands() -> Iterator[tuple[str, Any]]:
    """All commands by their full names."""
    yield from _in(typer.main.get_command(app), "compute")


def reference() -> str:
    """A section for each command: what it does, its arguments and its options."""
    return "\n\n".join(_section(name, command) for name, command in commands())


def with_reference(page: str) -> str:
    """The page with a reference that is up to date between its marks.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no marks for the reference")
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}"


def _in(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(group, "commands"):
        yield name, group
        return
    for part, command in group.commands.items():
        yield from _in(command, f"{name} {part}")


def _section(name: str, command: Any) -> str:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option" and not _is_common(param)]
    shared = [f"`{param.opts[0]}`" for param in command.params if _is_common(param)]
    parts = [f"### {' '.join([name, *map(_placeholder, arguments)])}", _prose(command.help or "")]
    rows = [f"| `{_names(param)}` | {_cell(param)} |" for param in (*arguments, *options)]
    if rows:
        parts.append("\n".join(["| | |", "|--|--|", *rows]))
    if shared:
        parts.append(f"Also {', '.join(shared)}.")
    return "\n\n".join(parts)


def _is_common(param: Any) -> bool:
    return any(option in _COMMON for option in param.opts)


def _placeholder(argument: Any) -> str:
    name = argument.name.upper()
    return f"{name} …" if argument.nargs == -1 else name


def _names(param: Any) -> str:
    if param.param_type_name == "argument":
        return str(param.name.upper())
    names = ", ".join([*param.opts, *param.secondary_opts])
    if param.is_flag:
        return names
    return f"{names} {param.metavar or 'VALUE'}"


def _cell(param: Any) -> str:
    words = " ".join(str(param.help or "").split()).replace("|", "\\|")
    default = None if callable(param.default) else param.default
    if default in (None, "", (), [], False) or param.is_flag or param.required:
        return words
    return f"{words} By default `{default}`."


def _prose(text: str) -> str:
    return "\n\n".join(textwrap.fill(" ".join(part.split()), 120) for part in text.split("\n\n"))


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text()))

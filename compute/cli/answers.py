"""The output of the commands: text for people, or one JSON value with `--json`."""

import json
from typing import Annotated, Any

import typer

__all__ = ["AsJson", "print_json"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]


def print_json(value: Any) -> None:
    """Print a value for programs. Progress messages go to standard error meanwhile."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))

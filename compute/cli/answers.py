"""What the commands print: words for people, or one JSON value with --json."""

import json
from typing import Annotated, Any

import typer

__all__ = ["AsJson", "print_json"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of words.")]


def print_json(value: Any) -> None:
    """Print a value for programs; what is shown meanwhile goes to standard error."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))

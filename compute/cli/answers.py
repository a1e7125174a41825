"""The output of the commands: text for people, or JSON with `--json`; streams have one JSON value a line."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer

from compute.terminal.words import clean

__all__ = ["AsJson", "moment", "percent", "plain", "print_json", "print_line", "print_table", "sound"]

Answer = TypeVar("Answer")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def print_json(value: Any) -> None:
    """Print a value for programs. Progress messages go to standard error meanwhile."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_line(value: Any) -> None:
    """Print one value of a stream on a line of its own, at once."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)  # noqa: T201 - typer.echo does not flush a pipe


def plain(answer: Any) -> Any:
    """An answer of the client as JSON has it."""
    # Words of a newer server are not of the types that the schemas name, and need no warning.
    return answer.model_dump(mode="json", warnings=False) if hasattr(answer, "model_dump") else answer


def sound(answer: Answer, field: str = "id") -> Answer:
    """The answer, if it is one: the client reads leniently, and takes any object for a task.

    Raises:
        UnexpectedAnswer: it has no id, or lacks another field that every answer has.
    """
    from compute.client import UnexpectedAnswer

    if getattr(answer, field, None) is None:
        raise UnexpectedAnswer("the server does not answer as this API does")
    return answer


def print_table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, nothing: str = "none") -> None:
    """Print rows in columns of equal width. Nothing is cut off, so that the output can be searched.

    Example:
        print_table(["id", "status"], [["1", "PENDING"]])
    """
    lines = [[clean(_text(value)) for value in row] for row in rows]
    if not lines:
        typer.echo(nothing, err=True)
        return
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    for line in [[name.upper() for name in head], *lines]:
        typer.echo("  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip())


def percent(value: Any) -> str:
    """A progress; what a server says otherwise stays as it is."""
    return f"{value or 0:.0f} %" if isinstance(value or 0, int | float) else str(value)


def moment(value: Any) -> str | None:
    """A moment, in seconds; what a server says otherwise stays as it is."""
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else None if value is None else str(value)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.1f}".removesuffix(".0")
    return str(value)

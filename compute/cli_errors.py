"""What the commands do with what goes wrong. Everything is imported where it is used, as in `compute.cli`."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

__all__ = ["one_line_errors"]


@contextmanager
def one_line_errors(*also: type[Exception]) -> Iterator[None]:
    """Tell what is wrong in one line and exit with 1: of what the operator can mend, and of `also`."""
    from compute.stack.errors import ExitCode, StackError

    expected: tuple[type[Exception], ...] = (StackError, OSError, *also)
    try:
        yield
    except expected as error:
        typer.echo(f"compute: {error}", err=True)
        raise typer.Exit(ExitCode.FAILED) from error

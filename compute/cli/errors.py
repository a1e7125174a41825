"""What the commands do with what goes wrong. Everything is imported where it is used, as in `compute.cli`."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

__all__ = ["INTERRUPTED", "one_line_errors"]

INTERRUPTED = 130


@contextmanager
def one_line_errors(*also: type[Exception]) -> Iterator[None]:
    """Tell what is wrong in one line and exit with 1: of what the operator can mend, and of `also`.

    Ctrl-C exits with 130 and says nothing.
    """
    from compute.stack.errors import ExitCode, StackError

    expected: tuple[type[Exception], ...] = (StackError, OSError, *also)
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our answer has had enough of it.
        raise
    except expected as error:
        typer.echo(f"compute: {_said(error)}", err=True)
        raise typer.Exit(ExitCode.FAILED) from error


def _said(error: Exception) -> str:
    """The message, without signs that a terminal would act on: parts of it may be somebody else's."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in said)

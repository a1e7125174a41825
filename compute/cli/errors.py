"""Error handling of the commands. Heavy modules are imported inside functions, as in `compute.cli`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from compute.stack.errors import ExitCode

__all__ = ["INTERRUPTED", "SERVER_NEEDS", "one_line_errors"]

INTERRUPTED = 130
SERVER_ERRORS = 500
SERVER_NEEDS = "install all that a server needs, in the folder of the project: pip install '.[server]'"


@contextmanager
def one_line_errors(*also: type[Exception]) -> Iterator[None]:
    """Print an expected error as one line and exit with the code that fits it, 1 if there is no other.

    Expected are the errors that an operator can fix (StackError, OSError, text that is none), those in `also`, and a
    package that only the extra `server` brings. Ctrl-C exits with 130 and prints nothing.
    """
    from compute.stack.errors import ExitCode, StackError

    expected: tuple[type[Exception], ...] = (StackError, OSError, UnicodeError, *also)
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output has closed the pipe.
        raise
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "compute":
            raise
        needed = f"this command needs the package {error.name}; {SERVER_NEEDS}"
        typer.echo(f"compute: {needed}", err=True)
        raise typer.Exit(ExitCode.FAILED) from error
    except expected as error:
        typer.echo(f"compute: {_message(error)}", err=True)
        raise typer.Exit(_exit_code(error)) from error


def _exit_code(error: Exception) -> "ExitCode":
    """The exit code for an error of the client by what the caller can do about it."""
    from compute.stack.errors import ExitCode

    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "WaitTimeout" in kinds:
        return ExitCode.NOT_IN_TIME
    if "NoAnswer" in kinds:
        return ExitCode.NOT_RUNNING
    status = getattr(error, "status", None)
    if "UnavailableError" in kinds:
        return ExitCode.NOT_READY
    if status in (401, 403):
        return ExitCode.NOT_ALLOWED
    if status == 404:
        return ExitCode.NOT_FOUND
    return ExitCode.NOT_READY if status in (408, 429, 502, 503, 504) else ExitCode.FAILED


def _message(error: Exception) -> str:
    """The message without control characters: parts of it may come from another machine."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, UnicodeError):
        said = "an argument, or what it names, is not valid text"
    if (request := getattr(error, "request_id", None)) and (getattr(error, "status", None) or 0) >= SERVER_ERRORS:
        said = f"{said} (request {request})"
    said = "; ".join([said, *getattr(error, "__notes__", ())])
    return "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in said)

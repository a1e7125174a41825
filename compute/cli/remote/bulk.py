"""`compute bulk`: many tasks from a file of JSON lines."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compute.cli.answers import AsJson, plain, print_line
from compute.cli.errors import INTERRUPTED
from compute.cli.fields import strict_json
from compute.cli.remote.following import follow
from compute.cli.server import Key, Url, connected
from compute.terminal.words import clean

if TYPE_CHECKING:
    from compute.client import ClientError, Compute, InvalidInputError, Task

__all__ = ["bulk"]

AT_ONCE = 500
"""Tasks of one request; a server takes 1,000 unless an operator says otherwise."""
_PREFIX = re.compile(r"[!-~]{1,200}")


def _prefix(text: str) -> str:
    """The value of --key-prefix, which is sent in a header."""
    if _PREFIX.fullmatch(text) is None:
        raise typer.BadParameter("up to 200 visible characters of ASCII, without spaces")
    return text


def bulk(
    file: Annotated[Path, typer.Argument(help="One JSON object a line, each with a task_type; - is standard input.")],
    wait: Annotated[bool, typer.Option(help="Wait for all of them.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="With --wait: download the results into this folder.")
    ] = None,
    key_prefix: Annotated[
        str | None,
        typer.Option(
            parser=_prefix,
            metavar="TEXT",
            help="A word for this file: whoever sends it again under the same word makes nothing twice.",
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Submit many tasks; print their ids as they are accepted, in the order of the file.

    With --wait, print each task as it ends, and the ids to standard error; exit code 1 if one has failed.
    Before it begins it says, to standard error, the command that goes on if it breaks off, and submits nothing twice.
    """
    from compute.stack.errors import ExitCode

    if out is not None and not wait:
        raise typer.BadParameter("needs --wait", param_hint="--out")
    with connected(url, key) as (client, server):
        text = _text(file)
        bodies = list(_bodies(file, text))
        words = [str(file), *["--wait"] * wait, *([] if out is None else ["--out", str(out)])]
        prefix = key_prefix or _new_prefix(text)
        again = server.hint("bulk", *words, "--key-prefix", prefix)
        if key_prefix is None and bodies:
            # Now, for nobody may be there to say it when this process is killed.
            typer.echo(f"If this breaks off, submit the rest, and nothing twice: {again}", err=True)
        submitted: list[Task] = []
        with _telling_how_far(submitted, len(bodies), again):
            for accepted in _submitted(client, file, bodies, prefix):
                submitted += accepted
                for task in accepted:
                    _tell(task, wait=wait, as_json=as_json)
        if not wait:
            return
        try:
            failed = follow(client, submitted, out, as_json=as_json)
        except KeyboardInterrupt:
            typer.echo("The tasks go on; `compute task cancel` stops them.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        if failed:
            told = f"{failed} of {len(submitted)} tasks failed, or their results were not fetched"
            typer.echo(f"compute: {told}", err=True)
            raise typer.Exit(ExitCode.FAILED)


def _new_prefix(text: str) -> str:
    """A word for a file that was given none; every run has another, and makes tasks of its own."""
    from uuid import uuid4

    return f"{hashlib.sha256(text.encode()).hexdigest()[:12]}-{uuid4().hex[:12]}"


@contextmanager
def _telling_how_far(submitted: "Sequence[Task]", number: int, again: str) -> Iterator[None]:
    """If the block breaks off, say how many of so many tasks were submitted, and the command that goes on."""
    from compute.client import ClientError

    try:
        yield
    except BaseException as error:
        told = f"{len(submitted)} of {number} tasks were accepted; submit the others, and none twice: {again}"
        if not isinstance(error, ClientError):
            typer.echo(told, err=True)
        elif submitted or error.may_pass:
            # It is printed in the line of the error.
            error.add_note(told)
        raise


def _submitted(
    client: "Compute", file: Path, bodies: "Sequence[tuple[int, dict[str, Any]]]", prefix: str
) -> Iterator["list[Task]"]:
    """Submit tasks, and yield those of each request once it is accepted.

    Args:
        bodies: With the numbers of their lines.

    Raises:
        ClientError: a request was refused or got no answer; names the lines that are wrong.
    """
    from compute.client import InvalidInputError

    for start in range(0, len(bodies), AT_ONCE):
        chunk = bodies[start : start + AT_ONCE]
        try:
            yield client.tasks.submit_all([body for _, body in chunk], idempotency_key=f"{prefix}-{start}")
        except InvalidInputError as error:
            raise _in_lines(file, [line for line, _ in chunk], error) from error


def _in_lines(file: Path, lines: Sequence[int], error: "InvalidInputError") -> "ClientError":
    """The same error with the lines of the file in place of the numbers of a request's tasks."""
    from compute.client import ClientError

    said = []
    for fault in error.faults:
        place = list(fault.loc[1:] if fault.loc[:1] == ("body",) else fault.loc)
        if place[:1] != ["tasks"] or len(place) < 2 or not isinstance(place[1], int) or place[1] >= len(lines):
            return error
        field = "".join(f"{part}: " for part in [".".join(map(str, place[2:]))] if part)
        said.append(f"{file}, line {lines[place[1]]}: {field}{fault.message}")
    return ClientError("\n  ".join(said), error.status) if said else error


def _text(file: Path) -> str:
    """The text of a file or of standard input.

    Raises:
        StackError: it is none.
    """
    from compute.stack.errors import StackError

    data = typer.get_binary_stream("stdin").read() if str(file) == "-" else file.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StackError(f"{file} is no text in UTF-8, from its byte {error.start} on") from error


def _bodies(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of the file with the numbers of their lines, which end where JSON says so, and at no other sign.

    Raises:
        StackError: a line is none; names it.
    """
    from compute.stack.errors import StackError

    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = strict_json(line)
        except ValueError as error:
            raise StackError(f"{file}, line {number}: {error}") from error
        if not isinstance(found, dict):
            raise StackError(f"{file}, line {number} must be an object with a task_type")
        yield number, found


def _tell(task: "Task", *, wait: bool, as_json: bool) -> None:
    """Print the id of a task that was accepted: to standard error where it is printed again when it has ended."""
    if as_json and not wait:
        print_line(plain(task))
    else:
        typer.echo(clean(str(task.id)), err=wait)

"""`compute bulk`: many tasks from a file of JSON lines."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compute.cli.answers import AsJson, plain, print_line
from compute.cli.errors import INTERRUPTED
from compute.cli.fields import strict_json
from compute.cli.remote.following import follow
from compute.cli.server import Key, Server, Url, connected
from compute.terminal.words import clean

if TYPE_CHECKING:
    from compute.client import Compute, Task

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
    If it breaks off, it says how many tasks were accepted, and the command that submits only the others.
    """
    from compute.stack.errors import ExitCode

    if out is not None and not wait:
        raise typer.BadParameter("needs --wait", param_hint="--out")
    with connected(url, key) as (client, server):
        text = _text(file)
        bodies = list(_bodies(file, text))
        words = [str(file), *["--wait"] * wait, *([] if out is None else ["--out", str(out)])]
        submitted: list[Task] = []
        for accepted in _submitted(client, server, words, bodies, key_prefix or _new_prefix(text)):
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


def _submitted(
    client: "Compute", server: Server, words: Sequence[str], bodies: Sequence[dict[str, Any]], prefix: str
) -> Iterator["list[Task]"]:
    """Submit tasks, and yield those of each request once it is accepted.

    Args:
        words: Arguments of the command, to go on with.

    Raises:
        ClientError: a request was refused or got no answer; a note says how to go on.
    """
    from compute.client import ClientError

    accepted = 0
    try:
        for start in range(0, len(bodies), AT_ONCE):
            chunk = bodies[start : start + AT_ONCE]
            made = client.tasks.submit_all(chunk, idempotency_key=f"{prefix}-{start}")
            accepted += len(chunk)
            yield made
    except (ClientError, KeyboardInterrupt) as error:
        if accepted or getattr(error, "may_pass", True):
            again = server.hint("bulk", *words, "--key-prefix", prefix)
            note = f"{accepted} of {len(bodies)} tasks were accepted; submit the others, and none twice: {again}"
            if isinstance(error, KeyboardInterrupt):
                typer.echo(note, err=True)
            error.add_note(note)
        raise


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


def _bodies(file: Path, text: str) -> Iterator[dict[str, Any]]:
    """The objects of the file, one a line; a line ends where JSON says so, and not at other signs of Unicode.

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
        yield found


def _tell(task: "Task", *, wait: bool, as_json: bool) -> None:
    """Print the id of a task that was accepted: to standard error where it is printed again when it has ended."""
    if as_json and not wait:
        print_line(plain(task))
    else:
        typer.echo(clean(str(task.id)), err=wait)

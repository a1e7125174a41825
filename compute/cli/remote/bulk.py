"""`compute bulk`: many tasks from a file of JSON lines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compute.cli.answers import AsJson, plain, print_line
from compute.cli.errors import INTERRUPTED
from compute.cli.progress import progress_bar
from compute.cli.server import Key, Url, connected
from compute.terminal.words import clean

if TYPE_CHECKING:
    from compute.client import Compute, Task

__all__ = ["bulk"]

AT_ONCE = 500
"""Tasks of one request; a server takes 1,000 unless an operator says otherwise."""
EVERY_SECONDS = 0.5
LOOKED_AT = 50


def bulk(
    file: Annotated[Path, typer.Argument(help="One JSON object a line, each with a task_type; - is standard input.")],
    wait: Annotated[bool, typer.Option(help="Wait for all of them.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="With --wait: download the results into this folder.")
    ] = None,
    key_prefix: Annotated[
        str | None,
        typer.Option(help="A word for this file: whoever sends it again under the same word makes nothing twice."),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Submit many tasks; print their ids, in the order of the file.

    With --wait, print each task as it ends; exit code 1 if one has failed.
    """
    from compute.stack.errors import ExitCode

    with connected(url, key) as (client, _):
        bodies = list(_bodies(file))
        submitted: list[Task] = []
        for start in range(0, len(bodies), AT_ONCE):
            chunk_key = None if key_prefix is None else f"{key_prefix}-{start}"
            submitted += client.tasks.submit_all(bodies[start : start + AT_ONCE], idempotency_key=chunk_key)
        if not wait:
            for task in submitted:
                _print(task, as_json=as_json, short=True)
            return
        try:
            failed = _follow(client, submitted, out, as_json=as_json)
        except KeyboardInterrupt:
            typer.echo("The tasks go on; `compute task cancel` stops them.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        if failed:
            typer.echo(f"compute: {failed} of {len(submitted)} tasks failed", err=True)
            raise typer.Exit(ExitCode.FAILED)


def _bodies(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of the file.

    Raises:
        StackError: a line is none; names it.
    """
    from compute.stack.errors import StackError

    text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            raise StackError(f"{file}, line {number}: {error}") from error
        if not isinstance(found, dict):
            raise StackError(f"{file}, line {number} must be an object with a task_type")
        yield found


def _follow(client: "Compute", submitted: "list[Task]", out: Path | None, *, as_json: bool) -> int:
    """Print each task as it ends, and download its results; the number of those that failed."""
    import time

    waiting = {task.id: task for task in submitted}
    failed = 0
    with progress_bar("bulk") as show:
        while waiting:
            # The oldest end first; asking for all at once would keep the server from its work.
            for task_id in list(waiting)[:LOOKED_AT]:
                task = client.tasks.get(task_id)
                if not task.ended:
                    continue
                del waiting[task_id]
                failed += task.status != "COMPLETED"
                if out is not None and task.status == "COMPLETED":
                    client.tasks.download(task, out)
                _print(task, as_json=as_json)
                show(100 * (1 - len(waiting) / len(submitted)), f"{len(submitted) - len(waiting)} of {len(submitted)}")
            if waiting:
                time.sleep(EVERY_SECONDS)
    return failed


def _print(task: "Task", *, as_json: bool, short: bool = False) -> None:
    if as_json:
        print_line(plain(task))
    elif short:
        typer.echo(task.id)
    else:
        typer.echo(clean(f"{task.id}  {task.status}  {task.error or ' '.join(task.paths)}"))

"""Submits a task, waits for it and fetches its results, as several commands do."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compute.cli.answers import plain, print_json, sound
from compute.cli.errors import INTERRUPTED
from compute.cli.progress import progress_bar
from compute.cli.remote.beginning import begun
from compute.cli.server import Server
from compute.terminal.words import clean

if TYPE_CHECKING:
    from compute.client import Compute, Event, Task

__all__ = ["Folder", "Timeout", "ended_or_cancelled", "fetch", "run", "until_ended"]

Folder = Annotated[Path, typer.Option("--out", "-o", help="The folder for the results, made if needed.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds to wait; without it, until the end.", min=0)]


def run(client: "Compute", server: Server, task_type: str, fields: dict[str, Any], out: Path, *, as_json: bool) -> None:
    """Have something done, and print the names of the files that came of it. Ctrl-C cancels the task."""
    # First, so that nothing is made that could not be written.
    out.mkdir(parents=True, exist_ok=True)
    fetch(client, ended_or_cancelled(client, task_type, fields), out, as_json=as_json)


def ended_or_cancelled(client: "Compute", task_type: str, fields: dict[str, Any]) -> "Task":
    """Submit a task, wait for it, and return it completed. Ctrl-C cancels it, whenever it comes, and exits with 130."""
    from compute.client import ClientError, ConflictError

    given = {name: value for name, value in fields.items() if value is not None}
    task, interrupted = begun(lambda **sent: sound(client.tasks.submit(task_type, given, **sent)))
    try:
        if interrupted:
            raise KeyboardInterrupt
        return until_ended(client, task)
    except KeyboardInterrupt:
        try:
            client.tasks.cancel(task)
            typer.echo(f"{task.id} is cancelled", err=True)
        except ConflictError:
            typer.echo(f"{task.id} had ended", err=True)
        except ClientError as error:
            typer.echo(f"{task.id} goes on, for it could not be cancelled: {clean(str(error))}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def until_ended(client: "Compute", task: "Task", timeout: float | None = None) -> "Task":
    """Wait for a task with a progress bar, and return it completed.

    Raises:
        EndedBadly: it failed or was cancelled.
        WaitTimeout: it has not ended in time.
    """
    with progress_bar(str(task.task_type).lower()) as show:
        percent = 0.0

        def tell(event: "Event") -> None:
            nonlocal percent
            percent = percent if event.progress is None else event.progress
            show(percent, event.text or event.status or "")

        return client.tasks.wait(task, timeout=timeout, on_event=tell)


def fetch(client: "Compute", task: "Task", out: Path, *, as_json: bool) -> None:
    """Write a completed task's results into a folder, and print the files' names, or what was said."""
    files = [str(file) for file in client.tasks.download(task, out)]
    if as_json:
        print_json({**plain(task), "files": files})
        return
    if task.result_text is not None:
        typer.echo(task.result_text)
    for file in files:
        typer.echo(file)

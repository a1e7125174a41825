"""Follows many tasks at once, and prints each as it ends. Heavy modules are imported inside functions."""

import time
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import typer

from compute.cli.answers import plain, print_line
from compute.cli.progress import progress_bar
from compute.terminal.words import clean

if TYPE_CHECKING:
    from compute.client import ClientError, Compute, Task

__all__ = ["follow"]

EVERY_SECONDS = 0.5
LOOKED_AT = 50
"""Tasks that are asked for between two pauses, unless the server has too much to do."""
PATIENCE_SECONDS = 120.0
"""Seconds without an answer after which the server is given up."""
TOO_MANY_REQUESTS = 429


def follow(client: "Compute", submitted: "list[Task]", out: Path | None, *, as_json: bool) -> int:
    """Print each task as it ends, and download its results; the number of those that failed or were not fetched.

    Raises:
        ClientError: the server refuses, or stays away.
    """
    waiting = dict.fromkeys(task.id for task in submitted)
    rounds = _Rounds()
    failed = 0
    with progress_bar("bulk") as show:
        while waiting:
            for task_id in list(waiting)[: rounds.size]:
                # To the end of the row, so that all have their turn even if the first never end.
                del waiting[task_id]
                ended = rounds.look(client, task_id)
                if ended is None:
                    waiting[task_id] = None
                    continue
                failed += not _finished(client, ended, out, as_json=as_json)
                show(100 * (1 - len(waiting) / len(submitted)), f"{len(submitted) - len(waiting)} of {len(submitted)}")
            if waiting:
                time.sleep(rounds.pause())
    return failed


class _Rounds:
    """Asks for tasks, as many between two pauses as the server lets it."""

    def __init__(self) -> None:
        self.size = LOOKED_AT
        self._answered = time.monotonic()
        self._asked_to_wait = 0.0

    def look(self, client: "Compute", task_id: UUID) -> "Task | ClientError | None":
        """A task that has ended, or the error if it is there no more; None for one to be asked for again.

        Raises:
            ClientError: the server refuses, or stays away.
        """
        from compute.client import ClientError, NotFoundError

        if self._asked_to_wait:
            return None
        try:
            found = client.tasks.get(task_id)
        except NotFoundError as error:
            return error
        except ClientError as error:
            self._wait_or_raise(error)
            return None
        self._answered = time.monotonic()
        return found if found.ended else None

    def pause(self) -> float:
        """Seconds until the next round; a limit that was met halves what is asked in a round."""
        waited, self._asked_to_wait = self._asked_to_wait, 0.0
        return max(EVERY_SECONDS, waited)

    def _wait_or_raise(self, error: "ClientError") -> None:
        limited = error.status == TOO_MANY_REQUESTS
        if limited:
            self._answered = time.monotonic()
        if not (limited or error.may_pass) or time.monotonic() - self._answered > PATIENCE_SECONDS:
            raise error
        self.size = max(1, self.size // 2)
        self._asked_to_wait = min(60.0, max(1.0, float(getattr(error, "retry_after", None) or 0)))


def _finished(client: "Compute", task: "Task | ClientError", out: Path | None, *, as_json: bool) -> bool:
    """Print a task that has ended, and fetch its results; False if it failed or they were not fetched."""
    from compute.client import ClientError

    if isinstance(task, ClientError):
        typer.echo(f"compute: {clean(str(task))}", err=True)
        return False
    good = task.status == "COMPLETED"
    if out is not None and good:
        try:
            client.tasks.download(task, out)
        except (ClientError, OSError) as error:
            # The results of the others are still to be had.
            typer.echo(f"compute: the results of {task.id} were not fetched: {clean(str(error))}", err=True)
            good = False
    if as_json:
        print_line(plain(task))
    else:
        typer.echo(clean(f"{task.id}  {task.status}  {task.error or ' '.join(task.paths)}"))
    return good

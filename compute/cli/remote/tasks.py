"""`compute task …`: tasks of every type."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from compute.cli.answers import AsJson, moment, percent, plain, print_json, print_line, print_table, sound
from compute.cli.errors import INTERRUPTED
from compute.cli.fields import Body, Fields, fields_of
from compute.cli.remote.beginning import begun
from compute.cli.remote.running import Folder, Timeout, fetch, until_ended
from compute.cli.server import Key, Url, connected
from compute.terminal.words import clean

if TYPE_CHECKING:
    from compute.client import Event, Task

__all__ = ["tasks"]

tasks = typer.Typer(no_args_is_help=True, help="Tasks on a running server.")

TaskId = Annotated[str, typer.Argument(help="The task's id, in either spelling.", show_default=False)]
Limit = Annotated[int, typer.Option(help="At most so many, the newest first.", min=1)]


def _types(incomplete: str) -> list[str]:
    """The types of tasks, for completion."""
    from compute.schemas.enums import TaskType

    return [str(name) for name in TaskType if name.startswith(incomplete.upper())]


def _statuses(incomplete: str) -> list[str]:
    from compute.schemas.enums import TaskStatus

    return [str(name) for name in TaskStatus if name.startswith(incomplete.upper())]


TaskTypeName = Annotated[
    str, typer.Argument(help="The type, such as GENERATION.", autocompletion=_types, show_default=False)
]


@tasks.command()
def submit(
    task_type: TaskTypeName,
    fields: Fields = None,
    body: Body = None,
    wait: Annotated[bool, typer.Option(help="Wait for the end, and download the results.")] = True,
    out: Folder = Path(),
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Submit a task of any type, wait for it and download its results.

    With --no-wait, print the task's id and return at once.
    """
    with connected(url, key) as (client, server):
        given = fields_of(client, body, fields)
        task, interrupted = begun(lambda **sent: sound(client.tasks.submit(task_type.upper(), given, **sent)))
        if interrupted:
            _goes_on(server.hint("task", "wait", str(task.id)))
        if wait:
            try:
                ended = until_ended(client, task)
            except KeyboardInterrupt:
                _goes_on(server.hint("task", "wait", str(task.id)))
            fetch(client, ended, out, as_json=as_json)
        else:
            _show(task, as_json=as_json, short=True)


@tasks.command("list")
def list_tasks(
    status: Annotated[str | None, typer.Option(help="Only in this status.", autocompletion=_statuses)] = None,
    task_type: Annotated[str | None, typer.Option("--type", help="Only of this type.", autocompletion=_types)] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List tasks, the newest first."""
    from itertools import islice

    with connected(url, key) as (client, _):
        wanted = client.tasks.list(
            status=status, task_type=task_type, origin_tenant_id=tenant, page_size=min(limit, 100)
        )
        found = list(islice(wanted, limit))
    if as_json:
        print_json([plain(task) for task in found])
        return
    head = ["id", "type", "status", "progress", "created", "error"]
    print_table(head, ([_id(one), one.task_type, one.status, *_state(one)] for one in found), nothing="no tasks")


@tasks.command()
def show(task_id: TaskId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show a task as it is now."""
    with connected(url, key) as (client, _):
        _show(sound(client.tasks.get(task_id)), as_json=as_json)


@tasks.command("wait")
def wait_for(
    task_id: TaskId, timeout: Timeout = None, as_json: AsJson = False, url: Url = None, key: Key = None
) -> None:
    """Wait for the end of a task; exit code 1 if it failed, 7 if it did not end in time."""
    with connected(url, key) as (client, server):
        # Asked once first: a server that was never there, or a task, is not waited for.
        task = sound(client.tasks.get(task_id))
        try:
            _show(
                task if task.ended and task.status == "COMPLETED" else until_ended(client, task, timeout),
                as_json=as_json,
            )
        except KeyboardInterrupt:
            _goes_on(server.hint("task", "wait", task_id))


@tasks.command()
def events(
    task_id: TaskId,
    after: Annotated[str | None, typer.Option(help="Begin behind the event with this id.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print what happens to a task until it has ended; with --json one JSON value a line."""
    with connected(url, key) as (client, _):
        sound(client.tasks.get(task_id))
        for event in client.tasks.events(task_id, after=after):
            if as_json:
                print_line({"id": event.id, "event": event.name, "data": event.data})
            else:
                typer.echo(_line(event))


@tasks.command()
def cancel(
    task_ids: Annotated[list[str], typer.Argument(help="The tasks' ids.", show_default=False)],
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Cancel tasks that have not ended."""
    with connected(url, key) as (client, _):
        cancelled = [sound(client.tasks.cancel(task_id)) for task_id in task_ids]
        if as_json:
            print_json([plain(task) for task in cancelled])
        else:
            for task in cancelled:
                typer.echo(f"{task.id} is {task.status}")


@tasks.command()
def download(task_id: TaskId, out: Folder = Path(), as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Download the results of a completed task, and print the files' names."""
    with connected(url, key) as (client, _):
        fetch(client, sound(client.tasks.get(task_id)), out, as_json=as_json)


@tasks.command()
def delete(
    task_id: TaskId,
    files_only: Annotated[bool, typer.Option("--files-only", help="Keep the task, and remove its files.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Delete a task that has ended, with its files, for good."""
    with connected(url, key) as (client, _):
        if files_only:
            client.tasks.clean_up(task_id)
        else:
            client.tasks.delete(task_id)
        if as_json:
            print_json({"id": task_id, "deleted": "files" if files_only else "all"})
        else:
            typer.echo(f"{task_id}: {'its files are' if files_only else 'it is'} deleted")


def _show(task: "Task", *, as_json: bool, short: bool = False) -> None:
    if as_json:
        print_json(plain(task))
    elif short:
        typer.echo(task.id)
    else:
        for name, value in _facts(task).items():
            typer.echo(f"{name}: {clean(str(value))}")


def _facts(task: "Task") -> dict[str, Any]:
    """What a person wants to know of a task, without what it has not."""
    facts = {
        "id": task.id,
        "type": task.task_type,
        "status": task.status,
        "progress": percent(task.progress),
        "created": task.created_at,
        "started": task.started_at,
        "ended": task.completed_at,
        "error": task.error,
        "text": task.result_text,
    }
    return {name: value for name, value in facts.items() if value is not None} | {
        f"result {number}": path for number, path in enumerate(task.paths, 1)
    }


def _id(task: "Task") -> str:
    return str(task.id)


def _state(task: "Task") -> list[Any]:
    return [percent(task.progress), moment(task.created_at), task.error or ""]


def _line(event: "Event") -> str:
    words = [event.name]
    if event.status and event.status.lower() != event.name:
        words.append(event.status)
    if event.progress is not None:
        words.append(f"{event.progress:.0f} %")
    if event.task is not None and event.task.error:
        words.append(event.task.error)
    if event.text:
        words.append(event.text)
    return clean("  ".join(words))


def _goes_on(command: str) -> NoReturn:
    typer.echo(f"The task goes on. Wait for it: {command}", err=True)
    raise typer.Exit(INTERRUPTED) from None

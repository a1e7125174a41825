"""`compute workflow`: run a workflow from a file and watch it. Heavy modules are imported inside functions.

Exit codes: 0 completed, 1 failed, cancelled or not accepted, 2 wrong usage, 130 no longer watched.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compute.cli.answers import AsJson, print_json
from compute.cli.errors import INTERRUPTED
from compute.cli.server import Key, Server, Url, connected
from compute.cli.watching import poll

if TYPE_CHECKING:
    from compute.client import Client

__all__ = ["workflows"]

workflows = typer.Typer(no_args_is_help=True, help="Workflows on a running server.")

POLL_SECONDS = 0.5

WorkflowId = Annotated[str, typer.Argument(help="The workflow's id.", show_default=False)]


@workflows.command()
def run(
    file: Annotated[Path, typer.Argument(help="YAML or JSON: a body of POST /api/v1/workflows/.", show_default=False)],
    watch: Annotated[bool, typer.Option(help="Show the progress until the workflow has ended.")] = True,
    given: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="KEY=VALUE", help="An input value: JSON, else text; @FILE uploads an image."),
    ] = None,
    input_file: Annotated[Path | None, typer.Option(help="A file of input values; --input overrides them.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Run a workflow that is defined in a file, and watch it until it has ended.

    With --no-watch, print the workflow's id and return at once.
    """
    pairs = _pairs(given or [])
    with connected(url, key) as (client, server):
        body = _object(file)
        values = _values(client, body, input_file, pairs)
        workflow_id = client.create_workflow(body | ({"input": values} if values else {}))
        if watch:
            _watch(client, server, workflow_id, as_json)
        elif as_json:
            print_json(client.workflow(workflow_id))
        else:
            typer.echo(workflow_id)


@workflows.command("watch")
def watch_workflow(workflow_id: WorkflowId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show a workflow's progress until it has ended."""
    with connected(url, key) as (client, server):
        _watch(client, server, workflow_id, as_json)


@workflows.command()
def show(workflow_id: WorkflowId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show the progress of a workflow once."""
    from rich.console import Console

    from compute.terminal.show import show as print_progress

    with connected(url, key) as (client, server):
        workflow = client.workflow(workflow_id)
        if as_json:
            print_json(workflow)
        else:
            print_progress([workflow], lambda step: server.hint("workflow", "approve", workflow_id, step), Console())


@workflows.command()
def approve(
    workflow_id: WorkflowId,
    step: Annotated[str, typer.Argument(help="The step's name.", show_default=False)],
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Approve a step that requires approval."""
    with connected(url, key) as (client, _):
        answer = client.approve_step(workflow_id, step)
        if as_json:
            print_json(answer)
        else:
            typer.echo(f"{step} is approved")


@workflows.command()
def cancel(workflow_id: WorkflowId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Cancel a workflow; completed steps keep their results."""
    with connected(url, key) as (client, _):
        answer = client.cancel_workflow(workflow_id)
        if as_json:
            print_json(answer)
        else:
            typer.echo(answer["status"])


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not name or not equals or name in pairs:
            raise typer.BadParameter(f"`{pair}` is not KEY=VALUE, or its key is given twice.", param_hint="--input")
        pairs[name] = value
    return pairs


def _values(client: "Client", body: dict[str, Any], input_file: Path | None, pairs: dict[str, str]) -> dict[str, Any]:
    """Merge the workflow's input from its definition, the input file and the command line; later sources override."""
    from compute.stack.errors import StackError

    defined = body.get("input") or {}
    if not isinstance(defined, dict):
        raise StackError("`input` must be an object with names and values")
    values = defined | (_object(input_file) if input_file else {})
    for name, value in pairs.items():
        values[name] = _uploaded(client, Path(value[1:])) if value.startswith("@") else _value(value)
    return values


def _uploaded(client: "Client", file: Path) -> str:
    from compute.stack.errors import StackError

    try:
        return client.upload_image(file)
    except OSError as error:
        raise StackError(f"{file} cannot be read: {error.strerror}") from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _object(file: Path) -> dict[str, Any]:
    """Read the one object in a YAML or JSON file, with JSON's types only."""
    import yaml

    from compute.stack.errors import StackError

    try:
        text = file.read_text(encoding="utf-8")
        found = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
        # YAML also has dates, and keys that are not strings.
        found = json.loads(json.dumps(found, default=str, allow_nan=False))
    except OSError as error:
        raise StackError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise StackError(f"{file} is neither YAML nor JSON: {error}") from error
    if not isinstance(found, dict):
        raise StackError(f"{file} must hold one object with names and values")
    return found


def _watch(client: "Client", server: Server, workflow_id: str, as_json: bool) -> None:
    """Show the workflow until it has ended, then print links to its results that need no key."""
    from rich.console import Console

    from compute.schemas.enums import WorkflowStatus
    from compute.stack.errors import StackError
    from compute.terminal.show import show
    from compute.terminal.words import failure
    from compute.workflows.states import ENDED_WORKFLOWS

    def command(name: str, *arguments: str) -> str:
        return server.hint("workflow", name, workflow_id, *arguments)

    states = poll(
        lambda: client.workflow(workflow_id), lambda found: found["status"] in ENDED_WORKFLOWS, pause=POLL_SECONDS
    )
    try:
        ended = show(states, lambda step: command("approve", step), Console(stderr=as_json))
    except KeyboardInterrupt:
        typer.echo(f"The workflow goes on. Watch it: {command('watch')}\nCancel it: {command('cancel')}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    links = client.workflow_links(workflow_id, ended["final_step_id"])
    if as_json:
        print_json({**ended, "links": links})
    else:
        for link in links:
            typer.echo(link)
    if ended["status"] != WorkflowStatus.COMPLETED:
        raise StackError(f"the workflow is {failure(ended)}")

"""`compute workflow`: run a workflow from a file and watch it. Heavy modules are imported inside functions.

Exit codes: 0 completed, 1 failed, cancelled or not accepted, 2 wrong usage, 130 no longer watched.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from compute.cli.answers import AsJson, percent, plain, print_json, print_table, sound
from compute.cli.errors import INTERRUPTED
from compute.cli.fields import object_of, pairs_of, value_of
from compute.cli.remote.beginning import begun
from compute.cli.server import Key, Server, Url, connected
from compute.cli.watching import poll

if TYPE_CHECKING:
    from compute.client import Compute

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
    pairs = pairs_of(given or [], hint="--input")
    with connected(url, key) as (client, server):
        body = object_of(file)
        values = _values(client, body, input_file, pairs)
        asked = body | ({"input": values} if values else {})
        created, interrupted = begun(lambda **sent: sound(client.workflows.create(asked, **sent)))
        if interrupted:
            _goes_on(server, str(created.id))
        if watch:
            _watch(client, server, str(created.id), as_json)
        elif as_json:
            print_json(plain(created))
        else:
            typer.echo(created.id)


@workflows.command("watch")
def watch_workflow(workflow_id: WorkflowId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show a workflow's progress until it has ended."""
    with connected(url, key) as (client, server):
        _watch(client, server, workflow_id, as_json)


@workflows.command("list")
def list_workflows(
    status: Annotated[str | None, typer.Option(help="Only in this status.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.", min=1)] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List workflows, the newest first."""
    with connected(url, key) as (client, _):
        wanted = client.workflows.list(status=status, origin_tenant_id=tenant, page_size=min(limit, 100))
        found = list(islice(wanted, limit))
    if as_json:
        print_json([plain(one) for one in found])
        return
    rows = (
        [one.id, one.name, one.status, percent(one.progress), f"{one.completed_steps} of {one.total_steps}"]
        for one in found
    )
    print_table(["id", "name", "status", "progress", "steps"], rows, nothing="no workflows")


@workflows.command()
def show(workflow_id: WorkflowId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show the progress of a workflow once."""
    from rich.console import Console

    from compute.terminal.show import show as print_progress

    with connected(url, key) as (client, server):
        workflow = plain(sound(sound(client.workflows.get(workflow_id)), "steps"))
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
        answer = sound(client.workflows.approve(workflow_id, step))
        if as_json:
            print_json(plain(answer))
        else:
            typer.echo(f"{step} is approved")


@workflows.command()
def pause(workflow_id: WorkflowId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Begin no further step of a workflow; those that run go on."""
    with connected(url, key) as (client, _):
        _print_status(client.workflows.pause(workflow_id), as_json=as_json)


@workflows.command()
def resume(
    workflow_id: WorkflowId,
    from_step: Annotated[str | None, typer.Option(help="Run this step and all behind it once more.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Go on with a workflow that is paused or has failed."""
    with connected(url, key) as (client, _):
        _print_status(client.workflows.resume(workflow_id, from_step=from_step), as_json=as_json)


@workflows.command()
def cancel(workflow_id: WorkflowId, as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Cancel a workflow; completed steps keep their results."""
    with connected(url, key) as (client, _):
        _print_status(client.workflows.cancel(workflow_id), as_json=as_json)


def _print_status(answer: Any, *, as_json: bool) -> None:
    workflow = sound(answer)
    if as_json:
        print_json(plain(workflow))
    else:
        typer.echo(workflow.status)


def _values(client: "Compute", body: dict[str, Any], input_file: Path | None, pairs: dict[str, str]) -> dict[str, Any]:
    """Merge the workflow's input from its definition, the input file and the command line; later sources override."""
    from compute.stack.errors import StackError

    defined = body.get("input") or {}
    if not isinstance(defined, dict):
        raise StackError("`input` must be an object with names and values")
    values = defined | (object_of(input_file) if input_file else {})
    return values | {name: value_of(client, value) for name, value in pairs.items()}


def _watch(client: "Compute", server: Server, workflow_id: str, as_json: bool) -> None:
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
        lambda: plain(sound(sound(client.workflows.get(workflow_id)), "steps")),
        lambda found: found["status"] in ENDED_WORKFLOWS,
        pause=POLL_SECONDS,
    )
    try:
        ended = show(states, lambda step: command("approve", step), Console(stderr=as_json))
    except KeyboardInterrupt:
        _goes_on(server, workflow_id)
    links = list(_links(client, ended))
    if as_json:
        print_json({**ended, "links": links})
    else:
        for link in links:
            typer.echo(link)
    if ended["status"] != WorkflowStatus.COMPLETED:
        raise StackError(f"the workflow is {failure(ended)}")


def _goes_on(server: Server, workflow_id: str) -> NoReturn:
    watch, stop = (server.hint("workflow", word, workflow_id) for word in ("watch", "cancel"))
    typer.echo(f"The workflow goes on. Watch it: {watch}\nCancel it: {stop}", err=True)
    raise typer.Exit(INTERRUPTED) from None


def _links(client: "Compute", workflow: Any) -> Iterator[str]:
    """Links to the results of the last step; they need no key, and expire."""
    # The quick start's dialect, which this spelling of the id asks for, has links.
    seen = client.request("GET", f"/workflows/wf_{str(workflow['id']).replace('-', '')}")
    for step in seen.get("steps") or []:
        if step["name"] == workflow["final_step_id"]:
            output = step["output"] or {}
            yield from (made["url"] for kind in ("images", "videos") for made in output.get(kind) or [])

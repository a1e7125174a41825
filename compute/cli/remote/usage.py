"""`compute usage` and `compute provider …`: what was used, what it cost, and the vendors."""

from itertools import islice
from typing import Annotated

import typer

from compute.cli.answers import AsJson, plain, print_json, print_table, sound
from compute.cli.server import AdminKey, Key, Url, connected

__all__ = ["providers", "usage"]

providers = typer.Typer(no_args_is_help=True, help="Vendors, and the paid calls to them.")


def usage(
    first: Annotated[str | None, typer.Option("--from", help="The first day: YYYY-MM-DD.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last day.")] = None,
    group_by: Annotated[str | None, typer.Option(help="day, tenant, task_type, provider; with commas between.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many sums.", min=1)] = 200,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Sum up what was used, and what it cost."""
    with connected(url, key) as (client, _):
        sums = client.usage.list(first=first, last=last, group_by=group_by, tenant=tenant)
        found = [plain(one) for one in islice(sums, limit)]
    if as_json:
        print_json(found)
        return
    # Columns in which nothing is say nothing.
    names = [name for name in (found[0] if found else {}) if any(one.get(name) for one in found)]
    print_table(names, ([one.get(name) for name in names] for one in found), nothing="nothing was used")


@providers.command("list")
def list_providers(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """List providers, and how they are."""
    with connected(url, key) as (client, _):
        found = [plain(one) for one in client.providers.list()]
    if as_json:
        print_json(found)
        return
    names = [name for name, value in found[0].items() if isinstance(value, str | int | float | None)] if found else []
    print_table(names, ([one.get(name) for name in names] for one in found), nothing="no providers")


@providers.command()
def calls(
    state: Annotated[str | None, typer.Option(help="Only in this state, such as UNCERTAIN.")] = None,
    task_id: Annotated[str | None, typer.Option("--task", help="Only of this task.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.", min=1)] = 20,
    as_json: AsJson = False,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """List paid calls, the newest first; needs the admin key."""
    with connected(url, key, admin=True) as (client, _):
        found = [plain(one) for one in islice(client.providers.calls(state=state, task_id=task_id), limit)]
    if as_json:
        print_json(found)
        return
    names = ["id", "task_id", "provider", "state", "vendor_id", "created_at"]
    print_table(names, ([one.get(name) for name in names] for one in found), nothing="no calls")


@providers.command()
def settle(
    call_id: Annotated[str, typer.Argument(help="The call's id.", show_default=False)],
    action: Annotated[str, typer.Argument(help="collect, give_up or send_again.", show_default=False)],
    vendor_id: Annotated[str | None, typer.Option(help="The vendor's id of the call, to collect it.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Say what became of a paid call whose outcome is unknown; needs the admin key."""
    with connected(url, key, admin=True) as (client, _):
        call = sound(client.providers.settle(call_id, action, vendor_id=vendor_id))
        if as_json:
            print_json(plain(call))
        else:
            typer.echo(f"{call_id} is {plain(call).get('state')}")

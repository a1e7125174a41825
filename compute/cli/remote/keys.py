"""`compute keys …`: give keys out, limit them, rotate them, take them back. Needs an administrator's key."""

import re
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from compute.cli.answers import AsJson, print_json, print_table
from compute.cli.server import Url, connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compute.client import Compute

__all__ = ["keys"]

keys = typer.Typer(no_args_is_help=True, help="API keys of a running server.")

_KEYS, _TENANTS = "/admin/keys", "/admin/tenants"
_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PAGE = 200

AdminKey = Annotated[
    str | None,
    typer.Option("--key", envvar="ADMIN_API_KEY", help="An administrator's key.", show_default=False),
]
KeyId = Annotated[str, typer.Argument(help="The key's id.", show_default=False)]
Requests = Annotated[int | None, typer.Option(help="Requests a minute.", min=1, show_default="no limit")]
Concurrent = Annotated[int | None, typer.Option(help="Tasks that have not ended.", min=1, show_default="no limit")]
Daily = Annotated[int | None, typer.Option(help="Tasks accepted in a day (UTC).", min=1, show_default="no limit")]


def _span(text: str) -> int:
    """Seconds of a span of time, such as `90d`, `24h`, `30m`, `0`."""
    found = _SPAN.fullmatch(text)
    if found is None and text != "0":
        raise typer.BadParameter("a number with s, m, h, d or w, as in 90d")
    return 0 if found is None else int(found[1]) * _SECONDS[found[2]]


Expires = Annotated[
    int | None, typer.Option("--expires", parser=_span, metavar="SPAN", help="Stops to work after so long: 90d, 12h.")
]
Grace = Annotated[
    int, typer.Option("--grace", parser=_span, metavar="SPAN", help="The old text works for so long: 24h, 0.")
]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is.", show_default=False)],
    tenant: Annotated[str | None, typer.Option(help="The tenant to whose work it is bound; else it is free.")] = None,
    scope: Annotated[str, typer.Option(help="read, submit, operate or admin.")] = "submit",
    expires: Expires = None,
    requests_per_minute: Requests = None,
    concurrent_tasks: Concurrent = None,
    tasks_per_day: Daily = None,
    as_json: AsJson = False,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Make a key, and print it: this once, for it is stored nowhere."""
    limits = _limits(requests_per_minute, concurrent_tasks, tasks_per_day)
    body: dict[str, Any] = {"name": name, "tenant": tenant, "scope": scope, "limits": limits}
    if expires is not None:
        body["expires_at"] = (datetime.now(UTC) + timedelta(seconds=expires)).isoformat()
    with connected(url, key) as (client, _):
        # Without an idempotency key: the answer to a repetition has no text.
        _print_once(client.request("POST", _KEYS, body=body, idempotency_key=""), as_json)


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only keys of this tenant.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
    as_json: AsJson = False,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """List keys, newest first."""
    with connected(url, key) as (client, _):
        found = list(islice(_all(client, tenant), limit))
    if as_json:
        print_json(found)
    else:
        rows = (
            [one["id"], one["name"], one["scope"], one["tenant"], _state(one), one["last_used_at"]] for one in found
        )
        print_table(["id", "name", "scope", "tenant", "state", "last used"], rows, nothing="no keys")


@keys.command()
def show(key_id: KeyId, as_json: AsJson = False, url: Url = None, key: AdminKey = None) -> None:
    """Show one key."""
    with connected(url, key) as (client, _):
        _print(client.request("GET", _path(key_id)), as_json)


@keys.command()
def rotate(
    key_id: KeyId, grace: Grace = 86_400, as_json: AsJson = False, url: Url = None, key: AdminKey = None
) -> None:
    """Give a key another text, and print it once; the old one works for a while."""
    with connected(url, key) as (client, _):
        body = {"grace_seconds": grace}
        _print_once(client.request("POST", f"{_path(key_id)}/rotate", body=body, idempotency_key=""), as_json)


@keys.command()
def revoke(key_id: KeyId, as_json: AsJson = False, url: Url = None, key: AdminKey = None) -> None:
    """Take a key back, for good."""
    with connected(url, key) as (client, _):
        answer = client.request("DELETE", _path(key_id))
        if as_json:
            print_json(answer)
        else:
            typer.echo(f"{answer['name']} ({answer['prefix']}…) is revoked; no process takes it after four seconds")


@keys.command()
def limits(
    key_id: Annotated[str | None, typer.Argument(help="The key's id.", show_default=False)] = None,
    tenant: Annotated[str | None, typer.Option(help="Instead of a key: all keys of this tenant together.")] = None,
    requests_per_minute: Requests = None,
    concurrent_tasks: Concurrent = None,
    tasks_per_day: Daily = None,
    as_json: AsJson = False,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Set all limits of a key or a tenant; what is not named has none."""
    if (key_id is None) == (tenant is None):
        raise typer.BadParameter("Name either a key or --tenant.")
    wanted = _limits(requests_per_minute, concurrent_tasks, tasks_per_day)
    with connected(url, key) as (client, _):
        if key_id is not None:
            answer = client.request("PATCH", _path(key_id), body={"limits": wanted})
        else:
            answer = client.request("PUT", f"{_TENANTS}/{quote(tenant or '', safe='')}", body=wanted)
        _print(answer, as_json)


def _limits(requests: int | None, concurrent: int | None, daily: int | None) -> dict[str, int | None]:
    return {"requests_per_minute": requests, "concurrent_tasks": concurrent, "tasks_per_day": daily}


def _path(key_id: str) -> str:
    return f"{_KEYS}/{quote(key_id, safe='')}"


def _all(client: "Compute", tenant: str | None) -> "Iterator[dict[str, Any]]":
    """The keys of one page after another."""
    params: dict[str, Any] = {"limit": _PAGE} | ({"tenant": tenant} if tenant is not None else {})
    while True:
        page = client.request("GET", _KEYS, params=params)
        yield from page["keys"]
        if page["next_cursor"] is None:
            return
        params["cursor"] = page["next_cursor"]


def _state(one: dict[str, Any]) -> str:
    if one["revoked_at"] is not None:
        return "revoked"
    expires = one["expires_at"] and datetime.fromisoformat(one["expires_at"])
    return "valid" if not expires else "expired" if expires <= datetime.now(UTC) else f"until {expires:%Y-%m-%d}"


def _print_once(answer: dict[str, Any], as_json: bool) -> None:
    """Print a key's text to standard output, and everything else beside it: so that it can be redirected to a file."""
    if as_json:
        print_json(answer)
        return
    typer.echo(answer["key"])
    typer.echo(f"id {answer['id']}: keep the text now, it is stored nowhere and not told again", err=True)


def _print(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        flat = {name: value for name, value in answer.items() if name != "limits"} | answer["limits"]
        print_table(["field", "value"], flat.items())

"""`compute keys …`: create, limit, rotate and revoke API keys. Needs an administrator's key."""

import re
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compute.cli.answers import AsJson, plain, print_json, print_table, sound
from compute.cli.server import AdminKey, Key, Url, connected
from compute.terminal.words import clean

if TYPE_CHECKING:
    from compute.schemas.admin.keys import ApiKeyWithSecret

__all__ = ["keys"]

keys = typer.Typer(no_args_is_help=True, help="API keys of a running server.")

_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST = timedelta(days=36_500)
_PAGE = 200

KeyId = Annotated[str, typer.Argument(help="The key's id.", show_default=False)]
Requests = Annotated[int | None, typer.Option(help="Requests a minute.", min=1, show_default="no limit")]
Concurrent = Annotated[int | None, typer.Option(help="Tasks that have not ended.", min=1, show_default="no limit")]
Daily = Annotated[int | None, typer.Option(help="Tasks accepted in a day (UTC).", min=1, show_default="no limit")]


def _span(text: str | int) -> int:
    """Seconds of a span of time, such as `90d`, `24h`, `30m`, `0`; a default is in seconds already."""
    if isinstance(text, int):
        return text
    found = _SPAN.fullmatch(text)
    if found is None and text != "0":
        raise typer.BadParameter("a number with s, m, h, d or w, as in 90d")
    seconds = 0 if found is None else int(found[1]) * _SECONDS[found[2]]
    if seconds > _LONGEST.total_seconds():
        raise typer.BadParameter("at most a hundred years")
    return seconds


Expires = Annotated[
    int | None, typer.Option("--expires", parser=_span, metavar="SPAN", help="How long it is valid: 90d, 12h.")
]
Grace = Annotated[
    int, typer.Option("--grace", parser=_span, metavar="SPAN", help="How long the old secret stays valid: 24h, 0.")
]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the key's owner.", show_default=False)],
    tenant: Annotated[str | None, typer.Option(help="The tenant whose work it sees; without it, all work.")] = None,
    scope: Annotated[str, typer.Option(help="read, submit, operate or admin.")] = "submit",
    expires: Expires = None,
    requests_per_minute: Requests = None,
    concurrent_tasks: Concurrent = None,
    tasks_per_day: Daily = None,
    as_json: AsJson = False,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Create a key and print its secret once; it is not stored."""
    limits = _limits(requests_per_minute, concurrent_tasks, tasks_per_day)
    fields: dict[str, Any] = {"tenant": tenant, "scope": scope, "limits": limits}
    if expires is not None:
        fields["expires_at"] = (datetime.now(UTC) + timedelta(seconds=expires)).isoformat()
    with connected(url, key, admin=True) as (client, _):
        _print_once(client.admin.keys.create(name, **fields), as_json)


@keys.command()
def current(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """Show the key that this command uses: its name, what it may do, and its tenant."""
    with connected(url, key) as (client, _):
        found = sound(client.key(), "scope")
    if as_json:
        print_json(plain(found))
        return
    print_table(["name", "scope", "tenant"], [[found.name, found.scope, found.tenant or "all"]])


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only keys of this tenant.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
    as_json: AsJson = False,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """List keys, newest first."""
    with connected(url, key, admin=True) as (client, _):
        found = list(islice(client.admin.keys.list(tenant=tenant, page_size=min(limit, _PAGE)), limit))
    if as_json:
        print_json([plain(one) for one in found])
    else:
        rows = ([one.id, one.name, one.scope, one.tenant, _state(one), one.last_used_at] for one in found)
        print_table(["id", "name", "scope", "tenant", "state", "last used"], rows, nothing="no keys")


@keys.command()
def show(key_id: KeyId, as_json: AsJson = False, url: Url = None, key: AdminKey = None) -> None:
    """Show one key."""
    with connected(url, key, admin=True) as (client, _):
        _print(client.admin.keys.get(key_id), as_json)


@keys.command()
def rotate(
    key_id: KeyId,
    grace: Grace = 86_400,
    end_previous: Annotated[
        bool, typer.Option("--end-previous", help="End the secret before that, if it still works, now.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Replace the secret of a key, and print the new one once; the old one stays valid for a while."""
    with connected(url, key, admin=True) as (client, _):
        _print_once(client.admin.keys.rotate(key_id, grace_seconds=grace, end_previous=end_previous), as_json)


@keys.command()
def revoke(key_id: KeyId, as_json: AsJson = False, url: Url = None, key: AdminKey = None) -> None:
    """Revoke a key, for good."""
    with connected(url, key, admin=True) as (client, _):
        answer = sound(client.admin.keys.revoke(key_id))
        if as_json:
            print_json(plain(answer))
        else:
            typer.echo(clean(f"{answer.name} ({answer.prefix}…) is revoked; no process takes it after four seconds"))


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
    with connected(url, key, admin=True) as (client, _):
        if key_id is not None:
            _print(client.admin.keys.update(key_id, limits=wanted), as_json)
        else:
            _print(client.admin.set_limits(tenant or "", **wanted), as_json)


def _limits(requests: int | None, concurrent: int | None, daily: int | None) -> dict[str, int | None]:
    return {"requests_per_minute": requests, "concurrent_tasks": concurrent, "tasks_per_day": daily}


def _state(one: Any) -> str:
    if one.revoked_at is not None:
        return "revoked"
    if one.expires_at is None:
        return "valid"
    if not isinstance(one.expires_at, datetime):
        return f"until {one.expires_at}"
    return "expired" if one.expires_at <= datetime.now(UTC) else f"until {one.expires_at:%Y-%m-%d}"


def _print_once(answer: "ApiKeyWithSecret", as_json: bool) -> None:
    """Print a secret to standard output and all else to standard error, so that it can be redirected to a file."""
    from compute.client import UnexpectedAnswer

    if sound(answer).key is None:
        raise UnexpectedAnswer(f"the server does not tell the secret of the key {answer.id}: rotate it")
    if as_json:
        print_json(plain(answer))
        return
    typer.echo(answer.key)
    typer.echo(f"id {answer.id}: keep the secret now, it is not stored and not told again", err=True)


def _print(answer: Any, as_json: bool) -> None:
    """Print a key or a tenant with its limits."""
    from compute.client import UnexpectedAnswer

    found = plain(answer)
    if not found.get("name"):
        raise UnexpectedAnswer("the server does not answer as this API does")
    if as_json:
        print_json(found)
    else:
        flat = {name: value for name, value in found.items() if name != "limits"} | (found.get("limits") or {})
        print_table(["field", "value"], flat.items())

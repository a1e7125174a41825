"""`compute webhook verify`: whether a webhook that was received is one of the server's."""

from pathlib import Path
from typing import Annotated

import typer

from compute.cli.answers import AsJson, print_json
from compute.cli.errors import one_line_errors
from compute.cli.fields import pairs_of

__all__ = ["webhooks"]

webhooks = typer.Typer(no_args_is_help=True, help="Webhooks that a server has sent.")


@webhooks.callback()
def webhook() -> None:
    """Webhooks that a server has sent."""


@webhooks.command()
def verify(
    body: Annotated[Path, typer.Argument(help="The raw body; - is standard input.", show_default=False)],
    header: Annotated[
        list[str],
        typer.Option("--header", "-H", metavar="NAME=VALUE", help="webhook-id, webhook-timestamp, webhook-signature."),
    ],
    secret: Annotated[
        str | None,
        typer.Option(
            envvar="COMPUTE_WEBHOOK_SECRET",
            help="The secret; by default that of the server in COMPUTE_HOME.",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Seconds that it may be old.", min=0)] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Check the signature of a webhook, and print its event; exit code 1 if it must not be believed."""
    from compute.client.errors import ClientError

    with one_line_errors(ClientError):
        from compute.client import verify_webhook

        data = typer.get_binary_stream("stdin").read() if str(body) == "-" else body.read_bytes()
        headers = pairs_of(header, hint="--header")
        event = verify_webhook(data, headers, _secrets(secret), tolerance=tolerance)
        if as_json:
            print_json(event)
        else:
            typer.echo(f"{event.get('event_type')}: {event.get('task_id')} is {event.get('status')}")


def _secrets(given: str | None) -> list[str]:
    from compute.stack.errors import StackError
    from compute.stack.options import load_settings

    if given is None:
        file = load_settings().home / "webhook_secret"
        given = file.read_text() if file.is_file() else ""
    if not given.split():
        raise StackError("no secret: give --secret, or set COMPUTE_WEBHOOK_SECRET or the server's COMPUTE_HOME")
    return given.split()

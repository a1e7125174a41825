"""`compute secrets …`: rotate a stored secret in two steps, so that links and webhooks keep working in between."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from compute.cli.answers import AsJson, print_json
from compute.cli.errors import one_line_errors

__all__ = ["secrets"]

secrets = typer.Typer(no_args_is_help=True, help="Rotate the secrets that sign links and webhooks.")


class Name(StrEnum):
    """The secrets that can be rotated."""

    LINKS = "links"
    WEBHOOKS = "webhooks"


SecretName = Annotated[Name, typer.Argument(help="The secret to rotate.", show_choices=True)]


@secrets.command()
def rotate(name: SecretName, as_json: AsJson = False) -> None:
    """Make a new secret; the old one stays valid until it is retired."""
    with one_line_errors():
        from compute.stack import options
        from compute.stack.secrets import rotation

        settings = options.load_settings()
        file = rotation.rotate(settings, name.value)
        if as_json:
            print_json({"file": str(file), "valid": 2})
            return
        typer.echo(f"{file}: the new secret is on the first line, the old one on the second.")
        _print_next_steps(name, file, settings.home)


@secrets.command()
def retire(name: SecretName, as_json: AsJson = False) -> None:
    """Remove the old secret."""
    with one_line_errors():
        from compute.stack import options
        from compute.stack.secrets import rotation

        file = rotation.retire(options.load_settings(), name.value)
        if as_json:
            print_json({"file": str(file), "valid": 1})
            return
        typer.echo(f"{file}: the old secret is gone.")
        typer.echo("Restart the server: a running one knows the old secret until then.")


def _print_next_steps(name: Name, file: Path, home: Path) -> None:
    from compute.stack.messages.hints import own_command, pasteable

    typer.echo("1. Restart the server. From then on both secrets are in use.")
    if name is Name.WEBHOOKS:
        typer.echo(f"2. Give the receivers of webhooks the new one: {pasteable(['head', '-n', '1', str(file)])}")
    else:
        typer.echo("2. Wait until the links that were made before have expired (COMPUTE_LINK_TTL_SECONDS).")
    typer.echo(f"3. Retire the old one, and restart again: {own_command('secrets', 'retire', name.value, home=home)}")

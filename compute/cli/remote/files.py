"""`compute upload` and `compute evaluate`: images of this machine."""

from pathlib import Path
from typing import Annotated

import typer

from compute.cli.answers import AsJson, plain, print_json, sound
from compute.cli.fields import Fields, fields_of, image_of
from compute.cli.server import Key, Url, connected

__all__ = ["evaluate", "upload"]


def upload(
    files: Annotated[list[Path], typer.Argument(help="Images: PNG, JPEG, WebP, …", show_default=False)],
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Upload images, and print the storage paths by which requests name them."""
    with connected(url, key) as (client, _):
        stored = [sound(client.files.upload(file), "path") for file in files]
        if as_json:
            print_json([plain(one) for one in stored])
        else:
            for one in stored:
                typer.echo(one.path)


def evaluate(
    image: Annotated[str, typer.Argument(help="A file, a storage path or an address.", show_default=False)],
    framing: Annotated[str, typer.Option(help="The framing that it should have, such as full_body.")] = "full_body",
    angle: Annotated[str, typer.Option(help="The view that it should have, such as front.")] = "front",
    fields: Fields = None,
    provider: Annotated[str | None, typer.Option(help="The vendor of the vision model.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Have a vision model look whether an image shows what it should."""
    with connected(url, key) as (client, _):
        own = {
            "image_url": image_of(client, image),
            "expected_framing": framing,
            "expected_view_angle": angle,
        }
        found = client.evaluations.evaluate(own | fields_of(client, None, fields), provider=provider)
        if as_json:
            print_json(plain(found))
        else:
            for name, value in plain(found).items():
                if value is not None:
                    typer.echo(f"{name}: {value}")

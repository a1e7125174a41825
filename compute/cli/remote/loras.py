"""`compute lora …`: the LoRAs that tasks can name."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from compute.cli.answers import AsJson, plain, print_json, print_table, sound
from compute.cli.server import AdminKey, Key, Url, connected

__all__ = ["loras"]

loras = typer.Typer(no_args_is_help=True, help="LoRAs on a running server.")


@loras.command("list")
def list_loras(
    entity_type: Annotated[str | None, typer.Option(help="Only of this subject: clothes, product, …")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 100,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List LoRAs by path."""
    with connected(url, key) as (client, _):
        found = list(islice(client.loras.list(entity_type=entity_type), limit))
    if as_json:
        print_json([plain(one) for one in found])
    else:
        rows = ([one.partial_path, one.file_size, one.modified] for one in found)
        print_table(["path", "bytes", "modified"], rows, nothing="no LoRAs")


@loras.command("upload")
def upload_lora(
    file: Annotated[Path, typer.Argument(help="A .safetensors file, or a checkpoint.", show_default=False)],
    entity_type: Annotated[str | None, typer.Option(help="Its subject; it decides the folder.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Upload a LoRA, and print the path by which tasks name it."""
    with connected(url, key) as (client, _):
        stored = sound(client.loras.upload(file, entity_type=entity_type), "partial_path")
        if as_json:
            print_json(plain(stored))
        else:
            typer.echo(stored.partial_path)


@loras.command("delete")
def delete_lora(
    path: Annotated[str, typer.Argument(help="Its path, as it is listed.", show_default=False)],
    as_json: AsJson = False,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Move a LoRA into the bin; needs the admin key."""
    with connected(url, key, admin=True) as (client, _):
        answer = client.loras.delete(path)
        if as_json:
            print_json(plain(answer))
        else:
            typer.echo(f"{path} is in the bin")

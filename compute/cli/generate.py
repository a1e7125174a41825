"""`compute generate`: from a prompt to a picture on this disk. Everything is imported where it is used."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compute.cli.answers import AsJson, print_json
from compute.cli.errors import INTERRUPTED
from compute.cli.server import Key, Url, connected

if TYPE_CHECKING:
    from compute.client import Client

__all__ = ["generate"]

PICTURE = Path("picture.png")
POLL_SECONDS = 0.3
ENDED = ("completed", "failed", "cancelled")


def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file; a second picture gets NAME-2.")] = PICTURE,
    width: Annotated[int | None, typer.Option(help="In pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same picture again.")] = None,
    count: Annotated[int | None, typer.Option(help="How many pictures.")] = None,
    lora: Annotated[str | None, typer.Option(help="Path of a style LoRA, as the API gave it.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Draw pictures, wait for them and write them to files, whose names are printed.

    What is not given is the server's default.
    """
    asked = {
        "prompt": prompt,
        "width": width,
        "height": height,
        "steps": steps,
        "seed": seed,
        "num_outputs": count,
        "style_model_path": lora,
    }
    with connected(url, key) as (client, _):
        task = client.create_generation({name: value for name, value in asked.items() if value is not None})
        ended = _until_ended(client, task)
        files = [_numbered(out, place) for place, _ in enumerate(ended["output"]["images"], 1)]
        for image, file in zip(ended["output"]["images"], files, strict=True):
            client.download(image["url"], file)
        if as_json:
            print_json({**ended, "files": [str(file) for file in files]})
        else:
            for file in files:
                typer.echo(file)


def _until_ended(client: "Client", task: dict[str, Any]) -> dict[str, Any]:
    """The completed task; Ctrl-C cancels it.

    Raises:
        StackError: it failed or was cancelled.
    """
    from rich.console import Console

    from compute.stack.errors import StackError

    try:
        with Console(stderr=True).status(f"{task['id']} is {task['status']}") as shown:
            while task["status"] not in ENDED:
                time.sleep(POLL_SECONDS)
                task = client.task(task["id"])
                shown.update(f"{task['id']} is {task['status']}, {task['progress']:.0%}")
    except KeyboardInterrupt:
        client.cancel_task(task["id"])
        typer.echo(f"{task['id']} is cancelled", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if task["status"] != "completed":
        raise StackError(f"{task['id']} is {task['status']}: {task['error'] or 'it does not say why'}")
    return task


def _numbered(out: Path, place: int) -> Path:
    return out if place == 1 else out.with_stem(f"{out.stem}-{place}")

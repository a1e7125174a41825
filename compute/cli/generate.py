"""`compute generate`: from a prompt to a picture on this disk. Everything is imported where it is used."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compute.cli.answers import AsJson, print_json
from compute.cli.errors import INTERRUPTED
from compute.cli.server import Key, Url, connected
from compute.cli.watching import looks

if TYPE_CHECKING:
    from compute.client import Client
    from compute.media.codec import ImageFormat

__all__ = ["generate"]

PICTURE = Path("picture.png")
POLL_SECONDS = 0.3
ENDED = ("completed", "failed", "cancelled")
FORMATS: "dict[str, ImageFormat]" = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", "": "png"}
"""By the file's suffix."""


def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The file, .png, .jpg or .webp, or a folder; a second picture gets NAME-2."),
    ] = PICTURE,
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
    first = _file(out)
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
        # Before anything is drawn that could not be kept.
        first.parent.mkdir(parents=True, exist_ok=True)
        task = client.create_generation({name: value for name, value in asked.items() if value is not None})
        ended = _until_ended(client, task)
        files = [_numbered(first, place) for place, _ in enumerate(ended["output"]["images"], 1)]
        for image, file in zip(ended["output"]["images"], files, strict=True):
            file.write_bytes(_encoded(client.download(image["url"]), FORMATS[file.suffix.lower()]))
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
            started = task["id"]
            for task in looks(lambda: client.task(started), lambda seen: seen["status"] in ENDED, pause=POLL_SECONDS):
                shown.update(f"{task['id']} is {task['status']}, {task['progress']:.0%}")
    except KeyboardInterrupt:
        client.cancel_task(task["id"])
        typer.echo(f"{task['id']} is cancelled", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if task["status"] != "completed":
        raise StackError(f"{task['id']} is {task['status']}: {task['error'] or 'it does not say why'}")
    return task


def _file(out: Path) -> Path:
    """The first file that `--out` names."""
    file = out / PICTURE if out.is_dir() else out
    if file.suffix.lower() not in FORMATS:
        known = ", ".join(suffix for suffix in FORMATS if suffix)
        raise typer.BadParameter(f"{file.name}: a picture is written as one of {known}.", param_hint="--out")
    return file


def _encoded(picture: bytes, image_format: "ImageFormat") -> bytes:
    """A picture of the server's, which is a PNG, in another format."""
    if image_format == "png":
        return picture
    import io

    from PIL import Image

    from compute.media.codec import encode

    with Image.open(io.BytesIO(picture)) as opened:
        return encode(opened, image_format)


def _numbered(out: Path, place: int) -> Path:
    return out if place == 1 else out.with_stem(f"{out.stem}-{place}")

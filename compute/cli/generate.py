"""`compute generate`: from a prompt to an image on this disk. Heavy modules are imported inside functions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compute.cli.answers import AsJson, print_json
from compute.cli.errors import INTERRUPTED
from compute.cli.server import Key, Url, connected
from compute.cli.watching import poll

if TYPE_CHECKING:
    from compute.client import Client
    from compute.media.codec import ImageFormat

__all__ = ["generate"]

DEFAULT_FILE = Path("picture.png")
POLL_SECONDS = 0.3
ENDED = ("completed", "failed", "cancelled")
FORMATS: "dict[str, ImageFormat]" = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""By the file's suffix."""


def generate(
    prompt: Annotated[str, typer.Argument(help="What the image shows.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="The file, .png, .jpg or .webp, or a folder, made if needed; a second image gets NAME-2.",
        ),
    ] = DEFAULT_FILE,
    width: Annotated[int | None, typer.Option(help="In pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same image again.")] = None,
    count: Annotated[int | None, typer.Option(help="The number of images.")] = None,
    lora: Annotated[str | None, typer.Option(help="Path of a style LoRA, as the API gave it.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Generate images, wait for them, write them to files and print the files' names.

    Options that are not given take the server's defaults.
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
        # First, so that no image is generated that could not be written.
        first.parent.mkdir(parents=True, exist_ok=True)
        task = client.create_generation({name: value for name, value in asked.items() if value is not None})
        ended = _until_ended(client, task)
        files = [_numbered(first, number) for number, _ in enumerate(ended["output"]["images"], 1)]
        for image, file in zip(ended["output"]["images"], files, strict=True):
            file.write_bytes(_encoded(client.download(image["url"]), FORMATS[file.suffix.lower()]))
        if as_json:
            print_json({**ended, "files": [str(file) for file in files]})
        else:
            for file in files:
                typer.echo(file)


def _until_ended(client: "Client", task: dict[str, Any]) -> dict[str, Any]:
    """Wait for the task and return it completed; Ctrl-C cancels it.

    Raises:
        StackError: it failed or was cancelled.
    """
    from rich.console import Console

    from compute.stack.errors import StackError

    try:
        with Console(stderr=True).status(f"{task['id']} is {task['status']}") as shown:
            started = task["id"]
            for task in poll(lambda: client.task(started), lambda seen: seen["status"] in ENDED, pause=POLL_SECONDS):
                shown.update(f"{task['id']} is {task['status']}, {task['progress']:.0%}")
    except KeyboardInterrupt:
        client.cancel_task(task["id"])
        typer.echo(f"{task['id']} is cancelled", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if task["status"] != "completed":
        raise StackError(f"{task['id']} is {task['status']}: {task['error'] or 'the server gives no reason'}")
    return task


def _file(out: Path) -> Path:
    """Return the first file that `--out` names. A name without a suffix is that of a folder."""
    file = out if out.suffix and not out.is_dir() else out / DEFAULT_FILE
    if file.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"{file.name}: the suffix must be one of {', '.join(FORMATS)}.", param_hint="--out")
    return file


def _encoded(image: bytes, image_format: "ImageFormat") -> bytes:
    """Convert an image of the server, which is a PNG, to another format."""
    if image_format == "png":
        return image
    import io

    from PIL import Image

    from compute.media.codec import encode

    with Image.open(io.BytesIO(image)) as opened:
        return encode(opened, image_format)


def _numbered(out: Path, number: int) -> Path:
    return out if number == 1 else out.with_stem(f"{out.stem}-{number}")

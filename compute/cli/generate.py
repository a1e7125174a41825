"""`compute generate`: from a prompt to an image on this disk. Heavy modules are imported inside functions."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from compute.cli.answers import AsJson, plain, print_json
from compute.cli.remote.running import ended_or_cancelled
from compute.cli.server import Key, Url, connected

if TYPE_CHECKING:
    from compute.client import Compute, Task
    from compute.media.codec import ImageFormat

__all__ = ["generate"]

Convert = Callable[[bytes], bytes]
DEFAULT_FILE = Path("picture.png")
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
        convert = _converter(first.suffix)
        ended = ended_or_cancelled(client, "GENERATION", asked)
        files = _fetch(client, ended, first, convert)
        if as_json:
            print_json({**plain(ended), "files": [str(file) for file in files]})
        else:
            for file in files:
                typer.echo(file)


def _fetch(client: "Compute", task: "Task", first: Path, convert: Convert | None) -> list[Path]:
    """Write the images, each in the format of its file's suffix."""
    files = [_numbered(first, number) for number, _ in enumerate(task.paths, 1)]
    for path, file in zip(task.paths, files, strict=True):
        if convert is None:
            client.files.download(path, file, sha256=task.digest(path))
            continue
        # Beside the file, which is replaced at once and is never half of an image, nor one in another format.
        with TemporaryDirectory(dir=file.parent, prefix=".compute-") as folder:
            image = client.files.download(path, Path(folder) / "image.png", sha256=task.digest(path))
            converted = Path(folder) / "converted"
            converted.write_bytes(convert(Path(image).read_bytes()))
            converted.replace(file)
    return files


def _file(out: Path) -> Path:
    """Return the first file that `--out` names. A name without a suffix is that of a folder."""
    file = out if out.suffix and not out.is_dir() else out / DEFAULT_FILE
    if file.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"{file.name}: the suffix must be one of {', '.join(FORMATS)}.", param_hint="--out")
    return file


def _converter(suffix: str) -> Convert | None:
    """A function from an image of the server, which is a PNG, to the format of a suffix; None if that is PNG.

    Raises:
        ModuleNotFoundError: only the client is installed, and cannot convert.
    """
    wanted = FORMATS[suffix.lower()]
    if wanted == "png":
        return None
    import io

    from PIL import Image

    from compute.media.codec import encode

    def convert(image: bytes) -> bytes:
        with Image.open(io.BytesIO(image)) as opened:
            return encode(opened, wanted)

    return convert


def _numbered(out: Path, number: int) -> Path:
    return out if number == 1 else out.with_stem(f"{out.stem}-{number}")

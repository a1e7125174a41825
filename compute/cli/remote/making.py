"""Shortcuts for types of tasks: `compute edit`, `refine`, `animate`, `cut-out`, `enhance-faces`, `adjust`, `ask`."""

from pathlib import Path
from typing import Annotated

import typer

from compute.cli.answers import AsJson
from compute.cli.fields import Fields, fields_of, image_of
from compute.cli.remote.running import Folder, run
from compute.cli.server import Key, Url, connected

__all__ = ["add_to"]

Image = Annotated[
    str, typer.Argument(help="A file, which is uploaded; or a storage path or an address.", show_default=False)
]
Images = Annotated[
    list[str], typer.Argument(help="Files, which are uploaded; or storage paths or addresses.", show_default=False)
]
Prompt = Annotated[str, typer.Argument(help="What is wanted.", show_default=False)]


def edit(
    image: Image,
    prompt: Prompt,
    mask: Annotated[str | None, typer.Option(help="An image: white may change, black stays.")] = None,
    fields: Fields = None,
    out: Folder = Path(),
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Change an image by a prompt."""
    with connected(url, key) as (client, server):
        own = {
            "base_image": image_of(client, image),
            "prompt": prompt,
            "mask": None if mask is None else image_of(client, mask),
        }
        run(client, server, "EDITING", own | fields_of(client, None, fields), out, as_json=as_json)


def refine(
    image: Image,
    factor: Annotated[float | None, typer.Option(help="How many times larger.")] = None,
    faces: Annotated[bool, typer.Option(help="Regenerate faces, too.")] = False,
    fields: Fields = None,
    out: Folder = Path(),
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Enlarge an image, and regenerate its detail."""
    with connected(url, key) as (client, server):
        own = {
            "base_image_url": image_of(client, image),
            "upscale_factor": factor,
            "face_detail_enabled": True if faces else None,
        }
        run(client, server, "REFINE", own | fields_of(client, None, fields), out, as_json=as_json)


def animate(
    image: Image,
    prompt: Prompt,
    seconds: Annotated[float | None, typer.Option(help="The length of the clip.")] = None,
    fields: Fields = None,
    out: Folder = Path(),
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Make a clip from an image."""
    with connected(url, key) as (client, server):
        own = {"input_image_url": image_of(client, image), "prompt": prompt, "duration_seconds": seconds}
        run(client, server, "VIDEO_GENERATION", own | fields_of(client, None, fields), out, as_json=as_json)


def cut_out(
    images: Images,
    fields: Fields = None,
    out: Folder = Path(),
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Remove the backgrounds of images."""
    with connected(url, key) as (client, server):
        own = {"input_image_paths": [image_of(client, image) for image in images]}
        run(client, server, "BACKGROUND_REMOVAL", own | fields_of(client, None, fields), out, as_json=as_json)


def enhance_faces(
    image: Image,
    fields: Fields = None,
    out: Folder = Path(),
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Regenerate the faces of an image."""
    with connected(url, key) as (client, server):
        own = {"input_image": image_of(client, image)}
        run(client, server, "FACE_ENHANCER", own | fields_of(client, None, fields), out, as_json=as_json)


def adjust(
    image: Image,
    mode: Annotated[str | None, typer.Option(help="auto, crop, pad or scale.")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels.")] = None,
    fields: Fields = None,
    out: Folder = Path(),
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Crop, pad or scale an image, and change its light and colours (--set brightness=0.1)."""
    with connected(url, key) as (client, server):
        own = {
            "input_image": image_of(client, image),
            "mode": mode,
            "target_width": width,
            "target_height": height,
        }
        run(client, server, "IMAGE_ADJUSTER", own | fields_of(client, None, fields), out, as_json=as_json)


def ask(
    prompt: Prompt,
    image: Annotated[list[str] | None, typer.Option(help="An image to look at; may be given several times.")] = None,
    fields: Fields = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Ask a language model, about images if some are given."""
    with connected(url, key) as (client, server):
        own = {"prompt": prompt, "input_images": [image_of(client, one) for one in image or []] or None}
        run(client, server, "LLM_INTERACTION", own | fields_of(client, None, fields), Path(), as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Add the shortcuts to the program."""
    for command in (edit, refine, animate, cut_out, enhance_faces, adjust, ask):
        app.command(rich_help_panel="Make")(command)

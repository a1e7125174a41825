"""Edits parts of an image, each in a view of its own, and blends them back."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from compute.imaging.blend import Box, box_weights, composite
from compute.providers.editing.bench import Bench
from compute.providers.editing.consistency import EditedPart, Finish, Limits, edit_until_alike
from compute.providers.editing.editor import EditRequest, ImageEditor
from compute.providers.editing.tiles import adaptive_resolution
from compute.providers.vendors.queued import all_of

__all__ = ["PatchSettings", "edit_patches", "expanded"]


@dataclass(frozen=True, slots=True)
class PatchSettings:
    """How patches are edited. `part` is the first part of their names, such as `face`.

    Attributes:
        feather: Pixels inside a patch's edge over which it fades into the image; 0 for a hard edge.
    """

    part: str
    instruction: str
    feather: int
    limits: Limits
    retries: int
    finish: Finish
    seed: int
    references: tuple[Image.Image, ...] = ()
    strength: float | None = None
    keeps_images: bool = False


def expanded(box: Sequence[float], share: float, size: tuple[int, int]) -> Box:
    """A box that is larger by `share` of its sides, cut at the edges of an image of (width, height)."""
    across, down = (box[2] - box[0]) * share / 2, (box[3] - box[1]) * share / 2
    return (
        max(0, round(box[0] - across)),
        max(0, round(box[1] - down)),
        min(size[0], round(box[2] + across)),
        min(size[1], round(box[3] + down)),
    )


async def edit_patches(
    bench: Bench, editor: ImageEditor, image: Image.Image, boxes: Sequence[Box], settings: PatchSettings
) -> list[EditedPart]:
    """Edit parts of an RGB image, in place, all at a time: the n-th box is the part `{settings.part}/{n}`. A patch
    without a try that is alike enough keeps its pixels; no pixel outside of the boxes changes.

    Raises:
        ProviderFailed, CallUncertain: as `ImageEditor.edit`; all other patches have ended then.
    """
    originals = [await bench.compute(partial(image.crop, box)) for box in boxes]
    parts = await all_of([_edit(bench, editor, original, index, settings) for index, original in enumerate(originals)])
    for box, part in zip(boxes, parts, strict=True):
        if part.image is not None:
            await bench.compute(partial(_put_back, image, part.image, box, settings.feather))
            part.image = None
    return parts


async def _edit(
    bench: Bench, editor: ImageEditor, original: Image.Image, index: int, settings: PatchSettings
) -> EditedPart:
    # Of twice the size, so that the edit has room for more detail.
    larger = (original.width * 2, original.height * 2)
    request = EditRequest(
        f"{settings.part}/{index}",
        settings.instruction,
        original,
        settings.references,
        resolution=adaptive_resolution(larger),
        seed=settings.seed + index * (settings.retries + 1),
        strength=settings.strength,
    )
    return await edit_until_alike(
        bench,
        editor,
        request,
        settings.limits,
        settings.finish,
        retries=settings.retries,
        keeps_images=settings.keeps_images,
    )


def _put_back(image: Image.Image, patch: Image.Image, box: Box, feather: int) -> None:
    image.paste(composite(image.crop(box), patch, box_weights(box, image.size, feather)), box)

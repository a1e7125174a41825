"""Computes a BACKGROUND_FIX, from decoded images to the result. Runs on workers only: it loads OpenCV.

`spec` is prepared by `compute.tasks.types.background.fix`; `notes` go into the result's metadata.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compute.errors import InvalidInput
from compute.imaging.background import (
    Margin,
    background_colour,
    fit_behind,
    found_subject,
    kept_area,
    put_behind,
    shift_background,
)
from compute.imaging.flatten import on_white
from compute.imaging.resize import at_size
from compute.imaging.segmentation.segment import own_alpha, subject_mask

__all__ = ["Scene", "color_shift", "cut", "inpainting", "replace"]

Bytes = NDArray[np.uint8]

_REGENERATED = 250
"""A pixel that is kept less than this, of 255, is regenerated, so that nothing of the old background is left in it."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A segmented base image: RGB (height, width, 3), matte and kept area (height, width), all uint8."""

    pixels: Bytes
    matte: Bytes
    kept: Bytes
    segmentation: str
    """The segmentation model, or `alpha` for the image's own transparency."""


def cut(base: Image.Image, spec: dict[str, Any], models_root: Path) -> Scene:
    """Segment the base image.

    Raises:
        InvalidInput: no subject stands out, or the segmentation model is not there.
    """
    model = spec["segmentation_model"]
    try:
        mask = found_subject(base, model=model, models_root=models_root)
    except InvalidInput as error:
        raise InvalidInput(error.detail, field="base_image" if error.field == "image" else error.field) from error
    matte = np.asarray(mask)
    used = model if own_alpha(base) is None else "alpha"
    return Scene(np.asarray(on_white(base)), matte, kept_area(matte, _margin(spec, base.size)), used)


def color_shift(
    scene: Scene, palette: Image.Image, spec: dict[str, Any], models_root: Path
) -> tuple[Image.Image, dict[str, Any]]:
    """Shift the background towards the colour of the palette's background. Raises what `subject_mask` raises."""
    mask = subject_mask(palette, model=spec["segmentation_model"], models_root=models_root)
    target = background_colour(np.asarray(on_white(palette)), np.asarray(mask))
    shifted, share = shift_background(
        scene.pixels,
        scene.kept,
        target,
        shadow_threshold=spec["shadow_threshold"],
        light_threshold=spec["light_threshold"],
    )
    target_lab = [round(float(value), 2) for value in target]
    return Image.fromarray(shifted), _notes(scene) | {"target_lab": target_lab, "shifted_share": round(share, 4)}


def replace(
    scene: Scene, background: Image.Image, spec: dict[str, Any], models_root: Path
) -> tuple[Image.Image, dict[str, Any]]:
    """Put the subject in front of another image, which is scaled to cover."""
    height, width = scene.matte.shape
    behind = np.asarray(fit_behind(background, (width, height)))
    result = put_behind(scene.pixels, scene.matte, scene.kept, behind, softness=spec["blend_strength"])
    return Image.fromarray(result), _notes(scene)


def inpainting(scene: Scene, spec: dict[str, Any], size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """The image and the mask for inpainting, at `size` (width, height): white is regenerated."""
    image = at_size(Image.fromarray(scene.pixels), size)
    kept = Image.fromarray(scene.kept).resize(size, Image.Resampling.BOX)
    return image, kept.point(lambda value: 255 if value < _REGENERATED else 0)


def _margin(spec: dict[str, Any], size: tuple[int, int]) -> Margin:
    pixels = spec["mask_expansion"]
    expansion = spec["mask_expansion_percentage"] * max(size) if pixels is None else pixels
    return Margin(expansion, spec["edge_blur_sigma"], spec["blend_strength"])


def _notes(scene: Scene) -> dict[str, Any]:
    return {"segmentation_model": scene.segmentation}

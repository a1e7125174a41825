"""Subject segmentation: one function for several models.

Light to import: OpenCV and rembg are loaded when a mask is computed.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compute.errors import InvalidInput

__all__ = [
    "GRABCUT",
    "REMBG_MODELS",
    "SEGMENTATION_MODELS",
    "Segmenter",
    "check_model",
    "load_segmenter",
    "own_alpha",
    "subject_mask",
]

Bytes = NDArray[np.uint8]

GRABCUT = "grabcut"
REMBG_MODELS = (
    "u2net",
    "u2netp",
    "u2net_human_seg",
    "u2net_cloth_seg",
    "silueta",
    "isnet-general-use",
    "isnet-anime",
    "sam",
)
SEGMENTATION_MODELS = (GRABCUT, *REMBG_MODELS)
"""GrabCut is always available; the others need their file below the models folder, in `rembg/`."""


class Segmenter(Protocol):
    """Segments an image that was reduced to `side` pixels along its longer side."""

    @property
    def side(self) -> int: ...

    def coarse(self, pixels: Bytes) -> Bytes:
        """RGB (height, width, 3) to a mask (height, width), 255 inside; all 0 if there is no subject."""
        ...


def subject_mask(image: Image.Image, *, model: str = GRABCUT, models_root: Path | None = None) -> Image.Image:
    """The matte of the subject: mode L, of the image's size, 255 inside, soft along the edges, all 0 without a subject.

    An image with transparency has its own matte: its alpha. `model` is one of SEGMENTATION_MODELS; those of rembg are
    read from `models_root`/rembg and never downloaded. Takes CPU time and is thread-safe; memory beyond the result is
    that of a reduced copy and of one tile.

    Example:
        mask = subject_mask(image, model="grabcut")

    Raises:
        InvalidInput: no such model, or its file is missing.
        TaskFailed: its file cannot be loaded.
    """
    check_model(model)
    if (alpha := own_alpha(image)) is not None:
        return alpha
    from compute.imaging.segmentation.matting import refine_matte

    segmenter = load_segmenter(model, models_root)
    image = image.convert("RGB")
    small = image.copy()
    small.thumbnail((segmenter.side, segmenter.side), Image.Resampling.BOX, reducing_gap=None)
    return Image.fromarray(refine_matte(np.asarray(image), segmenter.coarse(np.asarray(small))))


def own_alpha(image: Image.Image) -> Image.Image | None:
    """The image's alpha channel; None if it has none or is fully opaque."""
    if not image.has_transparency_data:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return None if np.asarray(alpha).min() == 255 else alpha


def check_model(model: str, *, field: str = "provider_config.rembg_model") -> None:
    """Check that `model` names a segmentation model.

    Raises:
        InvalidInput: there is no such model.
    """
    if model not in SEGMENTATION_MODELS:
        known = ", ".join(SEGMENTATION_MODELS)
        raise InvalidInput(f"There is no segmentation model `{model}`; known: {known}.", field=field)


def load_segmenter(model: str, models_root: Path | None) -> Segmenter:
    """A segmentation model, loaded once per process. Raises what `subject_mask` raises."""
    check_model(model)
    if model == GRABCUT:
        from compute.imaging.segmentation.grabcut import GrabCut

        return GrabCut()
    from compute.imaging.segmentation.rembg_models import rembg_segmenter

    return rembg_segmenter(model, models_root)

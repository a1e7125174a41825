"""Finds a garment in an image, and edits it in one view or two."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from PIL import Image

from compute.errors import InvalidInput
from compute.imaging.blend import Box
from compute.imaging.faces import detect_faces, pick_detector
from compute.imaging.resize import at_size
from compute.imaging.segmentation.regions import find_region, region_named
from compute.imaging.segmentation.segment import GRABCUT, subject_mask
from compute.providers.editing.bench import Bench

__all__ = ["find_garment", "garment_label", "garment_patch", "split_box"]

_SIDE = 1024
"""The garment is looked for in an image of this longer side."""
_CLOTH_MODEL = "u2net_cloth_seg"
_GARMENTS = ("upper", "lower", "feet", "body", "head", "logo")


def garment_label(labels: Iterable[str | None]) -> str:
    """The first of some texts that names a kind of garment, such as `a blue T-shirt`; `outfit` if none does."""
    return next((label for label in labels if label and region_named(label) in _GARMENTS), "outfit")


async def find_garment(bench: Bench, image: Image.Image, label: str) -> Box:
    """The box of the garment that the label means; the subject's, or the whole image's, if it is not found."""
    return await bench.compute(partial(_found, image, label, bench.models_root))


def split_box(box: Box, threshold: float, overlap: int) -> list[Box]:
    """The box, or two that share `overlap` pixels if its longer side is more than `threshold` times its shorter one."""
    left, upper, right, lower = box
    width, height = right - left, lower - upper
    if max(width, height) <= threshold * min(width, height):
        return [box]
    half = overlap // 2
    if height >= width:
        middle = (upper + lower) // 2
        return [(left, upper, right, min(lower, middle + half)), (left, max(upper, middle - half), right, lower)]
    middle = (left + right) // 2
    return [(left, upper, min(right, middle + half), lower), (max(left, middle - half), upper, right, lower)]


def garment_patch(edited: Image.Image, original: Image.Image) -> Image.Image:
    """An edit at its original's size. Its colours stay: they are what is to be mended."""
    return at_size(edited, original.size)


def _found(image: Image.Image, label: str, models_root: Path) -> Box:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    detector, model_path = pick_detector(models_root)
    faces = detect_faces(small, detector=detector, model_path=model_path)
    left, upper, right, lower = find_region(label, _mask(small, models_root), faces).box
    across, down = image.width / small.width, image.height / small.height
    return round(left * across), round(upper * down), round(right * across), round(lower * down)


def _mask(image: Image.Image, models_root: Path) -> Image.Image:
    """Where clothes are, if the model for clothes is installed; otherwise the whole subject."""
    try:
        clothes = subject_mask(image, model=_CLOTH_MODEL, models_root=models_root)
    except InvalidInput:
        return subject_mask(image, model=GRABCUT)
    return clothes if clothes.getbbox() is not None else subject_mask(image, model=GRABCUT)

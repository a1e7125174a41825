"""Renders the data set in `compute/training/demo_dataset`: a garment that the demo model does not know."""

from itertools import islice
from pathlib import Path

from tools.demo_model.scenes import NEW_GARMENT, random_scenes, render

__all__ = ["render_samples"]

_IMAGES = 8
_SIDE = 128
_SEED = 3


def render_samples(folder: Path) -> list[Path]:
    """Render the images into the folder, the same ones every time; each file's name describes its image.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for scene in islice(random_scenes(_SEED, _IMAGES, garments=(NEW_GARMENT,)), _IMAGES):
        file = folder / f"{scene.color}-{scene.garment}-on-{scene.background}-{len(files) + 1}.png"
        render(scene, _SIDE).save(file)
        files.append(file)
    return files

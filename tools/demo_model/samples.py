"""Draws the data set that `compute/training/demo_dataset` ships: a garment that the demo model does not know."""

from itertools import islice
from pathlib import Path

from tools.demo_model.scenes import NEW_GARMENT, draw, random_scenes

__all__ = ["draw_samples"]

_PICTURES = 8
_SIDE = 128
_SEED = 3


def draw_samples(folder: Path) -> list[Path]:
    """Draw them into the folder, the same ones every time; each file's name says what it shows.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for scene in islice(random_scenes(_SEED, _PICTURES, garments=(NEW_GARMENT,)), _PICTURES):
        file = folder / f"{scene.color}-{scene.garment}-on-{scene.background}-{len(files) + 1}.png"
        draw(scene, _SIDE).save(file)
        files.append(file)
    return files

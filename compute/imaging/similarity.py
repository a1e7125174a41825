"""Image similarity: SSIM always, LPIPS and DISTS if their weights are installed."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from compute.imaging.perceptual import PerceptualMetrics

__all__ = ["Scores", "compare", "missing_weights", "ssim"]

_SIGMA = 1.5
_RADIUS = 5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2
_PERCEPTUAL_SIDE = 256
"""LPIPS and DISTS run on images reduced to this shorter side, for which DISTS was designed."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Similarity of two images.

    Attributes:
        ssim: 1 for the same image, about 0 for unrelated ones.
        lpips, dists: Distances: 0 for the same image; None without their weights.
    """

    ssim: float
    lpips: float | None = None
    dists: float | None = None


def ssim(first: Image.Image, second: Image.Image) -> float:
    """Structural similarity of the luminance, averaged over the image; in [-1, 1].

    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity" (2004):
    a Gaussian window of 11 x 11 with sigma 1.5. A border of 5 pixels, where the window would reach outside, is left
    out.

    Raises:
        ValueError: the images differ in size, or a side is shorter than the window.
    """
    if first.size != second.size:
        raise ValueError(f"The images are {first.size} and {second.size}.")
    if min(first.size) <= 2 * _RADIUS:
        raise ValueError(f"An image of {first.size} is smaller than the window of {2 * _RADIUS + 1} pixels.")
    x, y = (np.asarray(image.convert("L"), np.float64) for image in (first, second))
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    likeness = ((2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)) / (
        (mean_x**2 + mean_y**2 + _C1) * (variance_x + variance_y + _C2)
    )
    return float(likeness[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS].mean())


def compare(first: Image.Image, second: Image.Image, *, models_root: Path) -> Scores:
    """Compute all scores of two RGB images of one size. Raises what `ssim` raises."""
    metrics = _perceptual(models_root / "perceptual")
    if isinstance(metrics, str):
        return Scores(ssim(first, second))
    shorter = min(first.size)
    size = tuple(max(1, round(side * min(1.0, _PERCEPTUAL_SIDE / shorter))) for side in first.size)
    small = [np.asarray(image.convert("RGB").resize((size[0], size[1]))) for image in (first, second)]
    lpips, dists = metrics.distances(small[0], small[1])
    return Scores(ssim(first, second), lpips, dists)


def missing_weights(models_root: Path) -> str | None:
    """A message that says why LPIPS and DISTS are unavailable; None if they are available."""
    metrics = _perceptual(models_root / "perceptual")
    return metrics if isinstance(metrics, str) else None


@lru_cache(maxsize=2)
def _perceptual(folder: Path) -> "PerceptualMetrics | str":
    """The metrics with the weights of the folder, loaded once per process; or a message why they are unavailable."""
    names = ("vgg16-397923af.pth", "lpips_weights.pt", "dists_weights.pt")
    if missing := [name for name in names if not (folder / name).is_file()]:
        return f"LPIPS and DISTS are off: {', '.join(missing)} not found in the folder {folder.name} of the models."
    try:
        from compute.imaging.perceptual import load_metrics

        return load_metrics(*(folder / name for name in names))
    except (ImportError, ValueError) as error:
        return f"LPIPS and DISTS are off: {error}"


def _window(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian means around every pixel."""
    side = 2 * _RADIUS + 1
    return np.asarray(cv2.GaussianBlur(values, (side, side), _SIGMA), np.float64)

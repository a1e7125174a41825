"""Background removal and COLOR_SHIFT against bare operations of OpenCV and Pillow:
`python -m benchmarks.pipelines.background`.

The bare removal is a typical script: reduce the image to 512 pixels, `cv2.grabCut` from a rectangle with as many
iterations as ours, enlarge the mask, put it into the alpha channel. Ours starts from a model of the backdrop, mats the
edge at full size and cleans its colours. The bare shift uses the same mask, blurs it, and adds an offset in OpenCV's
8-bit Lab; ours keeps shadows, and the subject's pixels to the bit. The errors of both are in the second table.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness import arguments, interleave, machine, print_table, ratio, say, spread
from compute.imaging.background import remove_background
from compute.worker.ops.background import color_shift, cut
from tests.unit.imaging.cutouts import Cutout, bottle

Bytes = NDArray[np.uint8]

_SIDE, _ITERATIONS = 512, 4
_SIZES = {"1 megapixel": 1, "12 megapixels": 4}
_PALETTE = (238, 208, 178)
_SPEC: dict[str, Any] = {
    "segmentation_model": "grabcut",
    "mask_expansion": None,
    "mask_expansion_percentage": 0.005,
    "edge_blur_sigma": 20.0,
    "blend_strength": 1.0,
    "shadow_threshold": 150.0,
    "light_threshold": 220.0,
}
_BARE, _OURS, _BARE_SHIFT, _SHIFT = "bare removal", "removal", "bare shift", "COLOR_SHIFT"


def main() -> None:
    options = arguments(__doc__, rounds=5).parse_args()
    say(machine())
    truth = bottle((864, 1152))
    rows = []
    for name, factor in _SIZES.items():
        picture = truth.image.resize((864 * factor, 1152 * factor), Image.Resampling.BICUBIC)
        say(f"\n{name}: {picture.width} x {picture.height}")
        rows += [[name, *row] for row in timed(picture, rounds=2 if options.quick else options.rounds)]
    print_table("time of one image", ["size", "operation", "ms", "to the bare one"], rows)
    report_quality(truth)


def timed(picture: Image.Image, *, rounds: int) -> list[list[str]]:
    arms = {
        _BARE: partial(bare_removal, picture),
        _OURS: partial(remove_background, picture, model="grabcut"),
        _BARE_SHIFT: partial(bare_shift, picture),
        _SHIFT: partial(our_shift, picture),
    }
    results = interleave({name: partial(milliseconds, arm) for name, arm in arms.items()}, rounds)
    pairs = ((_BARE, _BARE), (_OURS, _BARE), (_BARE_SHIFT, _BARE_SHIFT), (_SHIFT, _BARE_SHIFT))
    return [[name, spread(results[name]), ratio(results[name], results[base])] for name, base in pairs]


def report_quality(truth: Cutout) -> None:
    """Print the errors against the true cut-out of the image; the fringe is on green, of 255 per channel."""
    rows = []
    green = np.array((0, 255, 0), np.float32)
    for name, cutout in ((_BARE, bare_removal(truth.image)), (_OURS, remove_background(truth.image, model="grabcut"))):
        share = np.asarray(cutout)[..., 3] / 255
        seen = np.asarray(cutout)[..., :3] * share[..., None] + green * (1 - share[..., None])
        fringe = np.abs(seen - truth.on((0, 255, 0)))[truth.edge].mean()
        rows.append([name, f"{np.abs(share - truth.share).mean():.5f}", f"{fringe:.1f}"])
    print_table("errors of the cut-out", ["operation", "mean error of alpha", "fringe"], rows)


def bare_mask(pixels: Bytes) -> Bytes:
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    mask = np.zeros(small.shape[:2], np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    margin = small.shape[1] // 20
    rectangle = (margin, margin, small.shape[1] - 2 * margin, small.shape[0] - 2 * margin)
    cv2.grabCut(small, mask, rectangle, *models, _ITERATIONS, cv2.GC_INIT_WITH_RECT)
    inside = np.where((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD), np.uint8(255), np.uint8(0))
    return np.asarray(cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def bare_removal(picture: Image.Image) -> Image.Image:
    alone = picture.convert("RGBA")
    alone.putalpha(Image.fromarray(bare_mask(np.asarray(picture))))
    return alone


def bare_shift(picture: Image.Image) -> Image.Image:
    pixels = np.asarray(picture)
    weight = 1 - cv2.GaussianBlur(bare_mask(pixels), (0, 0), 20).astype(np.float32)[..., None] / 255
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    target = cv2.cvtColor(np.array([[_PALETTE]], np.uint8), cv2.COLOR_RGB2LAB).astype(np.float32)
    offset = target - (lab * weight).sum(axis=(0, 1)) / weight.sum()
    shifted = np.clip(lab + weight * offset, 0, 255).astype(np.uint8)
    return Image.fromarray(cv2.cvtColor(shifted, cv2.COLOR_LAB2RGB))


def our_shift(picture: Image.Image) -> Image.Image:
    palette = Image.new("RGB", (64, 64), _PALETTE)
    return color_shift(cut(picture, _SPEC, Path()), palette, _SPEC, Path())[0]


def milliseconds(operation: Callable[[], object]) -> float:
    start = time.perf_counter()
    operation()
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    main()

"""Regenerates a part of an image, and keeps the result only if it still shows the same thing."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from PIL import Image

from compute.imaging.change import with_change
from compute.imaging.colour import match_colour
from compute.imaging.resize import at_size
from compute.imaging.similarity import Scores, compare
from compute.imaging.tiles import with_colours_of
from compute.schemas.fields import MAX_SEED
from compute.worker.context import RunContext, Share
from compute.worker.protocol import GenerateRequest

__all__ = ["SAME_SCENE", "PatchSettings", "Regenerated", "SimilarityLimits", "regenerate", "working_size"]

_WEAKER = 0.6
"""Each further attempt puts this share of the noise of the one before on the patch."""
_LEAST_NOISE = 0.01
_SMALLEST_WORKING_SIDE = 512
_ENLARGEMENT = 2
_COLOUR_CELL = 16
"""Pixels of the generated patch. At a small native size, colours are the original's down to cells of this side."""


@dataclass(frozen=True, slots=True)
class SimilarityLimits:
    """The likeness to the original that a patch must keep; a score that is not known is not checked."""

    least_ssim: float
    most_lpips: float
    most_dists: float

    def accept(self, scores: Scores) -> bool:
        return (
            scores.ssim >= self.least_ssim
            and (scores.lpips is None or scores.lpips <= self.most_lpips)
            and (scores.dists is None or scores.dists <= self.most_dists)
        )


SAME_SCENE = SimilarityLimits(least_ssim=0.55, most_lpips=0.45, most_dists=0.30)
"""The same thing in the same place, light and pose."""


@dataclass(frozen=True, slots=True)
class PatchSettings:
    """Settings for regenerating a patch.

    Attributes:
        steps: Of the whole schedule; about steps * denoise of them are run.
        denoise: The noise put on the patch by the first attempt, in (0, 1].
        limits: The likeness that an attempt must keep; otherwise another one is made with less noise.
        seed: Of the first attempt; the next ones count on from it.
        side: The longest side that the model generates, in pixels.
        multiple: The model's grid in pixels.
        attempts: The most attempts, each with less noise.
    """

    prompt: str
    steps: int
    denoise: float
    seed: int
    guidance_scale: float = 3.5
    limits: SimilarityLimits = SAME_SCENE
    side: int = 1024
    multiple: int = 16
    attempts: int = 3


@dataclass(frozen=True, slots=True)
class Regenerated:
    """The result: `patch` is None if no attempt was accepted; `scores` are those of the last one."""

    patch: Image.Image | None
    attempts: int
    scores: Scores


async def regenerate(
    context: RunContext, patch: Image.Image, settings: PatchSettings, *, share: Share = (0.0, 1.0)
) -> Regenerated:
    """Run image to image on an RGB patch while holding the device, until an attempt is close enough to the patch.

    The result has the patch's size and its colours. If the model generates at a smaller size than the patch, only its
    change is enlarged and added, so the patch's own fine detail stays.
    """
    wanted = working_size(patch.size, side=settings.side, multiple=settings.multiple)
    size = context.own_size(wanted)
    start = await context.compute(partial(at_size, patch, size))
    for attempt in range(settings.attempts):
        request = GenerateRequest(
            prompt=settings.prompt,
            width=size[0],
            height=size[1],
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            seed=(settings.seed + attempt) % (MAX_SEED + 1),
            image=start,
            strength=max(settings.denoise * _WEAKER**attempt, _LEAST_NOISE),
        )
        generated = await context.generate(request, shown=wanted, share=_part(share, attempt, settings.attempts))
        if size != wanted:
            # A model with so small a native size may add detail, but must not change colours.
            generated = await context.compute(partial(with_colours_of, start, generated, cell=_COLOUR_CELL))
        result, scores = await context.compute(_checked(patch, start, generated, context))
        if settings.limits.accept(scores):
            context.progress(share[1])
            return Regenerated(result, attempt + 1, scores)
    return Regenerated(None, settings.attempts, scores)


def working_size(size: tuple[int, int], *, side: int, multiple: int) -> tuple[int, int]:
    """The (width, height) at which the model generates a patch: twice as large, but with a longer side of 512 to `side`
    pixels where the grid allows it."""
    longer = max(size)
    wanted = min(max(longer * _ENLARGEMENT, _SMALLEST_WORKING_SIDE), side)
    width, height = (max(multiple, round(length * wanted / longer / multiple) * multiple) for length in size)
    return width, height


def _checked(
    patch: Image.Image, start: Image.Image, generated: Image.Image, context: RunContext
) -> Callable[[], tuple[Image.Image, Scores]]:
    def check() -> tuple[Image.Image, Scores]:
        result = _at_patch_size(patch, start, match_colour(generated, start))
        return result, compare(patch, result, models_root=context.models_root)

    return check


def _at_patch_size(patch: Image.Image, start: Image.Image, generated: Image.Image) -> Image.Image:
    """Bring the generated patch from the model's size to the patch's."""
    if start.width >= patch.width and start.height >= patch.height:
        return at_size(generated, patch.size)
    return with_change(patch, start, generated)


def _part(share: Share, index: int, count: int) -> Share:
    width = (share[1] - share[0]) / count
    return share[0] + index * width, share[0] + (index + 1) * width

"""Enhances the faces of an image: regenerates them one by one in a close view, and rejects results that differ."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from PIL import Image

from compute.imaging.colour import feathered_ellipse, paste
from compute.imaging.detail import sharpen
from compute.imaging.faces import Face, detect_faces, pick_detector
from compute.imaging.similarity import Scores, compare
from compute.schemas.fields import MAX_SEED
from compute.worker.context import RunContext, Share
from compute.worker.ops.patch import PatchSettings, SimilarityLimits, regenerate

__all__ = ["SAME_PERSON", "FaceOutcome", "FaceSettings", "enhance_faces", "find_faces"]

_CLOSE_VIEW = 1.6
"""Side of the regenerated square, in sides of the face: with hair and neck, so that the model sees the context."""
_FEATHER = 0.3
_LEAST_SIDE = 16


SAME_PERSON = SimilarityLimits(least_ssim=0.75, most_lpips=0.25, most_dists=0.18)
"""The features stay where they are; only texture and sharpness change."""


@dataclass(frozen=True, slots=True)
class FaceSettings:
    """Settings for regenerating faces.

    Attributes:
        patch: Settings for each of them; with a `denoise` of 0 none is regenerated.
        fallback_amount: How much a face is sharpened if no attempt keeps enough of it, from 0 to 1.
        faces: The most faces that are regenerated, the largest first.
    """

    patch: PatchSettings
    fallback_amount: float = 0.5
    faces: int = 4


@dataclass(frozen=True, slots=True)
class FaceOutcome:
    """The result of an enhancement.

    Attributes:
        image: The RGB image; pixels outside of the faces are unchanged.
        attempts: How often the model generated, over all faces.
        ssim, lpips, dists: Of the face that changed most, between before and after; None if not known.
        fallback_used: Some face was sharpened, because no attempt was close enough.
        faces: The same for each face, and its `box`; for the metadata.
    """

    image: Image.Image
    detected: bool
    attempts: int = 0
    ssim: float | None = None
    lpips: float | None = None
    dists: float | None = None
    fallback_used: bool = False
    faces: tuple[dict[str, Any], ...] = ()


async def find_faces(context: RunContext, image: Image.Image) -> list[Face]:
    """Find the faces of an image, the largest first, with the best detector that this worker has."""
    detector, model_path = pick_detector(context.models_root)
    return await context.compute(partial(detect_faces, image, detector=detector, model_path=model_path))


async def enhance_faces(
    context: RunContext,
    image: Image.Image,
    settings: FaceSettings,
    *,
    faces: Sequence[Face] | None = None,
    share: Share = (0.0, 1.0),
) -> FaceOutcome:
    """Regenerate the faces of an RGB image while holding the device.

    For each face: crop a close view, image to image, match the colours, compare with the original, and feather the
    result in. A face without an attempt close enough to the original is sharpened without the model. With a `denoise`
    of 0 nothing is done.

    Args:
        faces: The faces, if they have been detected already.
    """
    found = await find_faces(context, image) if faces is None else faces
    chosen = found[: settings.faces]
    if not chosen or settings.patch.denoise <= 0:
        return FaceOutcome(image, detected=bool(found))
    result = await context.compute(image.copy)
    made = []
    for index, face in enumerate(chosen):
        width = (share[1] - share[0]) / len(chosen)
        part = (share[0] + index * width, share[0] + (index + 1) * width)
        patch = _patch_settings(settings.patch, index)
        made.append(await _enhance(context, result, face, patch, settings.fallback_amount, part))
    return _outcome(result, made)


@dataclass(frozen=True, slots=True)
class _Made:
    """One face that was put back."""

    box: tuple[int, int, int, int]
    attempts: int
    scores: Scores
    fallback_used: bool


async def _enhance(
    context: RunContext, result: Image.Image, face: Face, patch: PatchSettings, fallback_amount: float, share: Share
) -> _Made:
    """Regenerate one face and put it into `result`."""
    box = _close_view(face, result.size)
    original = result.crop(box)
    regenerated = await regenerate(context, original, patch, share=share)
    if regenerated.patch is None:
        better, scores = await context.compute(partial(_sharpened, original, fallback_amount, context))
    else:
        better, scores = regenerated.patch, regenerated.scores
    await context.compute(partial(_put_back, result, better, box))
    return _Made(box, regenerated.attempts, scores, fallback_used=regenerated.patch is None)


def _sharpened(original: Image.Image, amount: float, context: RunContext) -> tuple[Image.Image, Scores]:
    better = sharpen(original, amount)
    return better, compare(original, better, models_root=context.models_root)


def _put_back(result: Image.Image, face: Image.Image, box: tuple[int, int, int, int]) -> None:
    paste(result, face, box, feathered_ellipse(face.size, feather=_FEATHER))


def _close_view(face: Face, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square around the face, cut at the image's edges."""
    left, top, right, bottom = face.box
    half = max(right - left, bottom - top, _LEAST_SIDE) * _CLOSE_VIEW / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return (
        max(0, round(x - half)),
        max(0, round(y - half)),
        min(size[0], round(x + half)),
        min(size[1], round(y + half)),
    )


def _patch_settings(patch: PatchSettings, index: int) -> PatchSettings:
    """The settings of one face; no two attempts of a job have the same seed."""
    return replace(patch, seed=(patch.seed + index * patch.attempts) % (MAX_SEED + 1))


def _outcome(image: Image.Image, made: Sequence[_Made]) -> FaceOutcome:
    scores = [one.scores for one in made]
    return FaceOutcome(
        image,
        detected=True,
        attempts=sum(one.attempts for one in made),
        ssim=min(score.ssim for score in scores),
        lpips=_worst([score.lpips for score in scores]),
        dists=_worst([score.dists for score in scores]),
        fallback_used=any(one.fallback_used for one in made),
        faces=tuple(asdict(one) for one in made),
    )


def _worst(distances: Sequence[float | None]) -> float | None:
    known = [distance for distance in distances if distance is not None]
    return max(known) if known else None

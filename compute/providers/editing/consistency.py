"""Edits a part of an image until the edit still shows the same thing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from compute.errors import ProviderFailed
from compute.imaging.resize import at_size
from compute.imaging.similarity import Scores, compare, missing_weights, ssim
from compute.providers.editing.bench import Bench
from compute.providers.editing.editor import EditRequest, ImageEditor
from compute.schemas.enums import ErrorCategory
from compute.schemas.fields import MAX_SEED

__all__ = ["EditedPart", "Finish", "Limits", "edit_until_alike", "raise_if_all_refused", "report"]

Finish = Callable[[Image.Image, Image.Image], Image.Image]
"""Makes what replaces the original of an edit, from (edited, original)."""

_LEAST_SIDE = 16
"""Images are compared at this shorter side at least, because SSIM has a window of 11 pixels."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The likeness to the original that an edit must keep; 0 switches a check off. LPIPS and DISTS, which take 2 GB of
    memory, are computed only if they are checked, and are not checked where their weights are not installed.

    Attributes:
        ssim: The least.
        lpips, dists: The most.
    """

    ssim: float = 0.0
    lpips: float = 0.0
    dists: float = 0.0

    def accept(self, scores: Scores) -> bool:
        return (
            (not self.ssim or scores.ssim >= self.ssim)
            and (not self.lpips or scores.lpips is None or scores.lpips <= self.lpips)
            and (not self.dists or scores.dists is None or scores.dists <= self.dists)
        )

    def scores(self, original: Image.Image, edited: Image.Image, models_root: Path) -> Scores:
        """Compare two RGB images at the size of `original`, as far as it is needed."""
        edited = at_size(edited, original.size)
        shorter = min(original.size)
        if shorter < _LEAST_SIDE:
            width, height = (max(_LEAST_SIDE, round(side * _LEAST_SIDE / shorter)) for side in original.size)
            original, edited = at_size(original, (width, height)), at_size(edited, (width, height))
        if self.lpips or self.dists:
            return compare(original, edited, models_root=models_root)
        return Scores(ssim(original, edited))

    def missing(self, models_root: Path) -> str | None:
        """Why a wanted check is not made; None if all are."""
        return missing_weights(models_root) if self.lpips or self.dists else None


@dataclass(slots=True)
class EditedPart:
    """What became of a part.

    Attributes:
        name: The first part of its edits' names, such as `tile/3`.
        accepted: A try was alike enough; otherwise the original stays.
        image: What replaces it then, until it is laid into the whole.
        scores: Of the accepted try, or of the one that was most alike.
        ssims: Of every try.
        refused: The vendor's refusal of this part's content.
        kept: Paths of images to look at, by name.
    """

    name: str
    accepted: bool = False
    image: Image.Image | None = None
    tries: int = 0
    scores: Scores | None = None
    ssims: list[float] = field(default_factory=list)
    refused: ProviderFailed | None = None
    kept: dict[str, str] = field(default_factory=dict)


async def edit_until_alike(
    bench: Bench,
    editor: ImageEditor,
    request: EditRequest,
    limits: Limits,
    finish: Finish,
    *,
    retries: int,
    keeps_images: bool = False,
) -> EditedPart:
    """Edit the request's image, at most `retries` more times until the limits accept the finished edit. The n-th try is
    the part `{request.part}/try/{n}`, and has a seed of its own. Content that a vendor refuses is not tried again.

    Raises:
        ProviderFailed, CallUncertain: as `ImageEditor.edit`, but for a refusal of the content.
    """
    part, original = EditedPart(request.part), request.image
    if keeps_images:
        await _keep(bench, part, "original", original)
    for number in range(1, retries + 2):
        seed = (request.seed + number - 1) % (MAX_SEED + 1)
        try:
            edited = await editor.edit(replace(request, part=f"{request.part}/try/{number}", seed=seed))
        except ProviderFailed as error:
            if error.category is not ErrorCategory.CONTENT_POLICY:
                raise
            part.refused = error
            return part
        part.tries = number
        finished, scores = await bench.compute(partial(_finished, original, edited, limits, finish, bench.models_root))
        if keeps_images:
            await _keep(bench, part, f"try-{number}", finished)
        part.ssims.append(scores.ssim)
        if limits.accept(scores):
            part.accepted, part.image, part.scores = True, finished, scores
            return part
        if part.scores is None or scores.ssim > part.scores.ssim:
            part.scores = scores
    return part


def report(parts: Sequence[EditedPart]) -> dict[str, Any]:
    """What became of the parts, for the metadata."""
    lines = []
    for part in parts:
        line: dict[str, Any] = {"part": part.name, "tries": part.tries, "accepted": part.accepted}
        line["ssims"] = [_rounded(one) for one in part.ssims]
        if part.scores is not None:
            line |= {name: _rounded(getattr(part.scores, name)) for name in ("ssim", "lpips", "dists")}
        if part.refused is not None:
            line["refused"] = part.refused.detail
        lines.append(line)
    kept = sum(not part.accepted for part in parts)
    found: dict[str, Any] = {"parts": lines, "edits": sum(part.tries for part in parts), "parts_unchanged": kept}
    debug = {name: path for part in parts for name, path in part.kept.items()}
    return found | ({"debug_images": debug} if debug else {})


def raise_if_all_refused(parts: Sequence[EditedPart]) -> None:
    """Raises:
    ProviderFailed: the vendor has refused the content of every part, so that nothing was done.
    """
    refusals = [part.refused for part in parts if part.refused is not None]
    if refusals and len(refusals) == len(parts):
        raise refusals[0]


def _finished(
    original: Image.Image, edited: Image.Image, limits: Limits, finish: Finish, models_root: Path
) -> tuple[Image.Image, Scores]:
    finished = finish(edited, original)
    return finished, limits.scores(original, finished, models_root)


async def _keep(bench: Bench, part: EditedPart, what: str, image: Image.Image) -> None:
    name = f"{part.name.replace('/', '-')}-{what}"
    part.kept[name] = await bench.keep(f"debug/{name}", image)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

"""Transfers fine detail from a reference image to a region, harmonised by the model."""

from dataclasses import dataclass
from functools import partial

from PIL import Image

from compute.imaging.colour import paste, with_mode_of
from compute.imaging.detail import sharpen, transfer_detail
from compute.imaging.faces import detect_faces, pick_detector
from compute.imaging.segmentation.regions import Region, find_region
from compute.imaging.segmentation.segment import subject_mask
from compute.worker.context import RunContext
from compute.worker.ops.patch import Regenerated, SimilarityLimits

__all__ = ["SAME_PIECE", "DetailOutcome", "Regions", "find_regions", "put_back", "with_detail"]

SAME_PIECE = SimilarityLimits(least_ssim=0.8, most_lpips=0.2, most_dists=0.15)
"""The same weave, the same letters: only crisper."""


@dataclass(frozen=True, slots=True)
class Regions:
    """The region to enhance and the source of its detail: `reference` is an RGB cut-out, `reference_mask` its mask."""

    base: Region
    reference: Image.Image | None
    reference_mask: Image.Image | None


@dataclass(frozen=True, slots=True)
class DetailOutcome:
    """The result of an enhancement.

    Attributes:
        image: The image in its own mode; pixels outside of the region are unchanged.
        attempts: How often the model generated the region.
        ssim: Between the region after the transfer and as published; None if nothing was generated.
        fallback_used: No attempt was close enough; the transfer alone is published.
    """

    image: Image.Image
    attempts: int = 0
    ssim: float | None = None
    fallback_used: bool = False


async def find_regions(
    context: RunContext, label: str | None, base: Image.Image, reference: Image.Image | None
) -> Regions:
    """Find the label's region in both images. CPU time only."""
    here, _ = await context.compute(partial(_region, context, label, base))
    if reference is None:
        return Regions(here, None, None)
    there, shown = await context.compute(partial(_region, context, label, reference))
    return Regions(here, shown, there.mask)


async def with_detail(context: RunContext, base: Image.Image, regions: Regions, amount: float) -> Image.Image:
    """The region with the reference's detail, or sharpened if there is no reference; RGB. CPU time only.

    Args:
        amount: Of detail or sharpening, from 0 to 1.
    """
    return await context.compute(partial(_with_detail, base, regions, amount))


async def put_back(
    context: RunContext, base: Image.Image, regions: Regions, detailed: Image.Image, regenerated: Regenerated
) -> DetailOutcome:
    """Put the generated region into the image, or the transfer alone if no attempt kept enough of it. CPU time only."""
    return DetailOutcome(
        await context.compute(partial(_put_back, base, regenerated.patch or detailed, regions.base)),
        regenerated.attempts,
        ssim=regenerated.scores.ssim if regenerated.patch else 1.0,
        fallback_used=regenerated.patch is None,
    )


def _region(context: RunContext, label: str | None, image: Image.Image) -> tuple[Region, Image.Image]:
    """The region, and the image's content there in RGB."""
    detector, model_path = pick_detector(context.models_root)
    subject = subject_mask(image, models_root=context.models_root)
    region = find_region(label, subject, detect_faces(image, detector=detector, model_path=model_path))
    return region, image.crop(region.box).convert("RGB")


def _with_detail(base: Image.Image, regions: Regions, amount: float) -> Image.Image:
    crop = base.crop(regions.base.box).convert("RGB")
    if regions.reference is None or regions.reference_mask is None:
        return sharpen(crop, amount)
    return transfer_detail(
        crop, regions.reference, amount, mask=regions.base.mask, reference_mask=regions.reference_mask
    )


def _put_back(base: Image.Image, patch: Image.Image, region: Region) -> Image.Image:
    colours = base.convert("RGB")
    paste(colours, patch, region.box, region.mask)
    return with_mode_of(base, colours)

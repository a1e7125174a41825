"""Applies a framing plan to an image."""

from PIL import Image

from compute.imaging.framing.geometry import FramePlan, Resampling
from compute.imaging.framing.padding import padded

__all__ = ["reframed"]


def reframed(image: Image.Image, plan: FramePlan, resampling: Resampling) -> Image.Image:
    """Apply the plan to an image in mode L, RGB or RGBA; pixels that need no resampling are copied.

    If the plan changes nothing, the image itself is returned.
    """
    if not plan.changes(image.size):
        return image
    left, top, right, bottom = plan.destination
    if plan.resamples:
        seen = image.resize((right - left, bottom - top), Image.Resampling[resampling.upper()], box=plan.source)
    else:
        seen = image.crop((round(plan.source[0]), round(plan.source[1]), round(plan.source[2]), round(plan.source[3])))
    result = padded(seen, plan.size, (left, top)) if plan.pads else seen
    result.info = dict(image.info)
    return result

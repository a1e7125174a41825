"""A plan of the geometry carried out on an image."""

from PIL import Image

from compute.imaging.framing.geometry import FramePlan, Resampling
from compute.imaging.framing.padding import padded

__all__ = ["reframed"]


def reframed(image: Image.Image, plan: FramePlan, resampling: Resampling) -> Image.Image:
    """The image as the plan wants it; pixels that need no resampling are copied. `image` is L, RGB or RGBA.

    An image that the plan leaves as it is comes back itself.
    """
    if not plan.changes(image.size):
        return image
    left, top, right, bottom = plan.place
    if plan.resamples:
        seen = image.resize((right - left, bottom - top), Image.Resampling[resampling.upper()], box=plan.source)
    else:
        seen = image.crop((round(plan.source[0]), round(plan.source[1]), round(plan.source[2]), round(plan.source[3])))
    result = padded(seen, plan.size, (left, top)) if plan.pads else seen
    result.info = dict(image.info)
    return result

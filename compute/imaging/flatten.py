"""Removes transparency from images."""

from PIL import Image

__all__ = ["on_white"]


def on_white(image: Image.Image) -> Image.Image:
    """The image in RGB, composited onto white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image.convert("RGBA"))
    return paper.convert("RGB")

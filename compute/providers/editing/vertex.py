"""Edits images with Google's models."""

from functools import partial

import numpy as np
from PIL import Image

from compute.imaging.blend import Box
from compute.imaging.framing.padding import padded
from compute.providers.calls.job import JobCalls
from compute.providers.editing.editor import EditRequest
from compute.providers.editing.encoded import encoded_for_vendor
from compute.providers.vendors.google.images import (
    ImageWish,
    SentImage,
    make_image,
    nearest_ratio,
    seed_for,
    shape_of,
)
from compute.settings import Settings
from compute.worker.context import RunContext

__all__ = ["VertexEditor"]

_TEMPERATURE = 0.4
"""An edit that must stay where it is needs little chance."""


class VertexEditor:
    """Implements `ImageEditor`. The models know ten shapes only: an image is extended to the nearest, and what was
    added is cut off again, so that everything stays where it was."""

    def __init__(self, context: RunContext, calls: JobCalls, settings: Settings, *, user: str) -> None:
        self._context = context
        self._calls = calls
        self._settings = settings
        self._user = user

    @property
    def model(self) -> str:
        return self._settings.gemini_image_model

    async def edit(self, request: EditRequest) -> Image.Image:
        compute = self._context.compute
        ratio = nearest_ratio(request.image.size)
        size, box = frame_of(request.image.size, shape_of(ratio))
        framed = await compute(partial(padded, request.image, size, (box[0], box[1])))
        images = [SentImage(*await compute(partial(encoded_for_vendor, one))) for one in (framed, *request.references)]
        wish = ImageWish(
            model=self.model,
            prompt=_prompt(request),
            images=tuple(images),
            aspect_ratio=ratio,
            image_size=request.resolution,
            temperature=_TEMPERATURE if request.temperature is None else request.temperature,
            seed=seed_for(request.seed, self._context.job.fence),
        )
        collected = await make_image(self._calls, self._settings, request.part, wish, user=self._user)
        made = await self._context.reload(collected.files[0].path)
        return await compute(partial(cut_out, made.convert("RGB"), size, box))


def frame_of(size: tuple[int, int], shape: float) -> tuple[tuple[int, int], Box]:
    """The smallest size with a shape (width by height) that has room for an image, and where that lies in it."""
    width, height = size
    framed = max(width, round(height * shape)), max(height, round(width / shape))
    left, upper = (framed[0] - width) // 2, (framed[1] - height) // 2
    return framed, (left, upper, left + width, upper + height)


def cut_out(made: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    """The part of an edited frame of `size` that `box` was, whatever size the edit has."""
    if box == (0, 0, *size):
        return made
    scale = np.array([made.width / size[0], made.height / size[1]] * 2)
    found = np.array(box) * scale
    wanted = max(1, round(found[2] - found[0])), max(1, round(found[3] - found[1]))
    return made.resize(wanted, Image.Resampling.LANCZOS, box=tuple(found))


def _prompt(request: EditRequest) -> str:
    if request.strength is None or request.strength >= 1:
        return request.instruction
    return f"{request.instruction}\nHow far to go, from 0 for hardly visible to 100 for as far as is possible: " + (
        f"{request.strength:.0%}".rstrip("%")
    )

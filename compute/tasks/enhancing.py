"""The parts that the two enhancers share: fields of a request, and the check of an image."""

from typing import Annotated

from pydantic import Field

from compute.errors import InvalidInput
from compute.tasks.registry import Inputs

__all__ = ["LEAST_SIDE", "EnhancerSteps", "WorkingSize", "path_of_image"]

LEAST_SIDE = 32
"""Pixels of an image's shorter side; a smaller one has no face or detail that could be found."""

EnhancerSteps = Annotated[int, Field(ge=1, le=200, description="Denoising steps of the whole schedule.")]
WorkingSize = Annotated[
    int, Field(ge=64, le=2048, description="Pixels: largest side at which the model generates a face or a region.")
]


async def path_of_image(source: str, inputs: Inputs, field: str) -> str:
    """Fetch an image that is to be enhanced, or that shows how, and return its storage path.

    Raises:
        InvalidInput: it cannot be had, or is smaller than `LEAST_SIDE`.
    """
    image = await inputs.image(source, field=field)
    if min(image.width, image.height) < LEAST_SIDE:
        raise InvalidInput(f"An image needs at least {LEAST_SIDE} pixels on each side.", field=field)
    return image.path

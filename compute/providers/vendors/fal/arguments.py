"""The arguments of fal's apps.

Apps of one kind mostly agree on their names; `additional_static_params` mends the rest.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from compute.providers.vendors.pictures import data_uri, masked_uris
from compute.tasks.operations import Animate, Draw, Edit, Picture, Refine
from compute.worker.context import RunContext

__all__ = [
    "CLARITY_MOST",
    "animate_arguments",
    "cutout_arguments",
    "draw_arguments",
    "edit_arguments",
    "merged",
    "refine_arguments",
    "shown",
]

CLARITY_MOST = 4.0
"""The largest factor of fal's upscaler."""
_ONE_IMAGE = ("fal-ai/flux-pro/kontext", "fal-ai/flux-kontext", "fal-ai/qwen-image-edit")
"""Apps that edit one image and call it `image_url`; those that take several have `multi` in their path."""


def merged(arguments: Mapping[str, Any], static: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments with `static` in place of those of the same names; null takes one away."""
    static = static or {}
    kept = {name: value for name, value in arguments.items() if name not in static}
    return kept | _given(static)


async def draw_arguments(operation: Draw, context: RunContext) -> dict[str, Any]:
    """For one image, but for its seed."""
    return _given(
        {
            "prompt": operation.prompt,
            "negative_prompt": operation.negative_prompt,
            "image_size": {"width": operation.width, "height": operation.height},
            "num_inference_steps": operation.steps,
            "guidance_scale": operation.guidance_scale,
            "num_images": 1,
            "output_format": "png",
            "image_url": await data_uri(context, operation.image) if operation.image else None,
            "strength": operation.strength,
        }
    )


async def edit_arguments(operation: Edit, app: str, context: RunContext) -> dict[str, Any]:
    """For an edit of the whole image, or of what is white in the mask."""
    common = _given(
        {
            "prompt": operation.prompt,
            "seed": operation.seed,
            "num_images": 1,
            "output_format": "png",
            "num_inference_steps": operation.steps,
            "strength": operation.strength,
        }
    )
    if operation.mask is not None:
        image, mask = await masked_uris(context, operation.image, operation.mask)
        return common | {"image_url": image, "mask_url": mask}
    return common | shown(app, await _uris(context, operation.image, *operation.references))


def shown(app: str, uris: list[str]) -> dict[str, Any]:
    """The argument that shows images to an app that edits the first of them."""
    if app.startswith(_ONE_IMAGE) and "multi" not in app and len(uris) == 1:
        return {"image_url": uris[0]}
    return {"image_urls": uris}


async def refine_arguments(operation: Refine, context: RunContext) -> dict[str, Any]:
    """For an upscaler that adds detail: `creativity` is how much of it."""
    return _given(
        {
            "image_url": await data_uri(context, operation.image),
            "prompt": operation.prompt,
            "upscale_factor": min(max(operation.factor, 1.0), CLARITY_MOST),
            "creativity": operation.denoise,
            "num_inference_steps": operation.steps,
            "seed": operation.seed,
            "output_format": "png",
        }
    )


async def animate_arguments(operation: Animate, context: RunContext) -> dict[str, Any]:
    """For a clip: of the nearest resolution that such apps offer, in the shape of its image."""
    return _given(
        {
            "image_url": await data_uri(context, operation.image),
            "prompt": operation.prompt,
            "negative_prompt": operation.negative_prompt,
            "num_frames": max(1, round(operation.seconds * operation.fps)),
            "frame_rate": operation.fps,
            "resolution": "720p" if min(operation.width, operation.height) > 480 else "480p",
            "aspect_ratio": "auto",
            "seed": operation.seed,
        }
    )


async def cutout_arguments(image: Picture, context: RunContext) -> dict[str, Any]:
    """For the subject of an image on a transparent ground."""
    return {"image_url": await data_uri(context, image), "output_format": "png"}


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


async def _uris(context: RunContext, *pictures: Picture) -> list[str]:
    return list(await asyncio.gather(*(data_uri(context, one) for one in pictures)))

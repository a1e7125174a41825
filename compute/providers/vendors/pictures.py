"""Pictures on their way to vendors and back. They travel inside requests, so that a vendor need not reach us."""

import base64
from functools import partial

from PIL import Image

from compute.imaging.resize import Layers, at_size, resized
from compute.media.codec import CONTENT_TYPES, ImageFormat, encode
from compute.providers.base import publish
from compute.providers.calls.call import Collected
from compute.tasks.operations import Edit, Picture
from compute.worker.context import RunContext
from compute.worker.protocol import Size

__all__ = ["data_uri", "masked_uris", "publish_at", "publish_files", "publish_inpainted"]


async def data_uri(context: RunContext, picture: Picture, *, max_height: int | None = None) -> str:
    """A stored picture as a data URI, PNG, scaled down to `max_height` pixels if it is higher.

    Raises:
        InvalidInput: it is gone, or damaged.
    """
    image = await context.load(picture.path, field=picture.field)
    return await context.compute(partial(_uri, image, max_height))


async def masked_uris(context: RunContext, picture: Picture, mask: Picture) -> tuple[str, str]:
    """A stored picture and its mask in the same size, as `data_uri` makes them."""
    image, white = await _with_mask(context, picture, mask)
    return await context.compute(partial(_uri, image)), await context.compute(partial(_uri, white))


async def _with_mask(context: RunContext, picture: Picture, mask: Picture) -> tuple[Image.Image, Image.Image]:
    image = await context.load(picture.path, field=picture.field)
    white = await context.load(mask.path, field=mask.field)
    return image, await context.compute(lambda: at_size(white.convert("L"), image.size))


def _uri(image: Image.Image, max_height: int | None = None) -> str:
    if max_height is not None and image.height > max_height:
        image = at_size(image, (max(1, round(image.width * max_height / image.height)), max_height))
    return f"data:image/png;base64,{base64.b64encode(encode(image, 'png')).decode()}"


async def publish_at(
    context: RunContext, collected: Collected, size: Size, *, seed: int | None = None, model: str
) -> None:
    """Publish pictures as `base.publish` does, in exactly this size; other proportions are cropped on both sides."""
    if all((file.width, file.height) == size for file in collected.files):
        publish(context, collected, seed=seed, model=model)
        return
    for index, file in enumerate(collected.files):
        of_file = None if seed is None else seed + index
        image = await context.reload(file.path)
        await context.publish(await context.compute(partial(_resized, image, size)), seed=of_file)
    context.note(model=model, provider_request_id=collected.vendor_id)


async def publish_files(context: RunContext, collected: Collected, image_format: ImageFormat, *, model: str) -> None:
    """Publish pictures as `base.publish` does, in this format."""
    if all(file.content_type == CONTENT_TYPES[image_format] for file in collected.files):
        publish(context, collected, model=model)
        return
    for file in collected.files:
        await context.publish(await context.reload(file.path), image_format=image_format)
    context.note(model=model, provider_request_id=collected.vendor_id)


async def publish_inpainted(context: RunContext, collected: Collected, operation: Edit, *, model: str) -> None:
    """Publish pictures as `publish_at` does, with the image that was given wherever its mask is black."""
    assert operation.mask is not None  # noqa: S101 - the caller's
    given, mask = await _with_mask(context, operation.image, operation.mask)
    for file in collected.files:
        made = await context.reload(file.path)
        whole = await context.compute(partial(_inpainted, given, mask, made, (operation.width, operation.height)))
        await context.publish(whole, seed=operation.seed)
    context.note(model=model, provider_request_id=collected.vendor_id)


def _resized(image: Image.Image, size: Size) -> Image.Image:
    layers = Layers.of(image).resized(size)
    return layers.with_colours(layers.colours)


def _inpainted(given: Image.Image, mask: Image.Image, made: Image.Image, size: Size) -> Image.Image:
    if made.size != given.size:
        made = resized(made, given.size)
    whole = Image.composite(made.convert(given.mode), given, mask)
    return whole if whole.size == size else _resized(whole, size)

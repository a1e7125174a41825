"""The image of a request for an evaluation, small enough for a model."""

from compute.errors import InvalidInput
from compute.evaluation.vision import LONGEST_SIDE
from compute.media.base64_text import is_inline
from compute.media.loader import Media
from compute.providers.chat.base import ChatImage
from compute.requests.inputs import InputSources
from compute.schemas.evaluation import EvaluationRequest
from compute.storage.links.signed import stored_path
from compute.storage.readable import check_readable

__all__ = ["check_source", "load_image"]

_SCHEME_CHARACTERS = 32


def check_source(request: EvaluationRequest) -> None:
    """Raises:
    InvalidInput: not exactly one image is named.
    """
    if (request.image_data is None) == (request.image_url is None):
        raise InvalidInput("Exactly one of `image_data` and `image_url` is required.", field="image_data")


async def load_image(request: EvaluationRequest, sources: InputSources) -> ChatImage:
    """Fetch or decode the image of a request, within the limits of all images. Nothing is stored.

    Raises:
        InvalidInput, TooLarge: it cannot be had, or is no image.
        StorageFailed: the object store could not be reached.
    """
    if request.image_data is not None:
        media = await _inline(request.image_data, sources)
    else:
        media = await _named((request.image_url or "").strip(), sources)
    return ChatImage(media.data, media.content_type)


async def _inline(data: str, sources: InputSources) -> Media:
    field = "image_data"
    if "://" in data[:_SCHEME_CHARACTERS]:
        raise InvalidInput("Use base64, or a data: URL with base64; an address belongs to `image_url`.", field=field)
    return await sources.media.load(data, field=field, side=LONGEST_SIDE)


async def _named(address: str, sources: InputSources) -> Media:
    field = "image_url"
    if is_inline(address):
        raise InvalidInput("Use an address, or a storage path; base64 belongs to `image_data`.", field=field)
    path = await stored_path(address, sources.objects, sources.link_signer, field=field)
    if path is None and "://" in address:
        return await sources.media.load(address, field=field, side=LONGEST_SIDE)
    path = path or check_readable(address, field=field)
    if await sources.objects.stat(path) is None:
        raise InvalidInput(f"There is no stored file {path}.", field=field)
    return await sources.media.normalise(await sources.objects.get(path), field=field, side=LONGEST_SIDE)

"""Backgrounds of a batch of images, removed by calls of which some may fail."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from compute.errors import CallUncertain, InvalidInput, ProviderFailed
from compute.providers.calls.call import Collected
from compute.providers.vendors.pictures import publish_files
from compute.schemas.enums import ErrorCategory
from compute.tasks.operations import Picture, RemoveBackground
from compute.worker.context import RunContext

__all__ = ["publish_cutouts"]

_AT_ONCE = 8
_OF_THE_IMAGE = frozenset({ErrorCategory.INVALID_INPUT, ErrorCategory.CONTENT_POLICY})

CutOut = Callable[[int, Picture], Awaitable[Collected]]
"""Makes the call for the image with this index."""


async def publish_cutouts(context: RunContext, operation: RemoveBackground, cut_out: CutOut, *, model: str) -> None:
    """Cut out all images, a few at once, and publish the results in their order. As on this cluster, an image that
    cannot be cut out is named in the metadata, unless none can.

    Raises:
        ProviderFailed, CallUncertain: the vendor failed, or none of the images could be cut out.
        InvalidInput: none of the images can be read.
    """
    room, done = asyncio.Semaphore(_AT_ONCE), 0

    async def one(index: int, image: Picture) -> Collected:
        nonlocal done
        async with room:
            try:
                return await cut_out(index, image)
            finally:
                done += 1
                context.progress(done / len(operation.images))

    made = await asyncio.gather(*map(one, range(len(operation.images)), operation.images), return_exceptions=True)
    failures = {index: one for index, one in enumerate(made) if isinstance(one, BaseException)}
    _raise_worst(list(failures.values()), len(made))
    for result in made:
        if isinstance(result, Collected):
            await publish_files(context, result, operation.output_format, model=model)
    context.note(failed=[_named(index, operation, error) for index, error in failures.items()])


def _raise_worst(failures: list[BaseException], count: int) -> None:
    """Raise what is not the fault of one image, or the first failure if every image has one."""
    for error in sorted(failures, key=lambda failure: not isinstance(failure, CallUncertain)):
        if not _is_of_the_image(error):
            raise error
    if len(failures) == count:
        raise failures[0]


def _is_of_the_image(error: BaseException) -> bool:
    return isinstance(error, InvalidInput) or (isinstance(error, ProviderFailed) and error.category in _OF_THE_IMAGE)


def _named(index: int, operation: RemoveBackground, error: BaseException) -> dict[str, Any]:
    told = error.detail if isinstance(error, InvalidInput | ProviderFailed) else str(error)
    return {"index": index, "path": operation.images[index].path, "error": told}

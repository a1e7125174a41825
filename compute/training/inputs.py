"""Makes the spec of a request for a training, and checks the images that it names as far as that is quick.

The host of an address is looked up; a storage path must exist; inline images are decoded and stored. The job checks
whether all of them are images.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from compute.errors import InvalidFields, InvalidInput
from compute.evaluation.vision import VisionModel
from compute.media.base64_text import is_inline
from compute.outbound.client import MAX_URL_CHARACTERS, GuardedClient
from compute.requests.faults import MOST_FAULTS, Faults
from compute.requests.inputs import InputSources, RequestInputs
from compute.requests.serving import ServedModel
from compute.schemas.training import CaptioningStrategy, TrainingTaskCreate
from compute.storage.links.signed import stored_path
from compute.storage.readable import check_readable
from compute.training.request import spec_of
from compute.training.spec import TrainingSpec

__all__ = ["TrainingSources", "prepare"]

_AT_ONCE = 50
_LOOK_UP_SECONDS = 20.0
"""Time for all look-ups of hosts together. Hosts that are not resolved by then are left to the job."""
_NO_MODEL = ServedModel(None, 1, queue="training", roles=frozenset())
_FIELD = "source_images"


class TrainingSources(InputSources, Protocol):
    """The sources of the images and files that a request may name."""

    @property
    def client(self) -> GuardedClient: ...


async def prepare(request: TrainingTaskCreate, training_id: UUID, sources: TrainingSources) -> TrainingSpec:
    """Return the spec of a request. Its images are addresses and storage paths; inline ones are stored now.

    Raises:
        InvalidInput, InvalidFields, TooLarge: it cannot be done, a setting of the vision model that it asks for is
            missing, or its images, its zip file or its webhook are invalid; names each, up to a hundred. Nothing was
            stored.
        StorageFailed: they could not be looked for, or stored.
    """
    if request.preprocessing_captioning_strategy is CaptioningStrategy.VISION:
        VisionModel.of(sources.settings, field="preprocessing_captioning_strategy")
    request = await _by_path(request, sources)
    spec = spec_of(request, training_id, sources.settings.training_models)
    images = await _ingest(request, sources)
    return spec.model_copy(update={"data": spec.data.model_copy(update={"images": tuple(images)})})


async def _by_path(request: TrainingTaskCreate, sources: TrainingSources) -> TrainingTaskCreate:
    """Return the request with links of this API replaced by their storage paths.

    Raises:
        InvalidFields: some have expired.
    """

    async def path_of(source: str, field: str) -> str:
        return await stored_path(source, sources.objects, sources.link_signer, field=field) or source

    faults = _Faults()
    images = list(request.source_images or ())

    async def replace(index: int, source: str) -> None:
        images[index] = await path_of(source, _field(index))

    await _each([one for one in enumerate(images) if _is_address(one[1])], replace, faults)
    faults.raise_if_any()
    changes: dict[str, Any] = {"source_images": images} if images else {}
    if request.dataset_url is not None:
        changes["dataset_url"] = await path_of(request.dataset_url, "dataset_url")
    return request.model_copy(update=changes)


async def _ingest(request: TrainingTaskCreate, sources: TrainingSources) -> list[str]:
    """Return the images of a request as addresses and storage paths; inline ones are stored now.

    Raises:
        InvalidFields: some of them, the zip file or the webhook are invalid; names each, up to a hundred.
            Nothing was stored.
        StorageFailed: they could not be looked for, or stored.
    """
    others_too = Faults()
    if request.webhook_url is not None:
        with others_too.of():
            await sources.client.check_url(request.webhook_url, "webhook_url")
    if request.dataset_url is not None:
        with others_too.of():
            await _check_archive(request.dataset_url, sources)
    images = [source.strip() for source in request.source_images or ()]
    faults = _Faults()
    await _check_addresses([(index, one) for index, one in enumerate(images) if _is_address(one)], sources, faults)
    taken = RequestInputs(sources, _NO_MODEL)
    others = [(index, one) for index, one in enumerate(images) if not _is_address(one)]

    async def look(index: int, source: str) -> None:
        images[index] = await _stored(source, index, sources, taken)

    await _each(others, look, faults)
    with others_too.of():
        faults.raise_if_any()
    others_too.raise_if_any()
    await taken.keep()
    return images


class _Faults:
    """Faults of the elements of a list, in their order."""

    def __init__(self) -> None:
        self._found: dict[int, InvalidInput] = {}

    def add(self, index: int, error: InvalidInput) -> None:
        self._found[index] = error

    def raise_if_any(self) -> None:
        """Raises:
        InvalidFields: there are some.
        """
        if self._found:
            first = sorted(self._found.items())[:MOST_FAULTS]
            raise InvalidFields(
                [{"loc": ("body", _FIELD, index), "msg": one.detail, "type": "invalid_input"} for index, one in first]
            )


async def _check_archive(source: str, sources: TrainingSources) -> None:
    if _is_address(source):
        await sources.client.check_url(source, "dataset_url")
        return
    path = check_readable(source, field="dataset_url")
    stored = await sources.objects.stat(path)
    if stored is None:
        raise InvalidInput(f"There is no stored file {path}.", field="dataset_url")
    if stored.size > (most := sources.settings.training_archive_max_bytes):
        raise InvalidInput(f"A zip file of images has at most {most} bytes.", field="dataset_url")


async def _check_addresses(addresses: Sequence[tuple[int, str]], sources: TrainingSources, faults: _Faults) -> None:
    """Look up every host once, with the first of its addresses."""
    firsts: dict[str, tuple[int, str]] = {}
    for index, url in addresses:
        firsts.setdefault(_origin(url[:MAX_URL_CHARACTERS]), (index, url))
        if index % _AT_ONCE == 0:
            await asyncio.sleep(0)

    async def look_up(index: int, url: str) -> None:
        await sources.client.check_url(url, _field(index))

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            await _each(firsts.values(), look_up, faults)
    for index, url in addresses:
        # Faults of the rest of an address whose host is valid.
        if len(url) > MAX_URL_CHARACTERS or not url.isprintable() or " " in url:
            faults.add(index, InvalidInput("A URL is short, and cannot hold spaces or control characters."))


async def _stored(source: str, index: int, sources: TrainingSources, taken: RequestInputs) -> str:
    """The path of an image that is stored, or will be."""
    field = _field(index)
    if is_inline(source):
        return (await taken.image(source, field=field)).path
    if "://" in source:
        raise InvalidInput("Use an http:// or https:// URL.", field=field)
    path = check_readable(source, field=field)
    if await sources.objects.stat(path) is None:
        raise InvalidInput(f"There is no stored file {path}.", field=field)
    return path


async def _each(items: Iterable[tuple[int, str]], work: Callable[[int, str], Awaitable[None]], faults: _Faults) -> None:
    """Run `work` for all, some at a time, and record the fault of each."""
    waiting = iter(items)

    async def worker() -> None:
        for index, source in waiting:
            try:
                await work(index, source)
            except InvalidInput as error:
                faults.add(index, error)
            # Some work never awaits, and there may be thousands of items.
            await asyncio.sleep(0)

    workers = [asyncio.create_task(worker()) for _ in range(_AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _is_address(source: str) -> bool:
    return source[:7].lower() == "http://" or source[:8].lower() == "https://"


def _origin(url: str) -> str:
    """Scheme, host and port in their original spelling."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return f"{parts.scheme}://{parts.netloc}"


def _field(index: int) -> str:
    return f"{_FIELD}.{index}"

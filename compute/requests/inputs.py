"""Fetches and checks the inputs of a request: images are stored by their content, LoRAs are inspected."""

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from types import MappingProxyType
from typing import Protocol

from compute.errors import InvalidInput, NotFound
from compute.lora.check import check_lora
from compute.lora.filenames import stored_lora
from compute.media.images import image_size
from compute.media.loader import Media, MediaLoader
from compute.requests.serving import ServedModel
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.links.signed import LinkSigner, stored_path
from compute.storage.paths import MAX_PATH_CHARACTERS, clean_path
from compute.storage.readable import check_readable
from compute.storage.tenants import own_folder
from compute.storage.together import for_each
from compute.tasks.registry import InputImage
from compute.worker.protocol import Role

__all__ = ["INPUTS", "InputSources", "RequestInputs"]

INPUTS = "inputs/"

# They are held in memory until all are there: this many times the largest one.
_MOST_NEW = 8
_FETCHED_AT_ONCE = 4

# A PNG or WebP says its size in the first bytes; the headers before that of a JPEG we wrote fit as well.
_HEAD_BYTES = 64 * 1024

_STORED_PATH = re.compile(r"[\w.@=+ -]+(/[\w.@=+ -]+)*\.(png|jpe?g|webp|gif|bmp|tiff?|avif)\Z", re.IGNORECASE)


class InputSources(Protocol):
    """The sources that inputs of a request can come from."""

    @property
    def settings(self) -> Settings: ...

    @property
    def objects(self) -> ObjectStore: ...

    @property
    def media(self) -> MediaLoader: ...

    @property
    def link_signer(self) -> LinkSigner:
        """The signer of links that lead to stored files."""
        ...


class RequestInputs:
    """The `Inputs` of one request, for one task or many. Nothing is stored until `keep`, so a refused request leaves
    nothing behind; what is named twice, also at the same time, is fetched once.

    `known` are sources that were fetched before, each with the path at which it is stored. `first` is awaited before
    the first source is fetched from elsewhere; what it raises is raised in its place.

    Example:
        inputs = RequestInputs(sources, request.served)
        row = await request.to_row(inputs)
        await inputs.keep()
    """

    def __init__(
        self,
        sources: InputSources,
        served: ServedModel,
        known: Mapping[str, str] = MappingProxyType({}),
        *,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._sources = sources
        self._served = served
        self._known = known
        self._first = first
        self._beginning = asyncio.Lock()
        self._new: dict[str, Media] = {}
        self._taken: dict[str, InputImage] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._fetches = asyncio.Semaphore(_FETCHED_AT_ONCE)

    def on(self, served: ServedModel) -> "RequestInputs":
        """The same inputs, each fetched once, for a task that runs elsewhere."""
        there = copy(self)
        there._served = served
        return there

    @property
    def roles(self) -> frozenset[Role]:
        return self._served.roles

    @property
    def max_pixels(self) -> int:
        return self._sources.settings.media_max_pixels

    @property
    def size_multiple(self) -> int:
        return self._served.size_multiple

    @property
    def model_names(self) -> tuple[str, ...]:
        return () if self._served.name is None else (self._served.name,)

    async def image(self, source: str, *, field: str) -> InputImage:
        async with self._locks[source]:
            if source not in self._taken:
                path = await self._path_of(source, field)
                taking = self._fetched(source, field) if path is None else self._stored(path, field)
                self._taken[source] = await taking
        return self._taken[source]

    async def lora(self, path: str, *, field: str) -> str:
        linked = await stored_path(path, self._sources.objects, self._sources.link_signer, field=field)
        stored = stored_lora(linked or path, field=field)
        card = await asyncio.to_thread(self._served.card, self._sources.settings.models_root)
        await check_lora(self._sources.objects, stored, card, field=field)
        return stored

    @property
    def taken(self) -> dict[str, str]:
        """The sources that were fetched, each with the path at which it is stored after `keep`."""
        return {source: image.path for source, image in self._taken.items()}

    async def keep(self) -> None:
        """Store the new images; one that is there already is not written again."""
        await for_each(self._new.items(), self._keep_one)

    async def _keep_one(self, new: tuple[str, Media]) -> None:
        path, media = new
        if await self._sources.objects.stat(path) is None:
            await self._sources.objects.put(path, media.data, media.content_type)

    async def _path_of(self, source: str, field: str) -> str | None:
        """The storage path that a source names, or to which a link of ours leads; None if it is something else."""
        objects, known = self._sources.objects, self._known.get(source)
        if known is not None and await objects.stat(known) is not None:
            return known
        if (linked := await stored_path(source, objects, self._sources.link_signer, field=field)) is not None:
            return linked
        text = source.strip()
        if len(text) > MAX_PATH_CHARACTERS:
            return None
        if _STORED_PATH.match(text):
            return text
        # Paths of a client's own need not end like an image, and short base64 looks like one of them.
        with contextlib.suppress(InvalidInput):
            if "://" not in text and await objects.stat(clean_path(text)) is not None:
                return text
        return None

    async def _fetched(self, source: str, field: str) -> InputImage:
        async with self._fetches:
            await self._begin()
            media = await self._sources.media.load(source, field=field)
        path = f"{own_folder(self._sources.objects)}{INPUTS}{media.sha256[:2]}/{media.sha256}.png"
        self._new[path] = media
        if sum(len(new.data) for new in self._new.values()) > _MOST_NEW * self._sources.settings.media_max_bytes:
            raise InvalidInput("With this one, the images of the request are too large together.", field=field)
        return InputImage(path, media.width, media.height)

    async def _begin(self) -> None:
        async with self._beginning:
            if self._first is not None:
                await self._first()
                self._first = None

    async def _stored(self, source: str, field: str) -> InputImage:
        path = check_readable(source, field=field)
        try:
            head = await self._sources.objects.read(path, 0, _HEAD_BYTES)
        except NotFound:
            raise InvalidInput(f"There is no stored image {path}.", field=field) from None
        # It was checked and encoded anew when it was stored; decoding it is the worker's part.
        return InputImage(path, *image_size(head, field=field))

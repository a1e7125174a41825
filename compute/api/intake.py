"""Checks and takes in what a request names: images are fetched and kept by content, LoRAs are inspected."""

import asyncio
import re

from compute.api.resources import Resources
from compute.api.serving import ServedModel
from compute.errors import InvalidInput
from compute.storage.loras import check_lora
from compute.storage.media import Media
from compute.storage.paths import clean_path

__all__ = ["INPUTS", "LORAS", "RequestIntake"]

INPUTS = "inputs/"
LORAS = "loras/"

# They are held in memory until all are there: this many times the largest one.
_MOST_NEW = 8

_STORED_PATH = re.compile(r"[\w.@=+ -]+(/[\w.@=+ -]+)*\.(png|jpe?g|webp|gif|bmp|tiff?|avif)\Z", re.IGNORECASE)


class RequestIntake:
    """The `Intake` of one request, for one task or many. Nothing is stored until `keep`, so a refused request leaves
    nothing behind; what is named twice is fetched once."""

    def __init__(self, held: Resources, served: ServedModel) -> None:
        self._held = held
        self._served = served
        self._new: dict[str, Media] = {}
        self._taken: dict[str, str] = {}

    @property
    def size_multiple(self) -> int:
        return self._served.size_multiple

    @property
    def model_names(self) -> tuple[str, ...]:
        return (self._served.name,)

    async def image(self, source: str, *, field: str) -> str:
        if _STORED_PATH.match(source.strip()):
            return await self._stored(source.strip(), field)
        if source in self._taken:
            return self._taken[source]
        media = await self._held.media.load(source, field=field)
        path = f"{INPUTS}{media.sha256[:2]}/{media.sha256}.png"
        self._new[path] = media
        self._taken[source] = path
        if sum(len(new.data) for new in self._new.values()) > _MOST_NEW * self._held.settings.media_max_bytes:
            raise InvalidInput("With this one, the images of the request are too large together.", field=field)
        return path

    async def lora(self, path: str, *, field: str) -> str:
        stored = LORAS + clean_path(path, field=field)
        card = await asyncio.to_thread(self._served.card, self._held.settings.models_root)
        await check_lora(self._held.objects, stored, card, field=field)
        return stored

    async def keep(self) -> None:
        """Store the new images; one that is there already is not written again."""
        for path, media in self._new.items():
            if await self._held.objects.stat(path) is None:
                await self._held.objects.put(path, media.data, media.content_type)

    async def _stored(self, source: str, field: str) -> str:
        path = clean_path(source, field=field)
        if path.startswith(LORAS):
            raise InvalidInput("This is no image.", field=field)
        # It was checked and encoded anew when it was stored; decoding it is the worker's part.
        if await self._held.objects.stat(path) is None:
            raise InvalidInput(f"There is no stored image {path}.", field=field)
        return path

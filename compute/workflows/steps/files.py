"""Stored files as the transforms of a step need them, and the links that are known to lead to them."""

import base64

from compute.errors import TooLarge
from compute.requests.inputs import InputSources
from compute.storage.links.signed import link_to
from compute.storage.readable import check_readable
from compute.storage.tenants import check_shown

__all__ = ["StepFiles"]


class StepFiles:
    """The files of one step, as `compute.workflows.definition.mapping.Files`.

    `known` holds the links that were made: a field that takes an image gets the stored one for such a link, without a
    download.
    """

    def __init__(self, sources: InputSources) -> None:
        self._settings = sources.settings
        self._objects = sources.objects
        self._signer = sources.link_signer
        self.known: dict[str, str] = {}

    async def link(self, path: str) -> str:
        cleaned = check_readable(path, field="path")
        await check_shown(self._objects, cleaned, field="path")
        address = await link_to(
            cleaned,
            self._objects,
            self._signer,
            ttl_seconds=self._settings.link_ttl_seconds,
            base_url=(self._settings.public_url or self._settings.local_url).rstrip("/"),
        )
        self.known[address] = cleaned
        return address

    async def base64(self, path: str) -> str:
        cleaned = check_readable(path, field="path")
        stat = await self._objects.stat(cleaned)
        if stat is not None and stat.size > self._settings.media_max_bytes:
            raise TooLarge(f"The file {path} has more than {self._settings.media_max_bytes} bytes.")
        return base64.b64encode(await self._objects.get(cleaned)).decode()

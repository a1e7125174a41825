"""What a runner reads of stored files for the transforms, and the links that it knows to lead to them."""

import asyncio
import base64

from compute.errors import TooLarge
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.link_secret import load_link_secrets
from compute.storage.links import link_to

__all__ = ["StepFiles"]

_DEFAULT_URL = "http://127.0.0.1:8000"


class StepFiles:
    """Implements `compute.workflows.mapping.Files` for one step. `known` are the links that were made: a field that
    takes an image gets the stored one for such a link, without a download."""

    def __init__(self, settings: Settings, objects: ObjectStore) -> None:
        self._settings = settings
        self._objects = objects
        self.known: dict[str, str] = {}

    async def link(self, path: str) -> str:
        secrets = await asyncio.to_thread(load_link_secrets, self._settings)
        address = await link_to(
            path,
            self._objects,
            secrets[0],
            ttl_seconds=self._settings.link_ttl_seconds,
            base_url=(self._settings.public_url or _DEFAULT_URL).rstrip("/"),
        )
        self.known[address] = path
        return address

    async def base64(self, path: str) -> str:
        stat = await self._objects.stat(path)
        if stat is not None and stat.size > self._settings.media_max_bytes:
            raise TooLarge(f"{path} has more than {self._settings.media_max_bytes} bytes.")
        return base64.b64encode(await self._objects.get(path)).decode()

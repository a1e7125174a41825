"""The object store as a caller sees it who is bound to a tenant: what is others' is not there.

    tenants/{tenant}/…          the tenant's own files: uploads, and images that its tasks were given
    loras/tenants/{tenant}/…    its own LoRAs, which it alone can name; all other LoRAs are shared
    {folder}/{id}/…             what a task or training made that is the tenant's

A name of a tenant that no folder can have is written with `=` and hex digits: `Shop A` is `=53hop=20=41`.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from compute.errors import Forbidden, InvalidInput, NotFound
from compute.storage.base import ObjectStore, StoredObject
from compute.storage.paths import LORAS, clean_path

__all__ = ["TENANTS", "TenantFiles", "check_shown", "own_folder", "own_loras", "tenant_folder"]

TENANTS = "tenants/"
_PLAIN = re.compile(r"[a-z0-9_-]")


def tenant_folder(tenant: str) -> str:
    """The folder of a tenant's own files. No two tenants have one that a file system might take for the same."""
    name = "".join(one if _PLAIN.match(one) else "".join(f"={byte:02x}" for byte in one.encode()) for one in tenant)
    return f"{TENANTS}{name}/"


def own_folder(objects: ObjectStore) -> str:
    """The folder in which a caller's own files lie, with a slash; empty for one who sees everything."""
    return objects.folder if isinstance(objects, TenantFiles) else ""


def own_loras(objects: ObjectStore) -> str:
    """The folder in which a caller's own LoRAs lie, with a slash."""
    return LORAS + own_folder(objects)


async def check_shown(objects: ObjectStore, path: str | None, *, field: str) -> None:
    """Check a path that a request names and that nobody reads before it is shown or linked to.

    Raises:
        InvalidInput: the caller is bound to a tenant, and the file is not the tenant's, or not there.
    """
    if path is None or not isinstance(objects, TenantFiles):
        return
    if await objects.stat(clean_path(path, field=field)) is None:
        raise InvalidInput(f"There is no stored file {path}.", field=field)


class TenantFiles(ObjectStore):
    """A view of another store."""

    def __init__(self, objects: ObjectStore, tenant: str, made: Callable[[str], Awaitable[bool]]) -> None:
        """Show of `objects` what is the tenant's; `made` tells whether a path lies in the folder of a task or training
        of it."""
        self._objects = objects
        self._made = made
        self.folder = tenant_folder(tenant)

    async def shows(self, path: str) -> bool:
        """Whether what lies at a path, or below it, is the tenant's to see."""
        if path.startswith((self.folder, own_loras(self))):
            return True
        folded = path.casefold()
        # Some file systems do not tell upper case from lower case.
        if folded.startswith(LORAS):
            return not folded.startswith(LORAS + TENANTS) and path.startswith(LORAS)
        return await self._made(path)

    async def put(self, path: str, data: bytes | Path, content_type: str) -> StoredObject:
        self.check_writable(path)
        return await self._objects.put(path, data, content_type)

    async def create(self, path: str, data: bytes | Path, content_type: str) -> StoredObject | None:
        self.check_writable(path)
        return await self._objects.create(path, data, content_type)

    async def move(self, path: str, destination: str) -> bool:
        self.check_writable(path)
        self.check_writable(destination)
        return await self._objects.move(path, destination)

    async def get(self, path: str) -> bytes:
        await self._require(path)
        return await self._objects.get(path)

    async def read(self, path: str, start: int, length: int) -> bytes:
        await self._require(path)
        return await self._objects.read(path, start, length)

    async def stat(self, path: str) -> StoredObject | None:
        return await self._objects.stat(path) if await self.shows(path) else None

    async def list(
        self, prefix: str, limit: int, *, excluding: Callable[[str], bool] | None = None, after: str = ""
    ) -> list[StoredObject]:
        """As the store behind; of what tasks made, only that of one, for all would have to be looked for."""

        def hidden(path: str) -> bool:
            return (excluding is not None and excluding(path)) or self._is_others_lora(path)

        if prefix.startswith(LORAS) or await self.shows(prefix):
            return await self._objects.list(prefix, limit, excluding=hidden, after=after)
        if self.folder.startswith(prefix):
            return await self._objects.list(self.folder, limit, excluding=hidden, after=after)
        return []

    async def delete(self, path: str) -> bool:
        return await self._objects.delete(path) if await self._is_own(path) else False

    async def delete_prefix(self, prefix: str) -> int:
        return await self._objects.delete_prefix(prefix) if await self._is_own(prefix) else 0

    async def download(self, path: str, destination: Path) -> None:
        await self._require(path)
        await self._objects.download(path, destination)

    async def url(self, path: str, expires_seconds: int) -> str | None:
        """A link to what the caller was shown already: nothing is looked up for it."""
        return await self._objects.url(path, expires_seconds)

    async def path_of(self, url: str) -> str | None:
        return await self._objects.path_of(url)

    async def stream(self, path: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        await self._require(path)
        async for chunk in self._objects.stream(path, start, length):
            yield chunk

    async def check(self) -> None:
        await self._objects.check()

    async def close(self) -> None:
        """Nothing: the store behind is somebody else's to close."""

    def check_writable(self, path: str) -> None:
        """Check that a path may be written.

        Raises:
            Forbidden: it lies outside the tenant's own folders.
        """
        if not path.startswith((self.folder, own_loras(self))):
            raise Forbidden(f"With this key files are stored below {self.folder} alone.")

    async def _require(self, path: str) -> None:
        if not await self.shows(path):
            raise NotFound(f"There is no object {path}.")

    async def _is_own(self, path: str) -> bool:
        return not path.casefold().startswith(LORAS) and await self.shows(path)

    def _is_others_lora(self, path: str) -> bool:
        return path.casefold().startswith(LORAS + TENANTS) and not path.startswith(own_loras(self))

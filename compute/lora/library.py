"""The LoRA files of the object store: checks and stores uploads, lists files, and moves deleted ones to the bin."""

import asyncio
import hashlib
from contextlib import AbstractAsyncContextManager
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from compute.capacity import Capacity
from compute.errors import Conflict, NotFound
from compute.lora.check import LoraInfo, check_lora_file
from compute.lora.convert import convert_checkpoint
from compute.lora.filenames import safe_name, split_name, stored_lora, versions
from compute.settings import Settings
from compute.storage.base import ObjectStore, StoredObject
from compute.storage.paths import BIN, LORAS, clean_path
from compute.storage.tenants import own_loras

__all__ = ["CheckedLora", "DeletedLora", "LoraFiles", "SavedLora", "sha256_of"]

_TYPE = "application/octet-stream"
_CHECKPOINTS = (b"PK\x03\x04", *(bytes([0x80, protocol]) for protocol in range(2, 6)))


@dataclass(frozen=True, slots=True)
class CheckedLora:
    """A checked LoRA on local disk: a safetensors file, and a safe name."""

    file: Path
    name: str
    sha256: str
    info: LoraInfo


@dataclass(frozen=True, slots=True)
class SavedLora:
    """A stored LoRA.

    Attributes:
        path: Its storage path.
        size: Bytes of the stored safetensors file.
        sha256: Of the stored file, in hex.
        info: The description from its header.
        created: False if the identical file was stored before.
    """

    path: str
    size: int
    sha256: str
    info: LoraInfo
    created: bool


@dataclass(frozen=True, slots=True)
class DeletedLora:
    """The former and the new storage path of a deleted LoRA."""

    path: str
    bin_path: str
    at: datetime


class LoraFiles:
    """Stores, lists and deletes LoRA files. Use it within one event loop.

    Example:
        files = LoraFiles(store, settings)
        async with files.room(size):
            checked = await files.check(upload, "comic.safetensors")
            saved = await files.save(checked, "styles", number_duplicates=True)
    """

    def __init__(self, objects: ObjectStore, settings: Settings) -> None:
        """Store files in `objects`, within the limits of the settings."""
        self._objects = objects
        self._max_bytes = settings.lora_max_bytes
        self._convert_seconds = settings.lora_convert_seconds
        self._disk = Capacity(
            settings.lora_uploads_bytes, busy="Too many LoRA files are being uploaded at the moment; try again later."
        )
        # Each loads torch and a whole file into memory.
        self._converting = Capacity(
            1,
            busy="Too many LoRA files wait for their conversion; try again later, or send safetensors.",
            waiting=settings.lora_conversions_waiting,
            seconds=settings.lora_convert_seconds * (settings.lora_conversions_waiting + 1),
        )

    def seen_in(self, objects: ObjectStore) -> "LoraFiles":
        """The same, within the same limits, as a caller sees them who sees `objects`."""
        there = copy(self)
        there._objects = objects
        return there

    def room(self, announced: int | None) -> AbstractAsyncContextManager[None]:
        """Reserve disk for an upload of that many bytes, or of unknown size, and for its conversion.

        Raises:
            Overloaded: other uploads take the disk.
        """
        size = self._max_bytes if announced is None else min(announced, self._max_bytes)
        return self._disk.taken(2 * size)

    async def check(self, file: Path, filename: str) -> CheckedLora:
        """Check a LoRA file, and convert it to safetensors if necessary. Nothing is stored.

        Args:
            file: The upload on local disk; a conversion is written beside it.
            filename: The client's name for it. Its extension must be a known one; the first bytes decide the format.

        Raises:
            InvalidInput: not a LoRA, damaged, of an unknown format, or with code inside; `field` is `file`.
            Unavailable: the converter does not work.
            Overloaded: too many files wait to be converted. Cancelling frees the slot.
        """
        stem, extension = split_name(filename)
        if await asyncio.to_thread(_is_checkpoint, file, extension):
            file = await self._converted(file)
        info = await asyncio.to_thread(check_lora_file, file, None, field="file", any_model=True)
        return CheckedLora(file, safe_name(stem), await asyncio.to_thread(sha256_of, file), info)

    async def save(self, lora: CheckedLora, folder: str, *, number_duplicates: bool) -> SavedLora:
        """Store a LoRA under `loras/<folder>/`, or in that folder of the tenant's to which the caller is bound; when
        this returns, it can be used.

        If its name is taken by another file, `number_duplicates` decides between `_v2`, `_v3`, … and a refusal. With
        it, an identical file is not stored again: the existing one is returned.

        Args:
            lora: The result of `check`.
            folder: A result of `folder_of`.
            number_duplicates: Whether to number a name that is taken.

        Raises:
            Conflict: the name is taken.
            StorageFailed: it could not be stored; nothing was written.
        """
        info, sha256 = lora.info, lora.sha256
        for version in versions(lora.name):
            path = f"{own_loras(self._objects)}{folder}/{version}.safetensors"
            if await self._objects.create(path, lora.file, _TYPE) is not None:
                return SavedLora(path, info.size, sha256, info, created=True)
            if not number_duplicates:
                raise Conflict(f"There is a LoRA {folder}/{version}.safetensors already.")
            if await self._holds(path, info.size, sha256):
                return SavedLora(path, info.size, sha256, info, created=False)
        raise Conflict(f"There are too many LoRAs named {lora.name} in {folder}; choose another name.")

    async def delete(self, partial_path: str) -> DeletedLora:
        """Move a LoRA into the bin, from which an operator can move it back.

        Running tasks have their own copy; tasks that wait for it end as INVALID_INPUT.

        Args:
            partial_path: `<folder>/<name>.safetensors`, as `save` chose it, or its whole path.

        Raises:
            InvalidInput: not a path below the folder of LoRAs.
            NotFound: there is no such LoRA.
            StorageFailed: it could not be moved; it is where it was.
        """
        inside = stored_lora(partial_path, field="partial_path").removeprefix(LORAS)
        folder, _, name = inside.rpartition("/")
        now = datetime.now(UTC)
        # The time distinguishes files that successively had the same name.
        name_in_bin = "/".join(filter(None, (folder, f"{now:%Y%m%dT%H%M%S.%fZ}", name)))
        bin_path = clean_path(f"{BIN}{LORAS}{name_in_bin}", field="partial_path")
        if not await self._objects.move(LORAS + inside, bin_path):
            raise NotFound(f"There is no LoRA {inside}.")
        return DeletedLora(LORAS + inside, bin_path, now)

    async def list(self, folder: str | None, limit: int, *, after: str = "") -> list[StoredObject]:
        """The first `limit` LoRAs after the path `after`, of one folder or all, in order of their paths."""
        if folder is None:
            return await self._objects.list(LORAS, limit, after=after)
        prefixes = dict.fromkeys(f"{base}{folder}/" for base in (LORAS, own_loras(self._objects)))
        found = [one for prefix in prefixes for one in await self._objects.list(prefix, limit, after=after)]
        return sorted(found, key=lambda one: one.path)[:limit]

    async def _converted(self, file: Path) -> Path:
        result = file.with_name(f"{file.name}.safetensors")
        async with self._converting.taken():
            await convert_checkpoint(
                file, result, max_bytes=self._max_bytes, seconds=self._convert_seconds, field="file"
            )
        return result

    async def _holds(self, path: str, size: int, sha256: str) -> bool:
        """Whether the object is identical to the file. Compares the bytes, not metadata, which may be wrong."""
        try:
            stored = await self._objects.stat(path)
            if stored is None or stored.size != size:
                return False
            digest = hashlib.sha256()
            async for chunk in self._objects.stream(path):
                await asyncio.to_thread(digest.update, chunk)
        except NotFound:
            return False
        return digest.hexdigest() == sha256


def _is_checkpoint(file: Path, extension: str) -> bool:
    """Whether it is a file of PyTorch, whatever its name: a zip archive or a pickle. The ninth byte of safetensors
    begins a JSON object. If the content is neither, the extension decides."""
    with file.open("rb") as source:
        head = source.read(64)
    if head[8:].lstrip().startswith(b"{"):
        return False
    return extension != ".safetensors" or head.startswith(_CHECKPOINTS)


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()

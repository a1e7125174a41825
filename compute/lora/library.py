"""The LoRA files of the object store: taken in, listed, and put into the bin."""

import asyncio
import hashlib
from contextlib import AbstractAsyncContextManager
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

__all__ = ["CheckedLora", "DeletedLora", "LoraFiles", "SavedLora", "sha256_of"]

_TYPE = "application/octet-stream"
_CHECKPOINTS = (b"PK\x03\x04", *(bytes([0x80, protocol]) for protocol in range(2, 6)))


@dataclass(frozen=True, slots=True)
class CheckedLora:
    """A LoRA on local disk that may be stored: a safetensors file, and a name that is safe."""

    file: Path
    name: str
    sha256: str
    info: LoraInfo


@dataclass(frozen=True, slots=True)
class SavedLora:
    """A LoRA that is in the store now.

    Attributes:
        path: Its storage path.
        size: Bytes of the stored safetensors file.
        sha256: Of the stored file, in hex.
        info: What its header says.
        created: False if this very file was there before.
    """

    path: str
    size: int
    sha256: str
    info: LoraInfo
    created: bool


@dataclass(frozen=True, slots=True)
class DeletedLora:
    """Where a LoRA was, and where it is now; both are storage paths."""

    path: str
    bin_path: str
    at: datetime


class LoraFiles:
    """Use it within one event loop."""

    def __init__(self, objects: ObjectStore, settings: Settings) -> None:
        """Keep files in `objects`, within the limits of the settings."""
        self._objects = objects
        self._max_bytes = settings.lora_max_bytes
        self._convert_seconds = settings.lora_convert_seconds
        self._disk = Capacity(
            settings.lora_uploads_bytes, busy="Too many LoRA files are being taken in at the moment; try again later."
        )
        # Each loads torch and a whole file into memory.
        self._converting = Capacity(
            1,
            busy="Too many LoRA files wait for their conversion; try again later, or send safetensors.",
            waiting=settings.lora_conversions_waiting,
            seconds=settings.lora_convert_seconds * (settings.lora_conversions_waiting + 1),
        )

    def room(self, announced: int | None) -> AbstractAsyncContextManager[None]:
        """Disk for an upload of that many bytes, or of unknown size, and for what it is converted into.

        Raises:
            Overloaded: other uploads have it.
        """
        size = self._max_bytes if announced is None else min(announced, self._max_bytes)
        return self._disk.taken(2 * size)

    async def check(self, file: Path, filename: str) -> CheckedLora:
        """Check a LoRA file, and make it safetensors if it is not. Nothing is stored.

        Args:
            file: Where the upload lies; a result of conversion is written beside it.
            filename: What the client calls it. Its extension must be a known one; what it is, its first bytes say.

        Raises:
            InvalidInput: no LoRA, damaged, of an unknown format, or with code inside; `field` is `file`.
            Unavailable: the converter does not work.
            Overloaded: too many files wait to be converted. Who is cancelled frees its place.
        """
        stem, extension = split_name(filename)
        if await asyncio.to_thread(_is_checkpoint, file, extension):
            file = await self._converted(file)
        info = await asyncio.to_thread(check_lora_file, file, None, field="file", any_model=True)
        return CheckedLora(file, safe_name(stem), await asyncio.to_thread(sha256_of, file), info)

    async def save(self, lora: CheckedLora, folder: str, *, number_duplicates: bool) -> SavedLora:
        """Store a LoRA under `loras/<folder>/`; when this returns, it can be used.

        If its name is taken by another file, `number_duplicates` decides between `_v2`, `_v3`, … and a refusal. With
        it, a file that is there already is not stored again: the answer is the one that is.

        Args:
            lora: As `check` gave it.
            folder: One of those that `folder_of` gives.
            number_duplicates: What happens to a name that is taken.

        Raises:
            Conflict: the name is taken.
            StorageFailed: it could not be stored; nothing is there.
        """
        info, sha256 = lora.info, lora.sha256
        for version in versions(lora.name):
            path = f"{LORAS}{folder}/{version}.safetensors"
            if await self._objects.create(path, lora.file, _TYPE) is not None:
                return SavedLora(path, info.size, sha256, info, created=True)
            if not number_duplicates:
                raise Conflict(f"There is a LoRA {folder}/{version}.safetensors already.")
            if await self._holds(path, info.size, sha256):
                return SavedLora(path, info.size, sha256, info, created=False)
        raise Conflict(f"There are too many LoRAs named {lora.name} in {folder}; choose another name.")

    async def delete(self, partial_path: str) -> DeletedLora:
        """Move a LoRA into the bin, from which an operator can move it back.

        Tasks that are running have their own copy; those that wait for it end as INVALID_INPUT.

        Args:
            partial_path: `<folder>/<name>.safetensors`, as `save` chose it, or its whole path.

        Raises:
            InvalidInput: no path below the folder of LoRAs.
            NotFound: there is no such LoRA.
            StorageFailed: it could not be moved; it is where it was.
        """
        inside = stored_lora(partial_path, field="partial_path").removeprefix(LORAS)
        folder, _, name = inside.rpartition("/")
        now = datetime.now(UTC)
        # The time keeps apart files that had one name, one after the other.
        place = "/".join(filter(None, (folder, f"{now:%Y%m%dT%H%M%S.%fZ}", name)))
        bin_path = clean_path(f"{BIN}{LORAS}{place}", field="partial_path")
        if not await self._objects.move(LORAS + inside, bin_path):
            raise NotFound(f"There is no LoRA {inside}.")
        return DeletedLora(LORAS + inside, bin_path, now)

    async def list(self, folder: str | None, limit: int, *, after: str = "") -> list[StoredObject]:
        """The first `limit` LoRAs behind the path `after`, of one folder or all, in order of their paths."""
        return await self._objects.list(f"{LORAS}{folder}/" if folder else LORAS, limit, after=after)

    async def _converted(self, file: Path) -> Path:
        result = file.with_name(f"{file.name}.safetensors")
        async with self._converting.taken():
            await convert_checkpoint(
                file, result, max_bytes=self._max_bytes, seconds=self._convert_seconds, field="file"
            )
        return result

    async def _holds(self, path: str, size: int, sha256: str) -> bool:
        """Whether the object is this very file. The bytes are asked, not a note beside them that may be wrong."""
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
    """Whether it is a file of PyTorch, whatever it is called: a zip archive or a pickle. The ninth byte of safetensors
    begins a JSON object. What looks like neither is what its name says."""
    with file.open("rb") as source:
        head = source.read(64)
    if head[8:].lstrip().startswith(b"{"):
        return False
    return extension != ".safetensors" or head.startswith(_CHECKPOINTS)


def sha256_of(file: Path) -> str:
    """In hex."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()

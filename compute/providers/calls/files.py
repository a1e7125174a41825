"""Keeps what a vendor made, before its address expires."""

import asyncio
import hashlib
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

from compute.errors import FileAway, InvalidInput, ProviderFailed, TooLarge
from compute.media.loader import MediaLoader
from compute.outbound.client import GuardedClient
from compute.providers.calls.call import CollectedFile
from compute.providers.calls.outcomes import AnswerFile, OutcomeUnknownError
from compute.storage.base import ObjectStore
from compute.storage.patience import until_back

__all__ = ["KeepsFiles", "ResultFiles"]

_TRIES = 3
_PAUSE_SECONDS = 0.5
_HEAD_BYTES = 16
_IN_MEMORY_BYTES = 8 * 2**20
_THE_RESULT = "result"


class KeepsFiles(Protocol):
    """Stores the files of an answer."""

    async def keep(self, made: AnswerFile, path: str) -> CollectedFile:
        """Store a file at `path` and a suffix that says what it is.

        Raises:
            ProviderFailed: it is gone, damaged or too large, or is neither a picture nor a clip.
            OutcomeUnknownError: it cannot be had just now, and may be had later.
            StorageFailed: the store refused it, or was away for longer than is waited for.
        """
        ...


class ResultFiles:
    """Fetches results under the rules for addresses that users name. Pictures are checked to their last pixel and
    encoded anew, as those of users are; clips are stored as they came."""

    def __init__(
        self, objects: ObjectStore, client: GuardedClient, media: MediaLoader, *, max_bytes: int, seconds: float
    ) -> None:
        """`max_bytes` and `seconds` bound each file; `media` has its own bounds for pictures."""
        self._objects = objects
        self._client = client
        self._media = media
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def keep(self, made: AnswerFile, path: str) -> CollectedFile:
        if made.data is not None:
            return await self._store(made.data, path)
        tries = 0
        while True:
            tries += 1
            try:
                return await self._fetched(made.url or "", path)
            except ProviderFailed:
                # It may have been cut off on its way.
                if tries == _TRIES:
                    raise
            await asyncio.sleep(_PAUSE_SECONDS * tries)

    async def _fetched(self, url: str, path: str) -> CollectedFile:
        with ExitStack() as until_stored:
            try:
                made = await self._client.receive(
                    url,
                    lambda: Path(until_stored.enter_context(tempfile.TemporaryDirectory(prefix="compute-"))) / "result",
                    # Most pictures; a clip may be too large for memory.
                    in_memory=_IN_MEMORY_BYTES,
                    max_bytes=self._max_bytes,
                    timeout=self._seconds,
                    field=_THE_RESULT,
                )
            except FileAway as away:
                raise OutcomeUnknownError(f"The provider's result cannot be had just now: {away.detail}") from away
            except InvalidInput as refused:
                raise ProviderFailed(f"The provider's result could not be fetched: {refused.detail}") from refused
            return await self._store(made, path)

    async def _store(self, data: bytes | Path, path: str) -> CollectedFile:
        head, size = _head(data) if isinstance(data, bytes) else await asyncio.to_thread(_head, data)
        if (clip := _clip(head)) is not None:
            suffix, content_type = clip
            sha256 = await asyncio.to_thread(_hash, data)
            await self._put(f"{path}.{suffix}", data, content_type)
            return CollectedFile(f"{path}.{suffix}", content_type, size, sha256)
        whole = data if isinstance(data, bytes) else await asyncio.to_thread(data.read_bytes)
        try:
            media = await self._media.normalise(whole, field=_THE_RESULT, keep_format=True)
        except (InvalidInput, TooLarge) as refused:
            raise ProviderFailed(f"The provider's picture cannot be read: {refused.detail}") from refused
        stored = f"{path}.{media.content_type.removeprefix('image/').replace('jpeg', 'jpg')}"
        await self._put(stored, media.data, media.content_type)
        return CollectedFile(stored, media.content_type, len(media.data), media.sha256, media.width, media.height)

    async def _put(self, path: str, data: bytes | Path, content_type: str) -> None:
        """Store it, also if the store is away for a while: a vendor that answers at once does not answer again."""
        await until_back(partial(self._objects.put, path, data, content_type), who="the result of a paid call")


def _clip(head: bytes) -> tuple[str, str] | None:
    """Suffix and content type of a clip, by its first bytes; None for what may be a picture."""
    if head[4:8] == b"ftyp" and head[8:12] not in (b"avif", b"avis"):
        return "mp4", "video/mp4"
    return ("webm", "video/webm") if head.startswith(b"\x1aE\xdf\xa3") else None


def _head(data: bytes | Path) -> tuple[bytes, int]:
    if isinstance(data, bytes):
        return data[:_HEAD_BYTES], len(data)
    with data.open("rb") as file:
        return file.read(_HEAD_BYTES), data.stat().st_size


def _hash(data: bytes | Path) -> str:
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The interface of object stores. Paths are those of `clean_path`; a prefix is a plain string prefix, as in S3."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

__all__ = ["CHUNK_BYTES", "ObjectStore", "StoredObject", "chunk_sizes"]

CHUNK_BYTES = 1024 * 1024
"""Size of the chunks in which objects are streamed, and so the memory that a stream takes."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's metadata. `size` in bytes; `etag` changes whenever the content is replaced; `modified` is in UTC.

    In results of `list` the type may come from the name alone: a listing of S3 does not contain it.
    """

    path: str
    size: int
    content_type: str
    etag: str
    modified: datetime


def chunk_sizes(length: int | None) -> Iterator[int]:
    """Yield the sizes of successive chunks in bytes: `length` together, or without end if it is None."""
    left = length
    while left is None or left > 0:
        size = CHUNK_BYTES if left is None else min(left, CHUNK_BYTES)
        yield size
        left = None if left is None else left - size


class ObjectStore(Protocol):
    """Persistent storage of named bytes. Safe for concurrent use from one event loop.

    Every call may raise `InvalidInput` (the path is not a storage path) and `StorageFailed` (the store
    could not be reached, refused access, or is full); its message is for operators and contains no secret. It is
    `StorageAway` if the same call may succeed later.

    Example:
        store = open_store(settings)
        await store.put("results/a.png", data, "image/png")
        async for chunk in store.stream("results/a.png"):
            file.write(chunk)
        await store.close()
    """

    async def put(self, path: str, data: bytes | Path, content_type: str) -> StoredObject:
        """Store bytes, or the content of a local file. Readers see the old object or the new, never a part.

        Raises:
            Conflict: the store is a folder and the path runs through, or ends at, something of another kind.
        """
        ...

    async def create(self, path: str, data: bytes | Path, content_type: str) -> StoredObject | None:
        """As `put`, but never replaces an object: returns None, and stores nothing, if the path is taken.

        Of several concurrent calls for one path exactly one stores.
        """
        ...

    async def move(self, path: str, destination: str) -> bool:
        """Move the object to another path, replacing an object there; returns False if it does not exist.

        A folder does it atomically. A bucket copies, then deletes: between the two the object has both paths,
        and of two concurrent moves of one object both may succeed.
        """
        ...

    async def get(self, path: str) -> bytes:
        """Read the whole object.

        Raises:
            NotFound: there is no such object.
        """
        ...

    async def read(self, path: str, start: int, length: int) -> bytes:
        """Read up to `length` bytes from offset `start`; fewer at the end of the object, none after it.

        Raises:
            NotFound: there is no such object.
            ValueError: a number is negative.
        """
        ...

    async def stat(self, path: str) -> StoredObject | None:
        """The object's metadata; None if it does not exist."""
        ...

    async def list(
        self, prefix: str, limit: int, *, excluding: Callable[[str], bool] | None = None, after: str = ""
    ) -> list[StoredObject]:
        """The first `limit` objects whose path starts with `prefix` and sorts after `after`, in order of their paths.

        Objects for whose path `excluding` returns True are skipped and do not count towards `limit`.
        """
        ...

    async def delete(self, path: str) -> bool:
        """Remove the object; returns whether it existed."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Remove every object whose path starts with `prefix`; returns their number.

        Raises:
            InvalidInput: the prefix is empty, which would remove everything.
        """
        ...

    async def download(self, path: str, destination: Path) -> None:
        """Copy the object to a local file, atomically; creates its folder if necessary.

        Raises:
            NotFound: there is no such object.
        """
        ...

    async def url(self, path: str, expires_seconds: int) -> str | None:
        """A link that needs no key: presigned, or the CDN's. None if the API must serve the bytes itself."""
        ...

    async def path_of(self, url: str) -> str | None:
        """The path of the object behind a link made by `url`, expired or not; None for any other address."""
        ...

    def stream(self, path: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield the object from offset `start`, to its end or `length` bytes of it, in chunks of up to `CHUNK_BYTES`.

        All chunks are of one version of the object, even if it is replaced meanwhile.

        Raises:
            NotFound: there is no such object (raised when the first chunk is asked for).
            ValueError: a number is negative.
        """
        ...

    async def check(self) -> None:
        """Probe the store cheaply, for readiness checks.

        Raises:
            StorageFailed: the store cannot be used now; the message says why.
        """
        ...

    async def close(self) -> None:
        """Release connections. The store cannot be used afterwards."""
        ...

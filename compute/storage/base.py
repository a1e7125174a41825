"""What every object store does. Paths are those of `clean_path`; a prefix is a plain string prefix, as in S3."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

__all__ = ["CHUNK_BYTES", "ObjectStore", "StoredObject", "chunk_sizes"]

CHUNK_BYTES = 1024 * 1024
"""How much of a big object is held in memory while it is streamed."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object. `size` in bytes; `etag` changes whenever the content is replaced; `modified` is in UTC.

    In answers of `list` the type may come from the name alone: a listing of S3 does not carry it.
    """

    path: str
    size: int
    content_type: str
    etag: str
    modified: datetime


def chunk_sizes(length: int | None) -> Iterator[int]:
    """How many bytes to ask for, one chunk after another: `length` together, or without end."""
    left = length
    while left is None or left > 0:
        size = CHUNK_BYTES if left is None else min(left, CHUNK_BYTES)
        yield size
        left = None if left is None else left - size


class ObjectStore(Protocol):
    """Named bytes that survive the process. Safe for concurrent use from one event loop.

    Every call may raise `InvalidInput` (the path is not a storage path) and `StorageFailed` (the store
    could not be reached, refused us, or is full); its message is for operators and holds no secret. It is
    `StorageAway` if the same call may succeed later.
    """

    async def put(self, path: str, data: bytes | Path, content_type: str) -> StoredObject:
        """Store bytes, or the content of a local file. Readers see the old object or the new, never a part.

        Raises:
            Conflict: the store is a folder and the path runs through, or ends at, something of another kind.
        """
        ...

    async def create(self, path: str, data: bytes | Path, content_type: str) -> StoredObject | None:
        """As `put`, but nothing is ever replaced: None, and nothing is stored, if something is there already.

        Of several calls at once for one path a single one stores.
        """
        ...

    async def move(self, path: str, destination: str) -> bool:
        """Give the object another path, replacing what is there; False, and nothing changes, if it does not exist.

        A folder does it in one step. A bucket copies, then deletes: between the two the object has both paths,
        and of two moves of one object at once both may succeed.
        """
        ...

    async def get(self, path: str) -> bytes:
        """The whole object.

        Raises:
            NotFound: there is no such object.
        """
        ...

    async def read(self, path: str, start: int, length: int) -> bytes:
        """Up to `length` bytes from offset `start`; fewer at the end of the object, none behind it.

        Raises:
            NotFound: there is no such object.
            ValueError: a number is negative.
        """
        ...

    async def stat(self, path: str) -> StoredObject | None:
        """What is known about the object; None if it does not exist."""
        ...

    async def list(
        self, prefix: str, limit: int, *, excluding: Callable[[str], bool] | None = None, after: str = ""
    ) -> list[StoredObject]:
        """The first `limit` objects whose path starts with `prefix` and comes behind `after`, in order of their paths.

        Those of whose path `excluding` holds are passed over; they do not count.
        """
        ...

    async def delete(self, path: str) -> bool:
        """Remove the object; whether it was there."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Remove every object whose path starts with `prefix`, and count them.

        Raises:
            InvalidInput: the prefix is empty, which would remove everything.
        """
        ...

    async def download(self, path: str, destination: Path) -> None:
        """Copy the object to a local file, which appears whole or not at all; its folder is made if need be.

        Raises:
            NotFound: there is no such object.
        """
        ...

    async def url(self, path: str, expires_seconds: int) -> str | None:
        """A link that needs no key: presigned, or the CDN's. None if the API must serve the bytes itself."""
        ...

    async def path_of(self, url: str) -> str | None:
        """The path to which a link of `url` leads, whether or not it has expired; None for any other address."""
        ...

    def stream(self, path: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The object from offset `start`, to its end or `length` bytes far, in chunks of at most `CHUNK_BYTES`.

        It is one version of the object, though it may be replaced meanwhile.

        Raises:
            NotFound: there is no such object (raised when the first chunk is asked for).
            ValueError: a number is negative.
        """
        ...

    async def check(self) -> None:
        """A cheap probe for readiness.

        Raises:
            StorageFailed: the store cannot be used now; the message says why.
        """
        ...

    async def close(self) -> None:
        """Give connections back. The store cannot be used afterwards."""
        ...

"""Brings checkpoints to where Ray Train keeps them, and back. A file system that is away is waited for."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from pyarrow.fs import FileSystem, LocalFileSystem

from compute.errors import StorageAway
from compute.storage.patience import until_back

__all__ = ["Kept", "Persists", "fetched", "read", "upload"]

T = TypeVar("T")


class Persists(Protocol):
    """Ray Train's storage, as far as it is used here."""

    def persist_current_checkpoint(self, checkpoint: T, checkpoint_dir_name: str) -> T:
        """Copy a local checkpoint.

        Raises:
            OSError: its file system could not do it.
        """
        ...


class Kept(Protocol):
    """Ray Train's checkpoint, as far as it is used here."""

    path: str
    filesystem: FileSystem

    def to_directory(self, path: str) -> str:
        """Copy its folder to a local one.

        Raises:
            OSError: its file system could not give it.
        """
        ...


@contextmanager
def fetched(checkpoint: Kept) -> Iterator[Path]:
    """A local copy of a checkpoint's folder, while the block lasts.

    Raises:
        StorageAway: its file system cannot give it now.
    """
    if isinstance(checkpoint.filesystem, LocalFileSystem):
        yield Path(checkpoint.path)
        return
    # Not the folder that Ray shares among a node's processes: one that was broken off passes there for a whole one.
    with tempfile.TemporaryDirectory() as folder:
        with _told():
            checkpoint.to_directory(folder)
        yield Path(folder)


def read(checkpoint: Kept, use: Callable[[Path], T]) -> T:
    """Use a local copy of a checkpoint's folder.

    Raises:
        StorageAway: its file system has not been able to give it for too long.
    """

    async def used() -> T:
        with fetched(checkpoint) as folder:
            return use(folder)

    return asyncio.run(until_back(used, who="a checkpoint"))


def upload(storage: Persists, checkpoint: T, name: str) -> T:
    """Copy a checkpoint into the folder `name`, and wait for a file system that cannot do it now.

    Raises:
        StorageAway: it has not been able to for too long.
        FileNotFoundError: the checkpoint itself is not there.
    """

    async def persisted() -> T:
        with _told():
            return await asyncio.to_thread(storage.persist_current_checkpoint, checkpoint, name)

    return asyncio.run(until_back(persisted, who="a checkpoint"))


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        # Those of pyarrow name no reason but in their texts, which may quote addresses.
        raise StorageAway("the file system of the checkpoints could not be reached, or refused") from error

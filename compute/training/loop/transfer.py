"""Copies checkpoints to Ray Train's storage and back, and waits while its file system is away."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from pyarrow.fs import FileSystem, LocalFileSystem

from compute.errors import StorageAway
from compute.storage.patience import until_back

__all__ = ["CheckpointStorage", "StoredCheckpoint", "fetched", "read", "upload"]

T = TypeVar("T")


class CheckpointStorage(Protocol):
    """The part of Ray Train's storage that is used here."""

    def persist_current_checkpoint(self, checkpoint: T, checkpoint_dir_name: str) -> T:
        """Copy a local checkpoint.

        Raises:
            OSError: its file system failed.
        """
        ...


class StoredCheckpoint(Protocol):
    """The part of Ray Train's checkpoint that is used here."""

    path: str
    filesystem: FileSystem

    def to_directory(self, path: str) -> str:
        """Copy its folder to a local one.

        Raises:
            OSError: its file system failed.
        """
        ...


@contextmanager
def fetched(checkpoint: StoredCheckpoint) -> Iterator[Path]:
    """Yield a local copy of a checkpoint's folder.

    Raises:
        StorageAway: its file system is away.
    """
    if isinstance(checkpoint.filesystem, LocalFileSystem):
        yield Path(checkpoint.path)
        return
    # Not the folder that Ray shares among a node's processes: an interrupted copy there counts as complete.
    with tempfile.TemporaryDirectory() as folder:
        with _told():
            checkpoint.to_directory(folder)
        yield Path(folder)


def read(checkpoint: StoredCheckpoint, use: Callable[[Path], T]) -> T:
    """Call `use` with a local copy of a checkpoint's folder and return its result.

    Raises:
        StorageAway: its file system has been away for too long.
    """

    async def used() -> T:
        with fetched(checkpoint) as folder:
            return use(folder)

    return asyncio.run(until_back(used, who="a checkpoint"))


def upload(storage: CheckpointStorage, checkpoint: T, name: str) -> T:
    """Copy a checkpoint to the folder `name`, waiting while the file system is away.

    Raises:
        StorageAway: it has been away for too long.
        FileNotFoundError: the checkpoint itself does not exist.
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
        # Errors of pyarrow have their reason only in their texts, which may quote addresses.
        raise StorageAway("the file system of the checkpoints could not be reached, or refused") from error

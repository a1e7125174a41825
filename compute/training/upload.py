"""Brings checkpoints to where Ray Train keeps them."""

import asyncio
from typing import Protocol, TypeVar

from compute.errors import StorageAway
from compute.storage.patience import until_back

__all__ = ["Persists", "upload"]

T = TypeVar("T")


class Persists(Protocol):
    """Ray Train's storage, as far as it is used here."""

    def persist_current_checkpoint(self, checkpoint: T, checkpoint_dir_name: str) -> T:
        """Copy a local checkpoint.

        Raises:
            OSError: its file system could not do it.
        """
        ...


def upload(storage: Persists, checkpoint: T, name: str) -> T:
    """Copy a checkpoint into the folder `name`, and wait for a file system that cannot do it now.

    Raises:
        StorageAway: it has not been able to for too long.
        FileNotFoundError: the checkpoint itself is not there.
    """

    async def persisted() -> T:
        try:
            return await asyncio.to_thread(storage.persist_current_checkpoint, checkpoint, name)
        except FileNotFoundError:
            raise
        except OSError as error:
            # Those of pyarrow name no reason but in their texts, which may quote addresses.
            raise StorageAway(f"the checkpoint {name} could not be written") from error

    return asyncio.run(until_back(persisted, who="a checkpoint"))

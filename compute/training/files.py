"""The object store for synchronous code: tasks and workers of a training."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from compute.settings import get_settings
from compute.storage.base import ObjectStore
from compute.storage.factory import open_store
from compute.storage.patience import until_back

__all__ = ["with_store"]

T = TypeVar("T")


def with_store(work: Callable[[ObjectStore], Awaitable[T]]) -> T:
    """Run `work` in an event loop of its own with the object store, which is closed at the end.

    While the store is away, `work` is repeated, so that hours of training are not lost.

    Raises:
        StorageFailed: the store refuses, or has been away for too long. Other errors of `work` pass through.
    """

    async def opened() -> T:
        objects = open_store(get_settings())
        try:
            return await work(objects)
        finally:
            await objects.close()

    return asyncio.run(until_back(opened, who="a training"))

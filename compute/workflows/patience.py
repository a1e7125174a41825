"""A step waits for the database and the object store; what they are asked for it can be asked again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from compute.errors import StorageAway, StorageFailed, Unavailable

__all__ = ["patiently"]

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
_AWAY = (Unavailable, StorageAway)
_RETRY_SECONDS = 1.0
_STORAGE_RETRIES = 3


async def patiently(ask: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Ask the database and the object store for as long as they are away, and an object store that refuses a few times.

    Raises:
        StorageFailed: the object store still refuses.
    """
    refused = 0
    while True:
        try:
            return await ask(*args, **kwargs)
        except _AWAY as error:
            _log.warning("a step waits, the database or the object store is out of reach: %s", error)
        except StorageFailed as error:
            refused += 1
            if refused > _STORAGE_RETRIES:
                raise
            _log.warning("a step waits for the object store: %s", error)
        await asyncio.sleep(_RETRY_SECONDS * 2 ** max(refused - 1, 0))

"""A step waits for the database and the object store; what they are asked for it can be asked again."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from compute.errors import StorageAway, StorageFailed, Unavailable

__all__ = ["patiently"]

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0
_STORAGE_RETRIES = 3
_STORAGE_SECONDS = 3600.0


async def patiently(ask: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Ask the database for as long as it is away, an object store that is away for an hour, and one that refuses a few
    times.

    Raises:
        StorageFailed: the object store is still away, or still refuses.
    """
    refused, away_since = 0, math.inf
    while True:
        try:
            return await ask(*args, **kwargs)
        except Unavailable as error:
            _log.warning("a step waits, the database is out of reach: %s", error)
            away_since = math.inf
        except StorageAway as error:
            now = asyncio.get_running_loop().time()
            away_since = min(away_since, now)
            if now - away_since > _STORAGE_SECONDS:
                raise
            _log.warning("a step waits, the object store is out of reach: %s", error)
        except StorageFailed as error:
            refused += 1
            if refused > _STORAGE_RETRIES:
                raise
            _log.warning("a step waits for the object store: %s", error)
        await asyncio.sleep(_RETRY_SECONDS * 2 ** max(refused - 1, 0))

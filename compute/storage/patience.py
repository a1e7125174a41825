"""Retries calls to an object store while it is unavailable, so that finished work is not repeated."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from compute.errors import StorageAway

__all__ = ["until_back"]

T = TypeVar("T")

_log = logging.getLogger(__name__)
_PATIENCE_SECONDS = 600.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 15.0
_LONGEST_CALL = 120.0
_MOST_ABSENCES = 3


async def until_back(
    work: Callable[[], Awaitable[T]],
    *,
    who: str,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> T:
    """Await `work()`, and retry it while the object store is away. `who` names the waiting party in the log.

    Between two attempts it waits with `pause`, which may raise to stop it. An attempt that took longer than a store
    can hang shows that the store was available, and restarts the wait; a few times at most.

    Raises:
        StorageAway: the store has been away for `patience_seconds`.
    """
    loop = asyncio.get_running_loop()
    away_since, seconds, absences = math.inf, _FIRST_PAUSE, 0
    while True:
        began = loop.time()
        try:
            return await work()
        except StorageAway as error:
            if loop.time() - began > _LONGEST_CALL and absences < _MOST_ABSENCES:
                away_since, seconds, absences = math.inf, _FIRST_PAUSE, absences + 1
            away_since = min(away_since, loop.time())
            if loop.time() + seconds > away_since + patience_seconds:
                raise
            _log.warning("%s waits for the object store: %s", who, error.detail)
        await pause(seconds)
        seconds = min(2 * seconds, _LONGEST_PAUSE)

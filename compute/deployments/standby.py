"""A value that a standby replica creates for its first job, and gives back once it has been idle for too long."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from compute.worker.watchdog import Watchdog

__all__ = ["StandDown", "Standby"]

T = TypeVar("T")


class StandDown(Exception):
    """Ends an idle standby. Not a failure: Serve replaces the process, which frees all memory it took on the device."""


class Standby(Generic[T]):
    """A value that costs device memory, created on first use in a thread; jobs that arrive meanwhile wait for it."""

    def __init__(
        self,
        activate: Callable[[], T],
        *,
        idle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        watchdog: Watchdog | None = None,
    ) -> None:
        """`check` asks for the end `idle_seconds` after the last job; `clock` returns seconds. `watchdog` watches the
        creation."""
        self._activate = activate
        self._watchdog = watchdog or Watchdog()
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._making: asyncio.Future[T] | None = None
        self._users = 0
        self._left_at = clock()

    @asynccontextmanager
    async def in_use(self) -> AsyncGenerator[T]:
        """The value, created if necessary.

        Raises to every job whatever its creation raised: it is not tried again in this process.
        """
        if self._making is None:
            self._making = self._watchdog.start(lambda moved: self._activate(), what="bringing the model to its device")
        self._users += 1
        try:
            # A cancelled job must not cancel the creation for the other jobs that wait for it.
            yield await asyncio.shield(self._making)
        finally:
            self._users -= 1
            self._left_at = self._clock()

    def check(self) -> None:
        """Check that the process may go on.

        Raises:
            StandDown: the value could not be created, or no job has used it for `idle_seconds`.
        """
        if self._making is None or not self._making.done() or self._users:
            return
        if self._making.exception() is not None:
            raise StandDown("it could not be activated")
        if self._clock() - self._left_at >= self._idle_seconds:
            raise StandDown(f"no job for {self._idle_seconds:.0f} s: the device's memory goes back")

"""What a replica works with, made when its first job comes, and when it has lain idle for too long."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from compute.worker.watchdog import Watchdog

__all__ = ["StandDown", "Standby"]

T = TypeVar("T")


class StandDown(Exception):
    """A standby has had its day. Not a failure: Serve replaces the process, which frees all it took from the device."""


class Standby(Generic[T]):
    """A value that costs device memory, made on first use in a thread; jobs that come meanwhile wait for it."""

    def __init__(
        self,
        activate: Callable[[], T],
        *,
        idle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        watchdog: Watchdog | None = None,
    ) -> None:
        """`idle_seconds` after the last job `check` asks for the end; `clock` tells seconds. `watchdog` watches the
        making."""
        self._activate = activate
        self._watchdog = watchdog or Watchdog()
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._making: asyncio.Future[T] | None = None
        self._users = 0
        self._left_at = clock()

    @asynccontextmanager
    async def in_use(self) -> AsyncGenerator[T]:
        """The value.

        Raises whatever making it raised, to every job: what is half made stays so until the process ends.
        """
        if self._making is None:
            self._making = self._watchdog.start(lambda moved: self._activate(), what="bringing the model to its device")
        self._users += 1
        try:
            # A job that is cancelled meanwhile must not take the value from those who wait with it.
            yield await asyncio.shield(self._making)
        finally:
            self._users -= 1
            self._left_at = self._clock()

    def check(self) -> None:
        """Whether the process may go on.

        Raises:
            StandDown: the value could not be made, or nobody has used it for a while.
        """
        if self._making is None or not self._making.done() or self._users:
            return
        if self._making.exception() is not None:
            raise StandDown("it could not be activated")
        if self._clock() - self._left_at >= self._idle_seconds:
            raise StandDown(f"no job for {self._idle_seconds:.0f} s: the device's memory goes back")

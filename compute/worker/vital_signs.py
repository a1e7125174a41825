"""Heartbeats of a job: a replica reports that it has the job and that its threads move."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from compute.worker.protocol import Alive, Started, WorkEvent
from compute.worker.watchdog import Watchdog, on_behalf_of

__all__ = ["alive_seconds", "with_vital_signs"]

_ALIVE_SECONDS = 2.0


def alive_seconds(lease_seconds: float) -> float:
    """The interval of heartbeats in seconds: several of them fit into a lease."""
    return min(_ALIVE_SECONDS, lease_seconds / 6)


async def with_vital_signs(
    work: AsyncGenerator[WorkEvent], watchdog: Watchdog, seconds: float
) -> AsyncGenerator[WorkEvent]:
    """Yield the events of `work`, with an `Alive` at once and then every `seconds`. Closing it closes `work`.

    Raises:
        WorkerLost: a thread of this process hangs, and the work has not begun. Work that has begun goes on: it may be
            done before the process is replaced.
    """
    watchdog.check()
    signs = _Signs(work, seconds)
    with watchdog.told(signs.lost):
        working = asyncio.create_task(signs.collect())
        begun = False
        try:
            while (event := await signs.events.get()) is not None:
                if isinstance(event, _Lost):
                    if not begun:
                        raise watchdog.error()
                else:
                    begun = begun or isinstance(event, Started)
                    yield event
            await working
        finally:
            signs.stop()
            working.cancel()
            # A second cancellation may interrupt this wait; the task then ends on its own.
            working.add_done_callback(_retrieve)
            await asyncio.wait([working])


class _Lost:
    """A thread of this process hangs."""


class _Signs:
    def __init__(self, work: AsyncGenerator[WorkEvent], seconds: float) -> None:
        self.events: asyncio.Queue[WorkEvent | _Lost | None] = asyncio.Queue()
        self._work = work
        self._seconds = seconds
        self._say_alive()

    async def collect(self) -> None:
        """Queue all events of the work, then None, however it ends."""
        on_behalf_of.set(self)
        try:
            async with aclosing(self._work) as events:
                async for event in events:
                    self.events.put_nowait(event)
        finally:
            self.events.put_nowait(None)

    def lost(self, hung: object | None) -> None:
        """Called when a call hangs. If it belongs to this work, its own error follows."""
        if hung is not self:
            self.events.put_nowait(_Lost())

    def stop(self) -> None:
        self._timer.cancel()

    def _say_alive(self) -> None:
        self.events.put_nowait(Alive())
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._say_alive)


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Mark the task's error as retrieved: it is raised where the task is awaited, or no longer of interest."""
    if not task.cancelled():
        task.exception()

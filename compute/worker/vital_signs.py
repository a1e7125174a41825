"""Heartbeats of a job: a replica reports that it has the job and that its threads move."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from compute.worker.protocol import Alive, Started, WorkEvent
from compute.worker.watchdog import Watchdog, on_behalf_of

__all__ = ["alive_seconds", "vital_batches", "with_vital_signs"]

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
    async with aclosing(vital_batches(work, watchdog, seconds)) as batches:
        async for batch in batches:
            for event in batch:
                yield event


async def vital_batches(
    work: AsyncGenerator[WorkEvent], watchdog: Watchdog, seconds: float, *, gather_seconds: float = 0.0
) -> AsyncGenerator[tuple[WorkEvent, ...]]:
    """The same, where events that are there together are yielded together: to carry one between processes costs more
    than to make it. `gather_seconds` is how long the first of them waits for others.
    """
    watchdog.check()
    signs = _Signs(work, seconds)
    with watchdog.told(signs.lost):
        working = asyncio.create_task(signs.collect())
        begun = False
        try:
            while signs.goes_on:
                batch = await signs.gathered(gather_seconds)
                begun = begun or any(isinstance(event, Started) for event in batch)
                if signs.is_lost and not begun:
                    raise watchdog.error()
                if batch:
                    yield batch
            await working
        finally:
            signs.stop()
            working.cancel()
            # A second cancellation may interrupt this wait; the task then ends on its own.
            working.add_done_callback(_retrieve)
            await asyncio.wait([working])


class _Signs:
    """Events that wait to be yielded, and whether a thread of this process hangs."""

    def __init__(self, work: AsyncGenerator[WorkEvent], seconds: float) -> None:
        self.is_lost = False
        self._ended = False
        self._events: list[WorkEvent] = []
        self._news = asyncio.Event()
        self._work = work
        self._seconds = seconds
        self._say_alive()

    @property
    def goes_on(self) -> bool:
        """There are events, or there may be."""
        return bool(self._events) or not self._ended

    async def collect(self) -> None:
        """Take in all events of the work, and its end, however it ends."""
        on_behalf_of.set(self)
        try:
            async with aclosing(self._work) as events:
                async for event in events:
                    self._put(event)
        finally:
            self._ended = True
            self._news.set()

    async def gathered(self, seconds: float) -> tuple[WorkEvent, ...]:
        """The events so far, once there is one, or other news; after `seconds` for more to come."""
        await self._news.wait()
        if seconds and not self._ended:
            await asyncio.sleep(seconds)
        self._news.clear()
        events, self._events = self._events, []
        # Any other event says as much.
        said = [event for event in events if not isinstance(event, Alive)]
        return tuple(said or events[:1])

    def lost(self, hung: object | None) -> None:
        """Called when a call hangs. If it belongs to this work, its own error follows."""
        if hung is not self:
            self.is_lost = True
            self._news.set()

    def stop(self) -> None:
        self._timer.cancel()

    def _put(self, event: WorkEvent) -> None:
        self._events.append(event)
        self._news.set()

    def _say_alive(self) -> None:
        self._put(Alive())
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._say_alive)


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Mark the task's error as retrieved: it is raised where the task is awaited, or no longer of interest."""
    if not task.cancelled():
        task.exception()

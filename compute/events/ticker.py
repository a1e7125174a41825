"""Asks the database again and again while somebody waits for news, and sooner when a hint says that there are some."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from compute.db.away import DatabaseAway

__all__ = ["Ticker"]

_log = logging.getLogger(__name__)


class Ticker:
    """Calls `tick` every `seconds`, and soon after a hint, for as long as `wanted()`. However many hints there are, it
    rests for `rest` seconds between two ticks, and for as long as the last one took. `listen` calls what it is given at
    every hint.

    `run` must be running; it does not listen before the first `wake`.
    """

    def __init__(
        self,
        listen: Callable[[Callable[[], None]], Awaitable[None]],
        seconds: float,
        *,
        rest: float,
        tick: Callable[[], Awaitable[None]],
        wanted: Callable[[], bool],
    ) -> None:
        self._listen = listen
        self._seconds = seconds
        self._rest = rest
        self._tick = tick
        self._wanted = wanted
        self._waited_for = asyncio.Event()
        self._hinted = asyncio.Event()

    def wake(self, *, now: bool = False) -> None:
        """Somebody waits; with `now` they do not wait for the clock."""
        self._waited_for.set()
        if now:
            self._hinted.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        await self._waited_for.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen_on())
            group.create_task(self._tick_on())

    async def _listen_on(self) -> None:
        await self._listen(self._hinted.set)

    async def _tick_on(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            if not self._wanted():
                self._waited_for.clear()
                await self._waited_for.wait()
            self._hinted.clear()
            began = clock()
            try:
                await self._tick()
            except DatabaseAway as error:
                _log.warning("asking for news later, the database is out of reach: %s", error)
            await asyncio.sleep(max(clock() - began, self._rest))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._hinted.wait()

"""Asks the database again and again while somebody waits for news, and sooner when a hint says that there are some."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from compute.db.away import DatabaseAway
from compute.db.session import Database
from compute.events import hints

__all__ = ["Ticker"]

_log = logging.getLogger(__name__)


class Ticker:
    """Calls `tick` every `seconds`, and soon after a hint on `channels`, for as long as `wanted()`. However many hints
    there are, it rests for `rest` seconds between two ticks, and for as long as the last one took.

    `run` must be running; it connects to nothing before the first `wake`.
    """

    def __init__(
        self,
        database: Database,
        channels: Sequence[str],
        seconds: float,
        *,
        rest: float,
        tick: Callable[[], Awaitable[None]],
        wanted: Callable[[], bool],
    ) -> None:
        self._database = database
        self._channels = channels
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
            group.create_task(
                hints.listen(self._database, self._channels, lambda _channel, _payload: self._hinted.set())
            )
            group.create_task(self._tick_on())

    async def _tick_on(self) -> None:
        while True:
            if not self._wanted():
                self._waited_for.clear()
                await self._waited_for.wait()
            self._hinted.clear()
            began = time.monotonic()
            try:
                await self._tick()
            except DatabaseAway as error:
                _log.warning("asking for news later, the database is out of reach: %s", error)
            await asyncio.sleep(max(time.monotonic() - began, self._rest))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._hinted.wait()

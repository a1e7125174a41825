"""The loops of a replica: those that do its work, and those that observe it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from compute.api.loops import Loops

__all__ = ["KeptLoops"]


class KeptLoops:
    """A loop that does the work and ends is a reason to replace the replica. One that observes is begun again instead:
    nothing that runs is given up for a figure."""

    def __init__(self) -> None:
        """Run nothing yet."""
        self._working: list[asyncio.Task[None]] = []
        self._observing = Loops()

    def work(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        """Run a loop that does the work, from now until `close`."""
        self._working.append(asyncio.create_task(loop, name=name))

    def observe(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop that observes, from now until `close`; it is called anew for each run."""
        self._observing.observe(name, loop)

    def check(self) -> None:
        """Raises:
        RuntimeError: a loop that does the work has ended.
        """
        for work in self._working:
            if work.done():
                raise RuntimeError(f"{work.get_name()} has ended") from work.exception()

    async def close(self) -> None:
        """Stop the work, and then what observes it."""
        for work in self._working:
            work.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        await self._observing.close()

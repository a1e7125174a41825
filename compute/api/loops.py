"""The loops that a process runs beside its work: kept going, and noticed when they end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

__all__ = ["Loops"]

_log = logging.getLogger(__name__)
_PAUSE_SECONDS = 1.0
_FORGIVEN_SECONDS = 30.0


class Loops:
    """A loop that ends, by an error or without one, is begun again after a pause. `failing` tells of those that ended
    lately and do work; of those that observe the log tells."""

    def __init__(self, *, pause_seconds: float = _PAUSE_SECONDS, forgiven_seconds: float = _FORGIVEN_SECONDS) -> None:
        self._pause_seconds = pause_seconds
        self._forgiven_seconds = forgiven_seconds
        self._running: list[asyncio.Task[None]] = []
        self._observing: set[str] = set()
        self._ended: dict[str, tuple[float, str]] = {}

    def keep(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run `loop` from now until `close`; it is called anew for each run."""
        self._running.append(asyncio.create_task(self._keep(name, loop), name=name))

    def observe(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """The same for a loop without which everything else works."""
        self._observing.add(name)
        self.keep(name, loop)

    def failing(self) -> dict[str, str]:
        """Loops that ended within the last half minute, by name, with the reason."""
        now = asyncio.get_running_loop().time()
        return {name: why for name, (at, why) in self._ended.items() if now - at < self._forgiven_seconds}

    async def close(self) -> None:
        """Stop all of them."""
        for work in self._running:
            work.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _keep(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await loop()
                why = "it returned"
            except Exception as error:
                why = f"{type(error).__name__}"
                _log.critical("the loop %s ended and is begun again", name, exc_info=error)
            if name not in self._observing:
                self._ended[name] = asyncio.get_running_loop().time(), f"ended: {why}"
            await asyncio.sleep(self._pause_seconds)

"""A loop whose time is simulated: when everybody waits, the clock jumps to whoever waits for it."""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any

__all__ = ["SimulatedLoop", "Stuck", "pause"]


class Stuck(Exception):
    """Everybody waits for somebody else, and nobody for the clock."""


class _Clock(selectors.BaseSelector):
    """Nothing ever arrives from outside; waiting moves the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, int(fileobj), events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        self.now += max(timeout, 0.0)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs hours in milliseconds, and the same calls in the same order every time."""

    def __init__(self) -> None:
        self._simulated = _Clock()
        super().__init__(self._simulated)

    def time(self) -> float:
        return self._simulated.now

    def stand_still(self, seconds: float) -> None:
        """As if the process had been stopped for so long."""
        self._simulated.now += seconds


async def pause(seconds: float) -> None:
    """Let simulated time pass, which takes none."""
    await asyncio.sleep(seconds)

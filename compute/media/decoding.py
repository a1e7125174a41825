"""Decodes images within the memory and the cores of one process."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from compute.capacity import Capacity, in_thread
from compute.media.images import decode_cost, opening_cost

__all__ = ["Decoding"]

T = TypeVar("T")


class Decoding:
    """Reserves the memory of an image before it is decoded. Use it within one event loop."""

    def __init__(
        self,
        memory: int,
        *,
        max_pixels: int,
        busy: str,
        waiting: int,
        seconds: float,
        in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] = in_thread,
    ) -> None:
        """Use up to `memory` bytes at a time; `waiting` and `seconds` bound the queue, others are refused with `busy`.

        `in_thread` runs a call in a thread and, cancelled, waits for it.
        """
        self._in_thread = in_thread
        self._max_pixels = max_pixels
        self._memory = Capacity(memory, busy=busy, waiting=waiting, seconds=seconds)
        # More concurrent decodings than cores would only take memory.
        self._slots = asyncio.Semaphore(os.cpu_count() or 1)

    async def run(self, work: Callable[[], T], data: bytes, *, field: str) -> T:
        """Run `work`, which decodes `data`, in a thread. Cancelled, it keeps the memory until the thread has ended.

        Raises whatever `work` raises, and:
            InvalidInput: by its header `data` is not an image, or too large.
            Overloaded: many or large images take all the memory.
        """
        look = partial(decode_cost, data, max_pixels=self._max_pixels, field=field)
        cost = await self._within(opening_cost(data), look)
        return await self._within(cost, work)

    async def _within(self, cost: int, call: Callable[[], T]) -> T:
        async with self._memory.taken(cost), self._slots:
            done: T = await self._in_thread(call)
            return done

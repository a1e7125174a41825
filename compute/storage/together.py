"""Bounded concurrency for calls to a store."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ["AT_ONCE", "for_each"]

A = TypeVar("A")
T = TypeVar("T")

AT_ONCE = 16
"""Concurrent calls: each takes a round trip to the store, and hardly any CPU time."""


async def for_each(items: Iterable[A], call: Callable[[A], Awaitable[T]]) -> list[T]:
    """Await `call` for each item; returns the results in the items' order. Raises the first error, and then cancels the
    remaining calls."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def in_turn(item: A) -> T:
        async with slots:
            return await call(item)

    calls = [asyncio.create_task(in_turn(item)) for item in items]
    try:
        return [await each for each in calls]
    finally:
        for each in calls:
            each.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

"""Many calls to a store at once, but never too many."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ["AT_ONCE", "for_each"]

A = TypeVar("A")
T = TypeVar("T")

AT_ONCE = 16
"""Calls that are under way: each takes a round trip to the store, and hardly any CPU time."""


async def for_each(items: Iterable[A], call: Callable[[A], Awaitable[T]]) -> list[T]:
    """What `call` returns for each of the items, in their order. Raises what the first of them raises that fails;
    then those behind it are cancelled."""
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

"""Limits how many edits are under way at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["at_most"]

T = TypeVar("T")


def at_most(count: int | None) -> Callable[[Callable[[], Awaitable[T]]], Awaitable[T]]:
    """A function that calls others, `count` at a time; None for no limit."""
    places = asyncio.Semaphore(count) if count else None

    async def call(work: Callable[[], Awaitable[T]]) -> T:
        if places is None:
            return await work()
        async with places:
            return await work()

    return call

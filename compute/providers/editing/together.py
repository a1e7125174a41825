"""Runs several paid edits at a time, each of them to its end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

__all__ = ["at_most", "to_their_ends"]

T = TypeVar("T")


async def to_their_ends(work: Sequence[Awaitable[T]]) -> list[T]:
    """The results in order. When one fails, the others still end before its error is raised: a call that is left
    half way may have been paid for nothing.

    Raises:
        The first error, in the order of `work`.
    """
    ended = await asyncio.gather(*work, return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException):
            raise one
    return [one for one in ended if not isinstance(one, BaseException)]


def at_most(count: int | None) -> Callable[[Callable[[], Awaitable[T]]], Awaitable[T]]:
    """A function that calls others, `count` at a time; None for no limit."""
    places = asyncio.Semaphore(count) if count else None

    async def call(work: Callable[[], Awaitable[T]]) -> T:
        if places is None:
            return await work()
        async with places:
            return await work()

    return call

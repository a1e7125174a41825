"""Where the asynchronous client waits; `compute/client/sync/io.py` has the same for the synchronous one."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_thread", "sleep"]

T = TypeVar("T")


async def sleep(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)


async def in_thread(function: Callable[[], T]) -> T:
    """Do what would hold up others, such as reading a large file."""
    return await asyncio.to_thread(function)

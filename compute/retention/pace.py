"""Half of the time for everybody else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["paced"]

T = TypeVar("T")


async def paced(batch: Callable[[], Awaitable[T]]) -> T:
    """Do a batch, then rest for as long as it took: the busier the database is, the more it is left alone."""
    clock = asyncio.get_running_loop().time
    began = clock()
    done = await batch()
    await asyncio.sleep(clock() - began)
    return done

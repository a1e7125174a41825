"""Limits batch work to half of the time, so that the database stays responsive for other clients."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["paced"]

T = TypeVar("T")


async def paced(batch: Callable[[], Awaitable[T]]) -> T:
    """Run a batch, then sleep for as long as it took: the busier the database is, the less it is used."""
    clock = asyncio.get_running_loop().time
    began = clock()
    done = await batch()
    await asyncio.sleep(clock() - began)
    return done

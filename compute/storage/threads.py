"""Threads for the calls of one object store."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

__all__ = ["STORE_THREADS", "StoreThreads"]

P = ParamSpec("P")
T = TypeVar("T")

STORE_THREADS = 32


class StoreThreads:
    """Runs up to `STORE_THREADS` calls at the same time. They do not use the event loop's own threads, so a store that
    hangs delays only its own calls."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call. Cancelled, it is abandoned, and continues to its end if it has begun."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

"""Where the synchronous client waits; `compute/client/aio/io.py` has the same for the asynchronous one."""

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_thread", "sleep"]

T = TypeVar("T")


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def in_thread(function: Callable[[], T]) -> T:
    """Do it here: nobody else is held up."""
    return function()

# Made of compute/client/aio by `python -m tools.unasync`: change it there.
"""Looks at something until it has ended."""

from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from compute.client.common.reading import is_ended, raise_if_bad
from compute.client.errors import WaitTimeout
from compute.client.sync.io import sleep

__all__ = ["until_ended"]

T = TypeVar("T")


def until_ended(
    look: Callable[[], T],
    what: str,
    *,
    timeout: float | None,
    every: float,
    tell: Callable[[T], object] | None,
    check: bool,
) -> T:
    """Look until it has ended, and return it.

    Raises:
        WaitTimeout: it has not ended in time.
        EndedBadly: it FAILED or was CANCELLED, and `check` is set.
    """
    deadline = float("inf") if timeout is None else monotonic() + timeout
    while True:
        found = look()
        if tell is not None:
            tell(found)
        if is_ended(found):
            break
        if monotonic() + every > deadline:
            raise WaitTimeout(f"the {what} has not ended in time; it goes on", found)
        sleep(every)
    if check:
        raise_if_bad(what, found)
    return found

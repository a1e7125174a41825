# Made of compute/client/aio by `python -m tools.unasync`: change it there.
"""Polls until a workflow or a training has ended."""

from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from compute.client.common.reading import is_ended, raise_if_bad
from compute.client.errors import ClientError, WaitTimeout
from compute.client.sync.io import sleep

__all__ = ["LAST_LOOK", "until_ended"]

LAST_LOOK = 1.0
"""Seconds that the look at the deadline may take."""
T = TypeVar("T")


def until_ended(
    look: Callable[[float], T],
    what: str,
    *,
    timeout: float | None,
    patience: float,
    every: float,
    tell: Callable[[T], object] | None,
    check: bool,
) -> T:
    """Look until it has ended, and return it. The last look is at the deadline.

    Args:
        look: Asks for it, in so many seconds at most.
        patience: Seconds that any look may take.

    Raises:
        WaitTimeout: it has not ended in time.
        EndedBadly: it FAILED or was CANCELLED, and `check` is set.
    """
    deadline = float("inf") if timeout is None else monotonic() + timeout
    found: T | None = None
    while True:
        left = deadline - monotonic()
        try:
            found = look(min(patience, max(left, LAST_LOOK)))
        except ClientError as error:
            if error.may_pass and monotonic() >= deadline:
                raise WaitTimeout(f"the {what} has not ended in time; it goes on", found) from error
            raise
        if tell is not None:
            tell(found)
        if is_ended(found):
            break
        if left <= 0:
            raise WaitTimeout(f"the {what} has not ended in time; it goes on", found)
        sleep(min(every, max(0.0, deadline - monotonic())))
    if check:
        raise_if_bad(what, found)
    return found

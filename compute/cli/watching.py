"""Looks at something on a server until it has ended. Everything is imported where it is used, as in `compute.cli`."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["looks"]

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""How long a server may be away between two looks."""


def looks(look: Callable[[], T], has_ended: Callable[[T], bool], *, pause: float) -> Iterator[T]:
    """What `look` sees, again and again, however long it takes; the last one has ended. `pause` is in seconds.

    A server that is away for a while, as at a restart, is waited for.

    Raises:
        ClientError: the first look failed, the server refuses, or it stays away.
    """
    from compute.client import ClientError

    seen: float | None = None
    while True:
        try:
            found = look()
        except ClientError as error:
            if not error.may_pass or seen is None or time.monotonic() - seen > PATIENCE_SECONDS:
                raise
        else:
            seen = time.monotonic()
            yield found
            if has_ended(found):
                return
        time.sleep(pause)

"""Polls an object on a server until it has ended. Heavy modules are imported inside functions, as in `compute.cli`."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["poll"]

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""Seconds that a server may be away between two answers."""


def poll(fetch: Callable[[], T], has_ended: Callable[[T], bool], *, pause: float) -> Iterator[T]:
    """Call `fetch` every `pause` seconds and yield each answer, until `has_ended` is true of one; that one is the last.

    A server that is away for up to a minute, as at a restart, is waited for.

    Raises:
        ClientError: the first call failed, the server refuses, or it stays away.

    Example:
        for task in poll(lambda: client.tasks.get(task_id), lambda task: task.ended, pause=0.3):
            print(task.progress)
    """
    from compute.client import ClientError

    answered: float | None = None
    while True:
        try:
            found = fetch()
        except ClientError as error:
            if not error.may_pass or answered is None or time.monotonic() - answered > PATIENCE_SECONDS:
                raise
        else:
            answered = time.monotonic()
            yield found
            if has_ended(found):
                return
        time.sleep(pause)

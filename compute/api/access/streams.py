"""Places for event streams: how many may be open in this process, and how many of one key or tenant."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from compute.api.access.caller import Caller
from compute.errors import LimitReached, Overloaded

__all__ = ["ONGOING_REQUESTS", "STREAMS", "StreamPlaces"]

STREAMS = frozenset({"/tasks/{task_id}/events"})
"""Routes that answer with a stream of events, below the API's prefix, as the OpenAPI document writes them."""
ONGOING_REQUESTS = 2000
"""Requests that a process holds at a time, unless its configuration says otherwise."""
_RETRY_SECONDS = 5.0


class StreamPlaces:
    """Streams stay open for as long as their clients like, and each holds a place of a process.

    Together they have three quarters of the places, so that other requests find room. A key that was given out has a
    quarter, and so have all keys of a tenant together; the keys of the settings are not limited by themselves.
    """

    def __init__(self, places: int) -> None:
        """`places`: how many requests the process holds at a time."""
        self._most = max(1, places * 3 // 4)
        self._share = max(1, places // 4)
        self._open: Counter[str] = Counter()
        self._total = 0

    @contextmanager
    def held(self, caller: Caller) -> Iterator[None]:
        """Hold a place within the block.

        Raises:
            LimitReached: the key, or its tenant, has as many streams open as it may.
            Overloaded: all places are taken.
        """
        subjects = _subjects(caller)
        for subject, whose in subjects:
            if self._open[subject] >= self._share:
                raise LimitReached(
                    f"{whose} may have {self._share} event streams open here; close one, or try again later.",
                    limit=self._share,
                    retry_after=_RETRY_SECONDS,
                )
        if self._total >= self._most:
            raise Overloaded("Too many event streams are open at the moment; try again later.")
        self._total += 1
        self._open.update(subject for subject, _ in subjects)
        try:
            yield
        finally:
            self._total -= 1
            self._open.subtract(subject for subject, _ in subjects)
            for subject, _ in subjects:
                if self._open[subject] <= 0:
                    del self._open[subject]


def _subjects(caller: Caller) -> list[tuple[str, str]]:
    found = []
    if caller.key_id is not None:
        found.append((f"key:{caller.key_id}", "This key"))
    if caller.tenant is not None:
        found.append((f"tenant:{caller.tenant}", "The keys of this tenant"))
    return found

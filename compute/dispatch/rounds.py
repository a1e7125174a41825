"""Loops that come round: one that has not for long hangs."""

import time
from collections.abc import Callable

__all__ = ["Rounds"]

_PATIENCE_SECONDS = 120.0
"""Far more than a round takes whose waits all have an end."""


class Rounds:
    """Each loop tells when it begins a round."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._late_at: dict[str, float] = {}

    def came(self, loop: str, pause: float) -> None:
        """A round begins; the next one follows `pause` seconds after its end."""
        self._late_at[loop] = self._clock() + pause + _PATIENCE_SECONDS

    def check(self) -> None:
        """Raises:
        RuntimeError: a loop is long overdue.
        """
        now = self._clock()
        if late := [loop for loop, late_at in self._late_at.items() if late_at < now]:
            raise RuntimeError(f"These loops hang: {', '.join(sorted(late))}")

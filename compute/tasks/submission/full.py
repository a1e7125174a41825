"""Keys and tenants that a process has lately refused for their quotas."""

import time
from collections.abc import Callable, Sequence

from compute.tasks.submission.quotas import Quota

__all__ = ["FullQuotas"]

_SECONDS = 10.0
_MOST = 10_000


class FullQuotas:
    """Remembers for some seconds who had no room. To find out whether there is some again, all open work of a subject
    is looked through: that is nothing for the transaction in which others store their tasks."""

    def __init__(self, *, seconds: float = _SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: dict[str, float] = {}

    def note(self, quotas: Sequence[Quota]) -> None:
        """One of these has just had no room."""
        for quota in quotas:
            self._until.pop(quota.subject, None)
            self._until[quota.subject] = self._clock() + self._seconds
        while len(self._until) > _MOST:
            del self._until[next(iter(self._until))]

    def may_be(self, quotas: Sequence[Quota]) -> bool:
        """Whether one of these had no room lately."""
        now = self._clock()
        return any(self._until.get(quota.subject, now) > now for quota in quotas)

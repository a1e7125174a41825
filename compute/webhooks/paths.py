"""Failing paths of receivers, tracked so that one bad path does not open the breaker of its whole host."""

import math
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["FailingPath", "FailingPaths"]

_OF_ONE_RECEIVER = 64
_OF_ALL = 10_000
_FORGOTTEN_AFTER = 3600.0


@dataclass(slots=True, eq=False)
class FailingPath:
    """A path that has failed since its last success. Once its own breaker has opened, it is isolated from its
    host's."""

    receiver: str
    name: str
    failures: int = 0
    failed_at: float = 0.0
    openings: int = 0
    open_until: float = 0.0
    in_flight: int = 0
    asked_at: float = -math.inf
    """Time of the last lottery that offered it a probe; nothing may have been due to it."""

    @property
    def is_isolated(self) -> bool:
        """Whether its failures count against the path alone and not against the host."""
        return self.openings > 0

    def open(self, until: float) -> None:
        """Open its breaker, again, until a time of the event loop."""
        self.openings += 1
        self.open_until = until

    def is_ready(self, now: float) -> bool:
        """Return whether it may get a request: its pause is over, and no request is in flight."""
        return now >= self.open_until and not self.in_flight


class FailingPaths:
    """The failing paths of all receivers: at most 64 of each and 10,000 in all.

    The path that failed longest ago is dropped first, and of one receiver first a path that is not isolated. A path
    without
    any news for an hour after its pause is dropped, too.
    """

    def __init__(self) -> None:
        self._of: dict[str, dict[str, FailingPath]] = {}
        self._all: OrderedDict[FailingPath, None] = OrderedDict()

    def of(self, receiver: str) -> Collection[FailingPath]:
        """Return the failing paths of a receiver; the one that failed last comes last."""
        return self._of.get(receiver, {}).values()

    def get(self, receiver: str, name: str) -> FailingPath | None:
        """Return the failing path of that name; None if it has not failed lately."""
        return self._of.get(receiver, {}).get(name)

    def failed(self, receiver: str, name: str, now: float) -> FailingPath:
        """Count a failure of a path."""
        path = self.get(receiver, name) or FailingPath(receiver, name)
        self.forget(path)
        of_receiver = self._of.setdefault(receiver, {})
        if len(of_receiver) >= _OF_ONE_RECEIVER:
            self.forget(min(of_receiver.values(), key=lambda one: one.is_isolated))
        elif len(self._all) >= _OF_ALL:
            self.forget(next(iter(self._all)))
        path.failures += 1
        path.failed_at = now
        self._of.setdefault(receiver, {})[name] = path
        self._all[path] = None
        return path

    def forget(self, path: FailingPath) -> None:
        """Drop a path, because it works again or is no longer of interest."""
        if path not in self._all:
            return
        del self._all[path]
        of_receiver = self._of[path.receiver]
        del of_receiver[path.name]
        if not of_receiver:
            del self._of[path.receiver]

    def forget_receiver(self, receiver: str) -> None:
        """Drop all paths of a receiver."""
        for path in list(self.of(receiver)):
            self.forget(path)

    def expire(self, receiver: str, now: float) -> None:
        """Drop the paths of a receiver that have had no news for an hour."""
        for path in list(self.of(receiver)):
            if now - max(path.failed_at, path.open_until) > _FORGOTTEN_AFTER and not path.in_flight:
                self.forget(path)

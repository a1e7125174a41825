"""Paths of receivers that fail, so that one of them need not close the whole host."""

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
    """A path that has failed since it last worked. It is apart once it is left alone by itself."""

    receiver: str
    name: str
    failures: int = 0
    failed_at: float = 0.0
    openings: int = 0
    shut_until: float = 0.0
    in_flight: int = 0
    asked_at: float = -math.inf
    """When a lot last asked for it, in vain if nothing was due to it."""

    @property
    def is_apart(self) -> bool:
        """Whether its failures are its own, and no longer the host's."""
        return self.openings > 0

    def shut(self, until: float) -> None:
        """Leave it alone, once more."""
        self.openings += 1
        self.shut_until = until

    def is_ready(self, now: float) -> bool:
        """Whether it may get a request: its pause is over, and none is on its way."""
        return now >= self.shut_until and not self.in_flight


class FailingPaths:
    """64 of a receiver at most and 10,000 in all. What failed longest ago is forgotten first, and of one receiver first
    what is not apart; and whatever was not heard of for an hour after its pause."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, FailingPath]] = {}
        self._all: OrderedDict[FailingPath, None] = OrderedDict()

    def of(self, receiver: str) -> Collection[FailingPath]:
        """Its failing paths; the one that failed last comes last."""
        return self._of.get(receiver, {}).values()

    def get(self, receiver: str, name: str) -> FailingPath | None:
        """None for a path that has not failed lately."""
        return self._of.get(receiver, {}).get(name)

    def failed(self, receiver: str, name: str, now: float) -> FailingPath:
        """Count a failure."""
        path = self.get(receiver, name) or FailingPath(receiver, name)
        self.forget(path)
        of_receiver = self._of.setdefault(receiver, {})
        if len(of_receiver) >= _OF_ONE_RECEIVER:
            self.forget(min(of_receiver.values(), key=lambda one: one.is_apart))
        elif len(self._all) >= _OF_ALL:
            self.forget(next(iter(self._all)))
        path.failures += 1
        path.failed_at = now
        self._of.setdefault(receiver, {})[name] = path
        self._all[path] = None
        return path

    def forget(self, path: FailingPath) -> None:
        """It works again, or is of no interest any more."""
        if path not in self._all:
            return
        del self._all[path]
        of_receiver = self._of[path.receiver]
        del of_receiver[path.name]
        if not of_receiver:
            del self._of[path.receiver]

    def forget_receiver(self, receiver: str) -> None:
        """All its paths."""
        for path in list(self.of(receiver)):
            self.forget(path)

    def forget_old(self, receiver: str, now: float) -> None:
        """Those of its paths of which nothing was heard for long."""
        for path in list(self.of(receiver)):
            if now - max(path.failed_at, path.shut_until) > _FORGOTTEN_AFTER and not path.in_flight:
                self.forget(path)

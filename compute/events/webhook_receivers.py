"""How much one receiver may be sent at once, so that a dead or slow one cannot hold up the others."""

from collections import Counter, OrderedDict

__all__ = ["Receivers"]

_REMEMBERED = 500


class Receivers:
    """Room per receiver (`host` or `host:port`).

    A receiver earns its room: one request at a time at first, twice as many after every prompt success up to
    `most`, and back to one as soon as it is slow, unwell or silent. A dead one therefore never holds more than one
    connection for long.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_flight: Counter[str] = Counter()
        self._earned: OrderedDict[str, int] = OrderedDict()

    def rooms(self) -> dict[str, int]:
        """How many more requests each receiver may get now; 1 for those not named."""
        return {
            receiver: max(self._earned.get(receiver, 1) - self._in_flight[receiver], 0)
            for receiver in self._earned.keys() | self._in_flight.keys()
        }

    def started(self, receiver: str) -> None:
        self._in_flight[receiver] += 1

    def finished(self, receiver: str, *, prompt: bool) -> None:
        """A request ended; `prompt` says whether it succeeded, and soon."""
        self._in_flight[receiver] -= 1
        if not self._in_flight[receiver]:
            del self._in_flight[receiver]
        earned = min(self._earned.pop(receiver, 1) * 2, self._most)
        if prompt and earned > 1:
            self._earned[receiver] = earned
        if len(self._earned) > _REMEMBERED:
            self._earned.popitem(last=False)

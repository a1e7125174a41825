"""Decides which of the receivers with due deliveries get the next requests."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from compute.webhooks.receivers import Receivers, ReceiverState
from compute.webhooks.store import Lottery

__all__ = ["DueReceivers"]

_MOST = 10_000
_UNKNOWN_SHARE = 0.5
_PROBED_SHARE = 0.25
_PATHS_SHARE = 0.0625
_RESERVE = 0.125


class DueReceivers:
    """Round-robin queues of receivers with due deliveries, one queue for each state of a receiver.

    Hanging receivers cannot block the rest: receivers in UNKNOWN state get at most half of all requests, those in
    HALF_OPEN
    state a quarter, and isolated paths of working receivers a sixteenth. The rest is for healthy receivers; an
    eighth of all is reserved for receivers without a request in flight, because a healthy one may hang, too. Each queue
    holds
    at most 10,000 receivers; the next search finds the others.
    """

    def __init__(self, receivers: Receivers, in_flight: int) -> None:
        """`in_flight` is the largest number of requests in flight, over all receivers."""
        self._receivers = receivers
        self._shares = {
            ReceiverState.UNKNOWN: max(round(in_flight * _UNKNOWN_SHARE), 1),
            ReceiverState.HALF_OPEN: max(round(in_flight * _PROBED_SHARE), 1),
            ReceiverState.HEALTHY: in_flight,
        }
        self._reserve = round(in_flight * _RESERVE)
        self._paths_share = max(round(in_flight * _PATHS_SHARE), 1)
        self._queues: dict[ReceiverState, OrderedDict[str, None]] = {
            standing: OrderedDict() for standing in self._shares
        }

    def add(self, names: Iterable[str], now: float) -> None:
        """Queue receivers that have something due, except those with an open breaker."""
        for name in names:
            queue = self._queues.get(self._receivers.standing(name, now))
            if queue is not None and len(queue) < _MOST:
                queue.setdefault(name)

    def remove(self, name: str) -> None:
        """Remove a receiver that has nothing due any more."""
        for queue in self._queues.values():
            queue.pop(name, None)

    def allocate(self, free: int, now: float) -> dict[str, int]:
        """Allocate `free` requests; the number of requests for each receiver."""
        allocated: dict[str, int] = {}
        for standing in self._shares:
            share = min(self._shares[standing] - self._receivers.in_flight(standing), free)
            free -= self._allocate_first(standing, share, free - self._reserve, now, allocated)
        self._allocate_more(free - self._reserve, now, allocated)
        return allocated

    def lotteries(self, allocated: Mapping[str, int], now: float) -> dict[str, Lottery]:
        """Return a lottery for each receiver that must share its requests between its paths.

        Probes of isolated paths have a share of their own, which hanging receivers cannot use up.
        """
        left = self._paths_share - self._receivers.isolated_in_flight
        lotteries: dict[str, Lottery] = {}
        for name, quota in allocated.items():
            if lottery := self._receivers.lottery(name, quota, now, may_probe=left > 0):
                lotteries[name] = lottery
                left -= lottery.probes
        return lotteries

    def _allocate_first(
        self, standing: ReceiverState, share: int, open_to_all: int, now: float, allocated: dict[str, int]
    ) -> int:
        """Allocate one request to each receiver, up to `share`; return their number.

        Once `open_to_all` are allocated, receivers that have a request in flight get none.
        """
        queue = self._queues[standing]
        given = 0
        for name in list(queue) if share > 0 else ():
            if self._receivers.standing(name, now) is not standing:
                del queue[name]
                self.add([name], now)
            elif given >= open_to_all and self._receivers.is_busy(name):
                continue
            elif name not in allocated and self._receivers.capacity(name, now):
                allocated[name] = 1
                queue.move_to_end(name)
                given += 1
                if given == share:
                    break
        return given

    def _allocate_more(self, free: int, now: float, allocated: dict[str, int]) -> None:
        """Allocate the rest in rounds to receivers with room for more, one request each in a round."""
        capacities = {name: self._receivers.capacity(name, now) for name in allocated}
        while free > 0 and (open_to_more := [name for name, given in allocated.items() if capacities[name] > given]):
            for name in open_to_more[:free]:
                allocated[name] += 1
            free -= len(open_to_more[:free])

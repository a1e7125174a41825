"""Which receivers get a request next, of those that have something due."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from compute.webhooks.receivers import Receivers, Standing
from compute.webhooks.store import Lot

__all__ = ["DueReceivers"]

_MOST = 10_000
_UNKNOWN_SHARE = 0.5
_PROBED_SHARE = 0.25
_PATHS_SHARE = 0.0625
_RESERVE = 0.125


class DueReceivers:
    """Receivers that wait for requests, each in the queue of its standing; who was served stands at the end again.

    However many receivers hang, they hold half of all requests while nobody knows them and a quarter once they are
    probed, and failing paths of receivers that work hold a sixteenth. The rest is for receivers that answer; and an
    eighth of all is for those that have no request yet, because one that has always answered may hang, too. Of each
    standing at most 10,000 are kept: the next look finds the others.
    """

    def __init__(self, receivers: Receivers, in_flight: int) -> None:
        """`in_flight`: how many requests there may be at once, to all receivers together."""
        self._receivers = receivers
        self._shares = {
            Standing.UNKNOWN: max(round(in_flight * _UNKNOWN_SHARE), 1),
            Standing.PROBED: max(round(in_flight * _PROBED_SHARE), 1),
            Standing.PROVEN: in_flight,
        }
        self._reserve = round(in_flight * _RESERVE)
        self._paths_share = max(round(in_flight * _PATHS_SHARE), 1)
        self._queues: dict[Standing, OrderedDict[str, None]] = {standing: OrderedDict() for standing in self._shares}

    def add(self, names: Iterable[str], now: float) -> None:
        """Let those wait that have something due and are not left alone."""
        for name in names:
            queue = self._queues.get(self._receivers.standing(name, now))
            if queue is not None and len(queue) < _MOST:
                queue.setdefault(name)

    def remove(self, name: str) -> None:
        """It has nothing due any more."""
        for queue in self._queues.values():
            queue.pop(name, None)

    def deal(self, free: int, now: float) -> dict[str, int]:
        """How many requests each receiver is to get, `free` of them in all."""
        dealt: dict[str, int] = {}
        for standing in self._shares:
            share = min(self._shares[standing] - self._receivers.in_flight(standing), free)
            free -= self._deal_first(standing, share, free - self._reserve, now, dealt)
        self._deal_more(free - self._reserve, now, dealt)
        return dealt

    def lots(self, dealt: Mapping[str, int], now: float) -> dict[str, Lot]:
        """Of those that were dealt requests, the ones that share them by lot between their paths. Probes of single
        paths have a share of their own, which no number of receivers that hang can take."""
        left = self._paths_share - self._receivers.apart_in_flight
        lots: dict[str, Lot] = {}
        for name, room in dealt.items():
            if lot := self._receivers.lot(name, room, now, may_probe=left > 0):
                lots[name] = lot
                left -= lot.probes
        return lots

    def _deal_first(self, standing: Standing, share: int, open_to_all: int, now: float, dealt: dict[str, int]) -> int:
        """One request to each, as far as `share` goes; how many there were. Who has requests already gets no further
        one once `open_to_all` are given."""
        queue = self._queues[standing]
        given = 0
        for name in list(queue) if share > 0 else ():
            if self._receivers.standing(name, now) is not standing:
                del queue[name]
                self.add([name], now)
            elif given >= open_to_all and self._receivers.has_some(name):
                continue
            elif name not in dealt and self._receivers.room(name, now):
                dealt[name] = 1
                queue.move_to_end(name)
                given += 1
                if given == share:
                    break
        return given

    def _deal_more(self, free: int, now: float, dealt: dict[str, int]) -> None:
        """What is left over, in rounds to those with room for more: nobody's third before everybody's second."""
        rooms = {name: self._receivers.room(name, now) for name in dealt}
        while free > 0 and (open_to_more := [name for name, given in dealt.items() if rooms[name] > given]):
            for name in open_to_more[:free]:
                dealt[name] += 1
            free -= len(open_to_more[:free])

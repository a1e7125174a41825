"""How much one receiver may be sent at once, and when it is left alone, so that it cannot hold up the others."""

import random
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from compute.webhooks.paths import FailingPath, FailingPaths
from compute.webhooks.retry import CHANCE, Health
from compute.webhooks.store import Lot

__all__ = ["Breaker", "Exchange", "Receivers", "Standing"]

_REMEMBERED = 10_000
_FIRST = -1.0
_UNLIKELY = 0.5


class Standing(Enum):
    """What is known of a receiver."""

    PROVEN = auto()
    """It answers, and in time."""
    UNKNOWN = auto()
    """Nobody knows, or it has failed a few times."""
    PROBED = auto()
    """It was left alone, and the next request is to find out whether it is back."""
    LEFT_ALONE = auto()
    """It failed several times in a row and gets nothing for a while."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a receiver is left alone, and for how long: after `failures` in a row, or one that asks for it.

    The first pause is `first` seconds, each further one `factor` times as long, up to `longest`, ± `jitter` of itself.
    A receiver that asks for a longer one gets it, up to `longest`: one of many paths on a shared host might ask.
    """

    failures: int = 3
    first: float = 5.0
    factor: float = 2.0
    longest: float = 300.0
    jitter: float = 0.2

    def pause(self, openings: int, asked: float, chance: random.Random) -> float:
        """Seconds, for the `openings`-th time in a row."""
        planned = min(self.first * self.factor ** min(openings - 1, 64), self.longest)
        return max(planned * chance.uniform(1 - self.jitter, 1 + self.jitter), min(asked, self.longest))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request on its way, and what was known of its receiver, and of the path there, when it began."""

    receiver: str
    standing: Standing
    openings: int
    path: str = ""
    failing: FailingPath | None = None
    path_openings: int = 0

    @property
    def is_apart(self) -> bool:
        """Whether it is to find out about its path alone. A host that is probed itself learns by whatever is sent."""
        return self.path_openings > 0 and not self.openings


@dataclass(slots=True)
class _State:
    """`failed` are the paths of the failures in a row, `well` is the last path that worked, unless it failed since.
    `reached` is how far the deliveries that are due have been looked at by lot."""

    in_flight: int = 0
    apart_in_flight: int = 0
    earned: int = 1
    proven: bool = False
    failed: list[str] = field(default_factory=list)
    openings: int = 0
    shut_until: float = 0.0
    well: str | None = None
    well_at: float = 0.0
    reached: datetime | None = None

    @property
    def is_used(self) -> bool:
        """Whether a request is on its way."""
        return bool(self.in_flight or self.apart_in_flight)

    @property
    def is_news(self) -> bool:
        """Whether forgetting it would change anything."""
        return bool(self.is_used or self.proven or self.failed or self.openings)


class Receivers:
    """Room and breaker of each receiver (`host` or `host:port`). Times are the event loop's.

    A receiver earns its room: one request at a time at first, twice as many after every prompt success up to
    `most`, and back to one as soon as it is slow or unwell. Refusing a message changes nothing: many may share a host,
    and some of them be gone. One that stays unwell is left alone, then probed with one request; any answer of a server
    that does its work brings it back.

    A path that fails as often in a row, while another path of its host works, is set apart: it is left alone and probed
    by itself, and its failures count no more against the host. Of a path that has failed once there is one request at
    a time.
    """

    def __init__(self, most: int, breaker: Breaker | None = None, chance: random.Random = CHANCE) -> None:
        self._most = most
        self._breaker = breaker or Breaker()
        self._chance = chance
        self._states: OrderedDict[str, _State] = OrderedDict()
        self._paths = FailingPaths()
        self._in_flight: Counter[Standing] = Counter()
        self._apart_in_flight = 0

    def standing(self, receiver: str, now: float) -> Standing:
        """What is known of it at `now`."""
        state = self._states.get(receiver)
        if state is None:
            return Standing.UNKNOWN
        if state.openings:
            return Standing.PROBED if now >= state.shut_until else Standing.LEFT_ALONE
        return Standing.PROVEN if state.proven else Standing.UNKNOWN

    def room(self, receiver: str, now: float) -> int:
        """How many more requests it may get now."""
        state = self._states.get(receiver)
        if state is None:
            return 1
        if state.openings and now < state.shut_until:
            return 0
        return max((1 if state.openings else state.earned) - state.in_flight, 0)

    def lot(self, receiver: str, room: int, now: float, *, may_probe: bool) -> Lot | None:
        """How `room` is to be shared by its paths; None if by age alone. Unless it `may_probe`, or while another such
        probe is on its way, no path that is apart gets any."""
        self._paths.forget_old(receiver, now)
        failing = self._paths.of(receiver)
        if self.standing(receiver, now) is Standing.PROBED:
            # It is closed because of those that failed: the others are the likelier to be well.
            weights = {path.name: _UNLIKELY if path.is_ready(now) else None for path in failing}
            return Lot(room, weights, self._states[receiver].reached)
        if not failing:
            return None
        state = self._states[receiver]
        weights = {path.name: None if path.is_apart or path.in_flight else _UNLIKELY for path in failing}
        ready = [path for path in failing if path.is_apart and path.is_ready(now)]
        if ready and may_probe and not state.apart_in_flight:
            # In turns: who is asked may have nothing due.
            first = min(ready, key=lambda path: (path.asked_at, path.shut_until))
            first.asked_at = now
            weights[first.name] = _FIRST
        return Lot(room, weights, state.reached)

    def reached(self, receiver: str, at: datetime | None) -> None:
        """A lot has found less than there was room for, up to `at`; None: up to the end. The next one goes on there."""
        if state := self._states.get(receiver):
            state.reached = at

    def has_some(self, receiver: str) -> bool:
        """Whether a request is on its way to it."""
        state = self._states.get(receiver)
        return state is not None and state.in_flight > 0

    def in_flight(self, standing: Standing) -> int:
        """Requests on their way to receivers of which that was known when they began, without those to paths that are
        apart."""
        return self._in_flight[standing]

    @property
    def apart_in_flight(self) -> int:
        """Requests on their way to paths that are apart."""
        return self._apart_in_flight

    def started(self, receiver: str, now: float, path: str = "") -> Exchange:
        """Count a request that begins; give its exchange to `finished`. `path` is the URL without its query."""
        state = self._states.setdefault(receiver, _State())
        failing = self._paths.get(receiver, path)
        path_openings = failing.openings if failing else 0
        exchange = Exchange(receiver, self.standing(receiver, now), state.openings, path, failing, path_openings)
        self._count(state, exchange, 1)
        return exchange

    def finished(self, exchange: Exchange, health: Health | None, now: float, asked: float = 0.0) -> None:
        """A request ended. `health` is None if nothing was found out; `asked` is the pause that the answer asks for."""
        state = self._states[exchange.receiver]
        self._count(state, exchange, -1)
        if health is Health.UNWELL:
            self._fail(state, exchange, now, asked)
        elif health is not None:
            self._succeed(state, exchange, now, health)
        self._remember(exchange.receiver, state)

    def _count(self, state: _State, exchange: Exchange, change: int) -> None:
        if exchange.is_apart:
            state.apart_in_flight += change
            self._apart_in_flight += change
        else:
            state.in_flight += change
            self._in_flight[exchange.standing] += change
        if exchange.failing:
            exchange.failing.in_flight += change

    def _succeed(self, state: _State, exchange: Exchange, now: float, health: Health) -> None:
        state.failed.clear()
        state.openings = 0
        state.well, state.well_at = exchange.path, now
        if health is not Health.REFUSING:
            state.proven = health is Health.WELL
            state.earned = min(state.earned * 2, self._most) if state.proven else 1
        if path := self._paths.get(exchange.receiver, exchange.path):
            self._paths.forget(path)
        for path in self._paths.of(exchange.receiver):
            # Now it is known that the host was not to blame.
            if path.failures >= self._breaker.failures and not path.is_apart:
                self._set_apart(state, path, now, 0.0)

    def _fail(self, state: _State, exchange: Exchange, now: float, asked: float) -> None:
        path = self._paths.failed(exchange.receiver, exchange.path, now)
        if self._is_paths_own(state, exchange, path, now, asked):
            return
        state.proven = False
        state.earned = 1
        if exchange.openings != state.openings:
            # It began before the receiver was left alone: that it failed is no news.
            return
        if len(state.failed) < self._breaker.failures:
            state.failed.append(path.name)
        # A path that asks for a pause, and has got one for itself, has not asked for the others.
        asks = asked and not path.is_apart
        if state.openings or asks or len(state.failed) >= self._breaker.failures:
            state.openings += 1
            state.shut_until = now + self._breaker.pause(state.openings, asked, self._chance)

    def _is_paths_own(self, state: _State, exchange: Exchange, path: FailingPath, now: float, asked: float) -> bool:
        """Leave the path alone if that is due; whether its failure says nothing about the host."""
        if state.well == path.name:
            state.well = None
        often = path.failures >= self._breaker.failures
        if path.is_apart:
            if exchange.path_openings == path.openings:
                path.shut(now + self._breaker.pause(path.openings + 1, asked, self._chance))
        elif (often or asked) and state.well is not None and now - state.well_at <= self._breaker.longest:
            self._set_apart(state, path, now, asked)
        else:
            return False
        # A host of which every path asks for a pause is left alone by the usual count.
        return often and not exchange.openings

    def _set_apart(self, state: _State, path: FailingPath, now: float, asked: float) -> None:
        path.shut(now + self._breaker.pause(1, asked, self._chance))
        if path.failures >= self._breaker.failures:
            state.failed = [name for name in state.failed if name != path.name]

    def _remember(self, receiver: str, state: _State) -> None:
        if not state.is_news and not self._paths.of(receiver):
            del self._states[receiver]
            return
        self._states.move_to_end(receiver)
        while len(self._states) > _REMEMBERED:
            oldest = next((name for name, one in self._states.items() if not one.is_used), None)
            if oldest is None:
                return
            self._paths.forget_receiver(oldest)
            del self._states[oldest]

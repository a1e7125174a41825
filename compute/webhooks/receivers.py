"""Concurrency limit and circuit breaker of each receiver, so that a bad one cannot hold up the others."""

import random
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from compute.webhooks.paths import FailingPath, FailingPaths
from compute.webhooks.retry import CHANCE, ReceiverHealth
from compute.webhooks.store import Lottery

__all__ = ["Breaker", "Exchange", "ReceiverState", "Receivers"]

_REMEMBERED = 10_000
_FIRST = -1.0
_UNLIKELY = 0.5


class ReceiverState(Enum):
    """The state of a receiver, by its latest answers."""

    HEALTHY = auto()
    """It answers in time."""
    UNKNOWN = auto()
    """Nothing is known yet, or it has failed a few times."""
    HALF_OPEN = auto()
    """Its pause is over; the next request is a probe."""
    OPEN = auto()
    """It failed several times in a row and gets no request for a while."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Policy of the circuit breaker: it opens after `failures` in a row, or when a receiver asks for a pause.

    The first pause is `first` seconds, each further one `factor` times as long, up to `longest`, ± `jitter` of itself.
    A receiver that asks for a longer pause gets it, up to `longest`: the request may come from one of many paths on a
    shared host.
    """

    failures: int = 3
    first: float = 5.0
    factor: float = 2.0
    longest: float = 300.0
    jitter: float = 0.2

    def pause(self, openings: int, asked: float, chance: random.Random) -> float:
        """Return the length in seconds of the `openings`-th pause in a row."""
        planned = min(self.first * self.factor ** min(openings - 1, 64), self.longest)
        return max(planned * chance.uniform(1 - self.jitter, 1 + self.jitter), min(asked, self.longest))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request in flight, with the state of its receiver and of its path when it began."""

    receiver: str
    standing: ReceiverState
    openings: int
    path: str = ""
    failing: FailingPath | None = None
    path_openings: int = 0

    @property
    def is_isolated(self) -> bool:
        """Whether it probes its path alone. If the host's own breaker was open, any request probes the host."""
        return self.path_openings > 0 and not self.openings


@dataclass(slots=True)
class _Receiver:
    """Counters of one receiver.

    Attributes:
        failed: Paths of the failures in a row.
        working_path: The last path that worked, unless it has failed since.
        reached: The due time up to which lotteries have searched.
    """

    in_flight: int = 0
    isolated_in_flight: int = 0
    limit: int = 1
    healthy: bool = False
    failed: list[str] = field(default_factory=list)
    openings: int = 0
    open_until: float = 0.0
    working_path: str | None = None
    worked_at: float = 0.0
    reached: datetime | None = None

    @property
    def is_used(self) -> bool:
        """Whether a request is in flight."""
        return bool(self.in_flight or self.isolated_in_flight)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether it differs from the state of a new receiver."""
        return bool(self.is_used or self.healthy or self.failed or self.openings)


class Receivers:
    """Concurrency limit and breaker of each receiver (`host` or `host:port`). Times are the event loop's.

    The limit starts at one request in flight, doubles after every prompt success up to `most`, and drops back to one as
    soon as the receiver is slow or unwell. A refused message changes nothing: many receivers may share a host, and some
    of
    them may be gone. A receiver that stays unwell gets no requests for a while and then one as a probe; any answer from
    a working server closes the breaker.

    A path that fails as often in a row while another path of its host works is isolated: it gets a breaker of its own,
    and
    its failures no longer count against the host. A path that has failed once gets one request at a time.
    """

    def __init__(self, most: int, breaker: Breaker | None = None, chance: random.Random = CHANCE) -> None:
        self._most = most
        self._breaker = breaker or Breaker()
        self._chance = chance
        self._states: OrderedDict[str, _Receiver] = OrderedDict()
        self._paths = FailingPaths()
        self._in_flight: Counter[ReceiverState] = Counter()
        self._isolated_in_flight = 0

    def standing(self, receiver: str, now: float) -> ReceiverState:
        """Return the state of a receiver at `now`."""
        state = self._states.get(receiver)
        if state is None:
            return ReceiverState.UNKNOWN
        if state.openings:
            return ReceiverState.HALF_OPEN if now >= state.open_until else ReceiverState.OPEN
        return ReceiverState.HEALTHY if state.healthy else ReceiverState.UNKNOWN

    def capacity(self, receiver: str, now: float) -> int:
        """Return how many more requests a receiver may get now."""
        state = self._states.get(receiver)
        if state is None:
            return 1
        if state.openings and now < state.open_until:
            return 0
        return max((1 if state.openings else state.limit) - state.in_flight, 0)

    def lottery(self, receiver: str, quota: int, now: float, *, may_probe: bool) -> Lottery | None:
        """Return how `quota` requests are shared by the receiver's paths; None if by age alone.

        An isolated path takes part only if `may_probe` is true and no other such probe is in flight.
        """
        self._paths.expire(receiver, now)
        failing = self._paths.of(receiver)
        if self.standing(receiver, now) is ReceiverState.HALF_OPEN:
            # The failed paths opened the breaker, so the others are more likely to work.
            weights = {path.name: _UNLIKELY if path.is_ready(now) else None for path in failing}
            return Lottery(quota, weights, self._states[receiver].reached)
        if not failing:
            return None
        state = self._states[receiver]
        weights = {path.name: None if path.is_isolated or path.in_flight else _UNLIKELY for path in failing}
        ready = [path for path in failing if path.is_isolated and path.is_ready(now)]
        if ready and may_probe and not state.isolated_in_flight:
            # In turns, because nothing may be due to the path that is offered a probe.
            first = min(ready, key=lambda path: (path.asked_at, path.open_until))
            first.asked_at = now
            weights[first.name] = _FIRST
        return Lottery(quota, weights, state.reached)

    def reached(self, receiver: str, at: datetime | None) -> None:
        """Record the due time up to which a lottery has searched; None: it reached the end. The next one continues
        there."""
        if state := self._states.get(receiver):
            state.reached = at

    def is_busy(self, receiver: str) -> bool:
        """Return whether a request to the receiver is in flight."""
        state = self._states.get(receiver)
        return state is not None and state.in_flight > 0

    def in_flight(self, standing: ReceiverState) -> int:
        """Count requests in flight to receivers that had this state when the requests began, without those to isolated
        paths."""
        return self._in_flight[standing]

    @property
    def isolated_in_flight(self) -> int:
        """The number of requests in flight to isolated paths."""
        return self._isolated_in_flight

    def started(self, receiver: str, now: float, path: str = "") -> Exchange:
        """Count a request that begins and return its exchange, for `finished`. `path` is the URL without its query."""
        state = self._states.setdefault(receiver, _Receiver())
        failing = self._paths.get(receiver, path)
        path_openings = failing.openings if failing else 0
        exchange = Exchange(receiver, self.standing(receiver, now), state.openings, path, failing, path_openings)
        self._count(state, exchange, 1)
        return exchange

    def finished(self, exchange: Exchange, health: ReceiverHealth | None, now: float, asked: float = 0.0) -> None:
        """Record the end of a request. `health` is None if it was inconclusive; `asked` is the pause that the answer
        asks for."""
        state = self._states[exchange.receiver]
        self._count(state, exchange, -1)
        if health is ReceiverHealth.UNWELL:
            self._fail(state, exchange, now, asked)
        elif health is not None:
            self._succeed(state, exchange, now, health)
        self._remember(exchange.receiver, state)

    def _count(self, state: _Receiver, exchange: Exchange, change: int) -> None:
        if exchange.is_isolated:
            state.isolated_in_flight += change
            self._isolated_in_flight += change
        else:
            state.in_flight += change
            self._in_flight[exchange.standing] += change
        if exchange.failing:
            exchange.failing.in_flight += change

    def _succeed(self, state: _Receiver, exchange: Exchange, now: float, health: ReceiverHealth) -> None:
        state.failed.clear()
        state.openings = 0
        state.working_path, state.worked_at = exchange.path, now
        if health is not ReceiverHealth.REFUSING:
            state.healthy = health is ReceiverHealth.WELL
            state.limit = min(state.limit * 2, self._most) if state.healthy else 1
        if path := self._paths.get(exchange.receiver, exchange.path):
            self._paths.forget(path)
        for path in self._paths.of(exchange.receiver):
            # A success shows that the host was not to blame.
            if path.failures >= self._breaker.failures and not path.is_isolated:
                self._isolate(state, path, now, 0.0)

    def _fail(self, state: _Receiver, exchange: Exchange, now: float, asked: float) -> None:
        path = self._paths.failed(exchange.receiver, exchange.path, now)
        if self._is_path_failure(state, exchange, path, now, asked):
            return
        state.healthy = False
        state.limit = 1
        if exchange.openings != state.openings:
            # It began before the breaker opened, so its failure is already counted.
            return
        if len(state.failed) < self._breaker.failures:
            state.failed.append(path.name)
        # A path that has its own pause does not ask for one of the whole host.
        asks = asked and not path.is_isolated
        if state.openings or asks or len(state.failed) >= self._breaker.failures:
            state.openings += 1
            state.open_until = now + self._breaker.pause(state.openings, asked, self._chance)

    def _is_path_failure(
        self, state: _Receiver, exchange: Exchange, path: FailingPath, now: float, asked: float
    ) -> bool:
        """Open the path's own breaker if that is due; return whether its failure says nothing about the host."""
        if state.working_path == path.name:
            state.working_path = None
        often = path.failures >= self._breaker.failures
        if path.is_isolated:
            if exchange.path_openings == path.openings:
                path.open(now + self._breaker.pause(path.openings + 1, asked, self._chance))
        elif (often or asked) and state.working_path is not None and now - state.worked_at <= self._breaker.longest:
            self._isolate(state, path, now, asked)
        else:
            return False
        # A host whose paths all ask for a pause is paused by the usual count.
        return often and not exchange.openings

    def _isolate(self, state: _Receiver, path: FailingPath, now: float, asked: float) -> None:
        path.open(now + self._breaker.pause(1, asked, self._chance))
        if path.failures >= self._breaker.failures:
            state.failed = [name for name in state.failed if name != path.name]

    def _remember(self, receiver: str, state: _Receiver) -> None:
        if not state.is_worth_keeping and not self._paths.of(receiver):
            del self._states[receiver]
            return
        self._states.move_to_end(receiver)
        while len(self._states) > _REMEMBERED:
            oldest = next((name for name, one in self._states.items() if not one.is_used), None)
            if oldest is None:
                return
            self._paths.forget_receiver(oldest)
            del self._states[oldest]

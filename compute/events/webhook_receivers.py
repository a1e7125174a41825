"""How much one receiver may be sent at once, and when it is left alone, so that it cannot hold up the others."""

import random
from collections import Counter, OrderedDict
from dataclasses import dataclass
from enum import Enum, auto

from compute.events.webhook_retry import CHANCE, Health

__all__ = ["Breaker", "Exchange", "Receivers", "Standing"]

_REMEMBERED = 10_000


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
    """A request on its way, and what was known of its receiver when it began."""

    receiver: str
    standing: Standing
    openings: int


@dataclass(slots=True)
class _State:
    in_flight: int = 0
    earned: int = 1
    proven: bool = False
    failures: int = 0
    openings: int = 0
    shut_until: float = 0.0

    @property
    def is_news(self) -> bool:
        """Whether forgetting it would change anything."""
        return bool(self.in_flight or self.proven or self.failures or self.openings)


class Receivers:
    """Room and breaker of each receiver (`host` or `host:port`). Times are the event loop's.

    A receiver earns its room: one request at a time at first, twice as many after every prompt success up to
    `most`, and back to one as soon as it is slow or unwell. Refusing a message changes nothing: many may share a host,
    and some of them be gone. One that stays unwell is left alone, then probed with one request; any answer of a server
    that does its work brings it back.
    """

    def __init__(self, most: int, breaker: Breaker | None = None, chance: random.Random = CHANCE) -> None:
        self._most = most
        self._breaker = breaker or Breaker()
        self._chance = chance
        self._states: OrderedDict[str, _State] = OrderedDict()
        self._in_flight: Counter[Standing] = Counter()

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

    def has_some(self, receiver: str) -> bool:
        """Whether a request is on its way to it."""
        state = self._states.get(receiver)
        return state is not None and state.in_flight > 0

    def in_flight(self, standing: Standing) -> int:
        """Requests on their way to receivers of which that was known when they began."""
        return self._in_flight[standing]

    def started(self, receiver: str, now: float) -> Exchange:
        """Count a request that begins; give its exchange to `finished`."""
        standing = self.standing(receiver, now)
        state = self._states.setdefault(receiver, _State())
        state.in_flight += 1
        self._in_flight[standing] += 1
        return Exchange(receiver, standing, state.openings)

    def finished(self, exchange: Exchange, health: Health | None, now: float, asked: float = 0.0) -> None:
        """A request ended. `health` is None if nothing was found out; `asked` is the pause that the answer asks for."""
        state = self._states[exchange.receiver]
        state.in_flight -= 1
        self._in_flight[exchange.standing] -= 1
        if health is Health.UNWELL:
            self._fail(state, exchange, now, asked)
        elif health is not None:
            state.failures = state.openings = 0
            if health is not Health.REFUSING:
                state.proven = health is Health.WELL
                state.earned = min(state.earned * 2, self._most) if state.proven else 1
        self._remember(exchange.receiver, state)

    def _fail(self, state: _State, exchange: Exchange, now: float, asked: float) -> None:
        state.proven = False
        state.earned = 1
        if exchange.openings != state.openings:
            # It began before the receiver was left alone: that it failed is no news.
            return
        state.failures += 1
        if state.openings or asked or state.failures >= self._breaker.failures:
            state.openings += 1
            state.shut_until = now + self._breaker.pause(state.openings, asked, self._chance)

    def _remember(self, receiver: str, state: _State) -> None:
        if not state.is_news:
            del self._states[receiver]
            return
        self._states.move_to_end(receiver)
        while len(self._states) > _REMEMBERED:
            oldest = next((name for name, one in self._states.items() if not one.in_flight), None)
            if oldest is None:
                return
            del self._states[oldest]

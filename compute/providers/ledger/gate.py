"""Whether a call may leave now: limits of its account, and its circuit breaker. Pure: the ledger stores the state."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from compute.providers.calls.ledger import Pause

__all__ = [
    "AccountLimits",
    "AccountState",
    "Breaker",
    "BreakerPolicy",
    "Limits",
    "admit",
    "failed",
    "paused",
    "succeeded",
]

_FULL_SECONDS = 0.5
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """Most calls at a time, and most that begin within a minute; None for no limit."""

    concurrency: int | None = None
    per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits by vendor, for each of its accounts, over all replicas."""

    by_vendor: Mapping[str, AccountLimits] = field(default_factory=dict)

    def of(self, vendor: str) -> AccountLimits:
        return self.by_vendor.get(vendor, AccountLimits())


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """The breaker opens after `failures` in a row, first for `first` seconds, each time twice as long, up to `longest`.

    A probe that has told nothing for `probe` seconds is followed by another.
    """

    failures: int = 5
    first: float = 15.0
    longest: float = 300.0
    probe: float = 120.0

    def pause(self, openings: int) -> float:
        return float(min(self.first * 2.0 ** min(openings - 1, 32), self.longest))


class Breaker(StrEnum):
    """The state of an account's circuit breaker; half open, one call finds out how the vendor is."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True, slots=True)
class AccountState:
    """The row of `provider_accounts`, its times in seconds from now; what is past is 0."""

    failures: int = 0
    openings: int = 0
    open_for: float = 0.0
    probed_for: float = 0.0
    paused_for: float = 0.0
    in_flight: int = 0
    in_last_minute: int = 0
    oldest_in_minute: float = 0.0
    """How many seconds ago the earliest of those began."""

    def counted(self, **numbers: float) -> "AccountState":
        """The same with these numbers of calls."""
        return replace(self, **numbers)  # type: ignore[arg-type]

    @property
    def breaker(self) -> Breaker:
        """The state of its circuit breaker."""
        if not self.openings:
            return Breaker.CLOSED
        return Breaker.OPEN if self.open_for > 0 else Breaker.HALF_OPEN


def admit(state: AccountState, limits: AccountLimits, policy: BreakerPolicy) -> tuple[AccountState, Pause | None]:
    """The state after one more call has been let through, or why it is not."""
    if state.openings and state.open_for > 0:
        return state, Pause(state.open_for, "Its circuit breaker is open.", broken=True)
    if state.openings and state.probed_for > 0:
        return state, Pause(min(state.probed_for, _FULL_SECONDS), "One call finds out how it is.", broken=True)
    if state.paused_for > 0:
        return state, Pause(state.paused_for, "It has asked for a pause.", asked=True)
    if limits.concurrency is not None and state.in_flight >= limits.concurrency:
        return state, Pause(_FULL_SECONDS, f"It has {limits.concurrency} calls in flight.")
    if limits.per_minute is not None and state.in_last_minute >= limits.per_minute:
        left = max(_MINUTE - state.oldest_in_minute, 0.05)
        return state, Pause(left, f"It had {limits.per_minute} calls within a minute.")
    probed = policy.probe if state.openings else 0.0
    counted = replace(state, in_flight=state.in_flight + 1, in_last_minute=state.in_last_minute + 1, probed_for=probed)
    return counted, None


def failed(state: AccountState, policy: BreakerPolicy) -> AccountState:
    """After a failure that counts against the account's health."""
    failures = state.failures + 1
    if state.open_for > 0 or (failures < policy.failures and not state.openings):
        # A call that left before the breaker opened says nothing new.
        return replace(state, failures=failures)
    openings = state.openings + 1
    return replace(state, failures=failures, openings=openings, open_for=policy.pause(openings), probed_for=0.0)


def succeeded(state: AccountState) -> AccountState:
    """After a call that the vendor did, or refused for its content."""
    return replace(state, failures=0, openings=0, open_for=0.0, probed_for=0.0)


def paused(state: AccountState, seconds: float) -> AccountState:
    """After an answer that asks for a pause."""
    return replace(state, paused_for=max(state.paused_for, seconds), probed_for=0.0)

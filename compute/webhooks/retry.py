"""What follows from one attempt at a webhook: done, given up, or again and when."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

__all__ = [
    "CHANCE",
    "AttemptOutcome",
    "Backoff",
    "DeliveryStatus",
    "Health",
    "Limits",
    "Verdict",
    "decide",
    "parse_retry_after",
]

_GONE = 410
_TOO_MANY = 429
_BUSY = frozenset({_TOO_MANY, 503})
_PROMPT_MS = 2000
CHANCE = random.Random()  # noqa: S311 - nothing is guarded by it


class DeliveryStatus(StrEnum):
    """Where a delivery is in its life. The last two are final."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


class Health(StrEnum):
    """What one answer, or its absence, says about the receiver."""

    WELL = "WELL"
    """A success, and soon."""
    SLOW = "SLOW"
    """A success or a refusal that took its time: somebody is there, and more would be no help."""
    REFUSING = "REFUSING"
    """A refusal of this very message, and soon: somebody is there, and how well says nothing of other messages."""
    UNWELL = "UNWELL"
    """No answer, or one that says that the server cannot do its work now."""


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How one attempt ended. `status_code` is None when there was no answer; `retry_after` is in seconds.

    `error` is for operators and users alike: it holds no secret and no address. It is None after a 2xx.
    """

    started_at: datetime
    duration_ms: int
    status_code: int | None = None
    error: str | None = None
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def health(self) -> Health:
        """Any 4xx but 429 is about the message, and a redirect about its address: who answers so is alive."""
        if self.status_code is None or self.status_code >= 500 or self.status_code == _TOO_MANY:
            return Health.UNWELL
        if self.duration_ms > _PROMPT_MS:
            return Health.SLOW
        return Health.WELL if self.delivered else Health.REFUSING

    @property
    def pause_asked(self) -> float:
        """Seconds that a busy receiver wants to be left alone for; 0 if it did not say so."""
        return (self.retry_after or 0.0) if self.status_code in _BUSY else 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When a delivery is given up: after so many attempts, and at the latest `max_age` seconds after its making."""

    max_attempts: int = 10
    max_age: float = 36 * 3600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The delivery's new status; while it is PENDING, `delay` seconds pass before the next attempt."""

    status: DeliveryStatus
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts, in seconds: `first`, then each `factor` times the last, at most `longest`.

    As it stands: 5 s, 20 s, 80 s, 5 min, 21 min, 85 min, 5.7 h, 8 h, 8 h. So ten attempts take about 24 hours:
    a receiver that restarts misses a few seconds, and one that breaks at night is mended in time. Each pause is
    drawn from ± `jitter` of itself, so that what failed together does not come back together.
    """

    first: float = 5.0
    factor: float = 4.0
    longest: float = 8 * 3600.0
    jitter: float = 0.2

    def delay(self, attempts: int, asked: float = 0.0, chance: random.Random = CHANCE) -> float:
        """Seconds to wait after the `attempts`-th attempt failed.

        A receiver may ask for a longer pause than ours, up to `longest`; a shorter one would only use up the
        attempts before it is well again.
        """
        # The exponent is bounded because a float overflows long before an operator's patience with large numbers.
        planned = min(self.first * self.factor ** min(attempts - 1, 64), self.longest)
        planned *= chance.uniform(1 - self.jitter, 1 + self.jitter)
        return max(planned, min(asked, self.longest))


def decide(
    outcome: AttemptOutcome,
    attempts: int,
    limits: Limits,
    backoff: Backoff,
    *,
    age: float = 0.0,
    chance: random.Random = CHANCE,
) -> Verdict:
    """What becomes of a delivery, made `age` seconds ago, after its `attempts`-th attempt."""
    if outcome.delivered:
        return Verdict(DeliveryStatus.DELIVERED)
    if outcome.status_code == _GONE or attempts >= limits.max_attempts:
        return Verdict(DeliveryStatus.FAILED)
    delay = backoff.delay(attempts, outcome.pause_asked, chance)
    if age + delay > limits.max_age:
        return Verdict(DeliveryStatus.FAILED)
    return Verdict(DeliveryStatus.PENDING, delay)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """The seconds that a Retry-After header asks for (a number or an HTTP date), or None if it asks for nothing."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Longer numbers than this mean "never" to a human and infinity to a float.
        return float(value[:12])
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp(), 0.0)

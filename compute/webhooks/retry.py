"""Retry policy: decides after each attempt whether a webhook is done, given up, or sent again and when."""

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
    "Limits",
    "ReceiverHealth",
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
    """The status of a delivery. The last two are final."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


class ReceiverHealth(StrEnum):
    """The conclusion about the receiver from one answer, or from its absence."""

    WELL = "WELL"
    """A prompt success."""
    SLOW = "SLOW"
    """A slow success or refusal: the receiver works, but more requests at once would not help."""
    REFUSING = "REFUSING"
    """A prompt refusal of this message: the receiver works, but this tells nothing about other messages."""
    UNWELL = "UNWELL"
    """No answer, or one that says that the server cannot work now."""


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """The outcome of one attempt. `status_code` is None when there was no answer; `retry_after` is in seconds.

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
    def health(self) -> ReceiverHealth:
        """The conclusion about the receiver. A 4xx other than 429 concerns the message, a redirect its address: the
        server works."""
        if self.status_code is None or self.status_code >= 500 or self.status_code == _TOO_MANY:
            return ReceiverHealth.UNWELL
        if self.duration_ms > _PROMPT_MS:
            return ReceiverHealth.SLOW
        return ReceiverHealth.WELL if self.delivered else ReceiverHealth.REFUSING

    @property
    def pause_asked(self) -> float:
        """Seconds for which a busy receiver asks to get no requests; 0 if it does not ask."""
        return (self.retry_after or 0.0) if self.status_code in _BUSY else 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of retrying: the number of attempts, and the age in seconds (`max_age`) at which a delivery is given
    up."""

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

    The defaults give 5 s, 20 s, 80 s, 5 min, 21 min, 85 min, 5.7 h, 8 h, 8 h, so ten attempts take about 24 hours:
    a receiver that restarts misses a few seconds, and one that breaks at night can be fixed in time. Each pause varies
    at
    random by ± `jitter` of itself, so that deliveries that failed together do not come back together.
    """

    first: float = 5.0
    factor: float = 4.0
    longest: float = 8 * 3600.0
    jitter: float = 0.2

    def delay(self, attempts: int, asked: float = 0.0, chance: random.Random = CHANCE) -> float:
        """Return the seconds to wait after the `attempts`-th attempt failed.

        A receiver may ask for a longer pause, up to `longest`; a shorter one would only use up the attempts
        before it is well again.
        """
        # The exponent is bounded because a large one overflows a float.
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
    """Return the verdict on a delivery, made `age` seconds ago, after its `attempts`-th attempt.

    Example:
        verdict = decide(outcome, attempts=3, limits=Limits(), backoff=Backoff(), age=60.0)
        verdict.status, verdict.delay  # PENDING and about 80 s after a failure
    """
    if outcome.delivered:
        return Verdict(DeliveryStatus.DELIVERED)
    if outcome.status_code == _GONE or attempts >= limits.max_attempts:
        return Verdict(DeliveryStatus.FAILED)
    delay = backoff.delay(attempts, outcome.pause_asked, chance)
    if age + delay > limits.max_age:
        return Verdict(DeliveryStatus.FAILED)
    return Verdict(DeliveryStatus.PENDING, delay)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Parse a Retry-After header (a number or an HTTP date) to seconds; None if it is missing or invalid.

    Example:
        parse_retry_after("120", datetime.now(UTC))  # 120.0
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Longer numbers would become infinity as a float.
        return float(value[:12])
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp(), 0.0)

"""The interface between the sender and the store of deliveries: Postgres, or a model of it in tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from compute.webhooks.retry import AttemptOutcome, Verdict

__all__ = ["ClaimedDelivery", "DeliveryAttempt", "DeliveryStore", "DuePage", "Lottery", "LotteryResult", "Settled"]


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery leased until `leased_until`, which also tells this claim from any later one.

    `attempts` were made before this claim; `age` is in seconds, at the time of the claim; `traceparent` continues the
    trace of what it tells of.
    """

    id: UUID
    task_id: UUID
    url: str
    receiver: str
    payload: dict[str, Any]
    leased_until: datetime
    attempts: int = 0
    age: float = 0.0
    traceparent: str | None = None

    @property
    def path(self) -> str:
        """The URL without query and fragment, the unit that fails or works as a whole."""
        return self.url.partition("?")[0].partition("#")[0]


@dataclass(frozen=True, slots=True)
class Lottery:
    """A claim of `quota` deliveries of one receiver by a lottery between its paths.

    Each path gets a random number from 0 to 1, and the lowest win. A path in `weights` gets its weight added,
    and one delivery at most; a weight of None excludes it. `after` is the due time that the last lottery has reached.
    """

    quota: int
    weights: Mapping[str, float | None]
    after: datetime | None = None

    @property
    def probes(self) -> bool:
        """Whether one path goes before all others, as a probe."""
        return any(weight is not None and weight < 0 for weight in self.weights.values())


@dataclass(frozen=True, slots=True)
class LotteryResult:
    """Deliveries leased by lottery, and by receiver the due time reached; a receiver that is missing was searched to
    its end."""

    claimed: Sequence[ClaimedDelivery]
    reached: Mapping[str, datetime]


@dataclass(frozen=True, slots=True)
class DuePage:
    """Receivers with due deliveries, in order, and the start of the next page: None after the last one."""

    receivers: Sequence[str]
    after: str | None


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """An attempt that has ended, with the verdict on its delivery."""

    claimed: ClaimedDelivery
    outcome: AttemptOutcome
    verdict: Verdict

    def __str__(self) -> str:
        """A name for logs, without URL and payload."""
        return f"the attempt at webhook {self.claimed.id}"


class Settled(StrEnum):
    """The result of writing an attempt."""

    MOVED = "MOVED"
    """The attempt is logged, and the delivery has the verdict."""
    LATE = "LATE"
    """The attempt is logged, but its lease was lost, so the delivery has not changed."""
    GONE = "GONE"
    """The delivery no longer exists, so nothing was written."""
    LOCKED = "LOCKED"
    """The row is locked by another process, so nothing was written."""
    UNWRITTEN = "UNWRITTEN"
    """Nothing could be written in time. The sender concludes this; no store returns it."""


class DeliveryStore(Protocol):
    """Stores deliveries. Each call is one transaction, and none waits for a locked row.

    Every method raises DatabaseAway when the store cannot be reached; the change may have been made.
    """

    async def due(self, after: str | None, most: int) -> DuePage:
        """Return receivers with a due delivery, searching up to `most` receivers behind `after` (None: from the first
        one on)."""

    async def claim(self, quotas: Mapping[str, int], lease_seconds: float) -> Sequence[ClaimedDelivery]:
        """Lease up to `quotas[receiver]` due deliveries of each receiver, its oldest first."""

    async def claim_by_lottery(self, lotteries: Mapping[str, Lottery], lease_seconds: float) -> LotteryResult:
        """Lease due deliveries of each receiver by its lottery: the longest due of each path, one of each path before a
        second.

        The search of a receiver is bounded: its longest due, its latest due, and some that fell due after the time in
        its
        lottery. Continuing there each time gets past any number of excluded deliveries.
        """

    async def settle(self, attempts: Sequence[DeliveryAttempt]) -> Sequence[Settled]:
        """Log the attempts and apply their verdicts to the deliveries; return a result for each, in order.

        A success counts however late it is written. Any other verdict counts only while the lease does; after that the
        next
        holder of the lease decides. A delivery may occur once at most.
        """

    async def expire(self, max_age: float, most: int) -> int:
        """Give up to `most` deliveries up that are older than `max_age` seconds and not leased; return their number."""

    async def close(self) -> None:
        """Close the connections. The store must not be used afterwards."""

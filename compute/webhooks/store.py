"""What the sender asks of whoever keeps the deliveries: Postgres, or a model of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from compute.webhooks.retry import AttemptOutcome, Verdict

__all__ = ["Attempt", "ClaimedDelivery", "DeliveryStore", "Drawn", "Lot", "Page", "Settled"]


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that is ours until `leased_until`, which also tells our claim from any later one.

    `attempts` were made before this claim; `age` is in seconds, at the time of the claim.
    """

    id: UUID
    task_id: UUID
    url: str
    receiver: str
    payload: dict[str, Any]
    leased_until: datetime
    attempts: int = 0
    age: float = 0.0

    @property
    def path(self) -> str:
        """The URL without query and fragment: what fails or works as a whole."""
        return self.url.partition("?")[0].partition("#")[0]


@dataclass(frozen=True, slots=True)
class Lot:
    """What a receiver is to get by lot between its paths: `room` deliveries.

    Each path draws a number from 0 to 1, and the lowest win. To the number of a path in `weights` its weight is added,
    and it gets one delivery at most; None means that it gets none. `after` is how far the last look has reached.
    """

    room: int
    weights: Mapping[str, float | None]
    after: datetime | None = None

    @property
    def probes(self) -> bool:
        """Whether a path is to have its turn before all others."""
        return any(weight is not None and weight < 0 for weight in self.weights.values())


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was leased by lot, and how far the look at each receiver has reached: to its end where nothing is said."""

    claimed: Sequence[ClaimedDelivery]
    reached: Mapping[str, datetime]


@dataclass(frozen=True, slots=True)
class Page:
    """Receivers with something due, in order, and where the next page begins: None after the last one."""

    receivers: Sequence[str]
    after: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that has ended, and what is to become of its delivery."""

    claimed: ClaimedDelivery
    outcome: AttemptOutcome
    verdict: Verdict

    def __str__(self) -> str:
        """Without URL and payload: it stands in logs."""
        return f"the attempt at webhook {self.claimed.id}"


class Settled(StrEnum):
    """What came of writing an attempt."""

    MOVED = "MOVED"
    """It is logged, and the verdict is the row's."""
    LATE = "LATE"
    """It is logged, but the delivery was no longer ours to move."""
    GONE = "GONE"
    """There is no such delivery any more, so nothing was written."""
    LOCKED = "LOCKED"
    """Somebody keeps the row locked, so nothing was written."""
    UNWRITTEN = "UNWRITTEN"
    """Nothing could be written in time. No store answers so: it is what the sender concludes."""


class DeliveryStore(Protocol):
    """Each call is one transaction of its own. None of them waits for a row that somebody keeps locked.

    Every method raises DatabaseAway when the store cannot be reached; what was asked may have been done.
    """

    async def due(self, after: str | None, most: int) -> Page:
        """Receivers with a delivery that is due, looking at up to `most` receivers behind `after` (None: from the
        first one on)."""

    async def claim(self, rooms: Mapping[str, int], lease_seconds: float) -> Sequence[ClaimedDelivery]:
        """Lease up to `rooms[receiver]` due deliveries of each receiver, its oldest first."""

    async def claim_by_lot(self, lots: Mapping[str, Lot], lease_seconds: float) -> Drawn:
        """Lease due deliveries of each receiver as its lot says: of each path the longest due, and no path's second
        before every path's first.

        What is looked at of a receiver is bounded: its longest due, its latest due, and some that fell due after the
        moment that its lot names. Who goes on there each time gets past any number that are passed over.
        """

    async def settle(self, attempts: Sequence[Attempt]) -> Sequence[Settled]:
        """Log the attempts and move their deliveries on; what came of each, in their order.

        A success counts however late it is written. Any other verdict holds only while the claim does: whoever leased
        the delivery later decides about it. Of one delivery there is one attempt at most.
        """

    async def expire(self, max_age: float, most: int) -> int:
        """Give up to `most` deliveries up that are older than `max_age` seconds and not leased; how many there were."""

    async def close(self) -> None:
        """Close what is open. Nobody uses the store afterwards."""

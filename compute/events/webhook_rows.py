"""The outbox's rows as the sender sees them: claim some, write how their attempts ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Interval, Text, bindparam, column, func, text
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables import WebhookAttempt, WebhookDelivery
from compute.events.webhook_retry import Backoff, DeliveryStatus, Outcome, Verdict, decide

__all__ = ["Claimed", "claim", "settle"]

_WINDOW = 1000

# The receiver is the URL's authority, cut out without a regular expression because a dead receiver's whole backlog may
# have to be stepped over. One without room is left out before the window is cut, so its backlog hides nobody else's
# deliveries; within the window each receiver's first comes before anyone's second.
_CLAIM = """
WITH due AS (
    SELECT id, next_attempt_at, receiver
      FROM webhook_deliveries
     CROSS JOIN LATERAL (
        SELECT lower(split_part(split_part(split_part(url, '/', 3), '?', 1), '#', 1) COLLATE "C") AS receiver) AS named
     WHERE status = 'PENDING' AND next_attempt_at <= now() AND receiver <> ALL (:full)
     ORDER BY next_attempt_at
     LIMIT :window
), ranked AS (
    SELECT id, next_attempt_at, receiver,
           row_number() OVER (PARTITION BY receiver ORDER BY next_attempt_at, id) AS place
      FROM due
), chosen AS (
    SELECT webhook_deliveries.id, ranked.receiver
      FROM webhook_deliveries
      JOIN ranked ON ranked.id = webhook_deliveries.id
      LEFT JOIN unnest(:receivers, :rooms) AS known (receiver, room) ON known.receiver = ranked.receiver
     WHERE webhook_deliveries.status = 'PENDING' AND webhook_deliveries.next_attempt_at <= now()
       AND ranked.place <= coalesce(known.room, 1)
     ORDER BY ranked.place, ranked.next_attempt_at
     LIMIT :limit
       FOR UPDATE OF webhook_deliveries SKIP LOCKED
)
UPDATE webhook_deliveries SET next_attempt_at = now() + :lease
  FROM chosen WHERE webhook_deliveries.id = chosen.id
RETURNING webhook_deliveries.id, task_id, url, chosen.receiver, payload, next_attempt_at
"""
_CLAIM_STATEMENT = (
    text(_CLAIM)
    .bindparams(
        bindparam("full", type_=ARRAY(Text)),
        bindparam("receivers", type_=ARRAY(Text)),
        bindparam("rooms", type_=ARRAY(Integer)),
        bindparam("lease", type_=Interval),
        window=_WINDOW,
    )
    .columns(
        WebhookDelivery.id,
        WebhookDelivery.task_id,
        WebhookDelivery.url,
        column("receiver", Text),
        WebhookDelivery.payload,
        WebhookDelivery.next_attempt_at,
    )
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is ours until `leased_until`, which also tells our claim from any later one."""

    id: UUID
    task_id: UUID
    url: str
    receiver: str
    payload: dict[str, Any]
    leased_until: datetime


async def claim(session: AsyncSession, *, limit: int, rooms: Mapping[str, int], lease_seconds: float) -> list[Claimed]:
    """Lease up to `limit` due deliveries, at most `rooms[receiver]` (1 where not named) to each receiver."""
    rows = await session.execute(
        _CLAIM_STATEMENT,
        {
            "full": [receiver for receiver, room in rooms.items() if not room],
            "receivers": list(rooms),
            "rooms": list(rooms.values()),
            "lease": timedelta(seconds=lease_seconds),
            "limit": limit,
        },
    )
    return [Claimed(*row) for row in rows]


async def settle(
    session: AsyncSession, claimed: Claimed, outcome: Outcome, *, max_attempts: int, backoff: Backoff
) -> Verdict | None:
    """Log the attempt and move the delivery on; None if it is no longer ours to move, or no longer there."""
    delivery = await session.get(WebhookDelivery, claimed.id, with_for_update=True)
    if delivery is None:
        return None
    session.add(_logged(claimed, outcome))
    delivery.attempts += 1
    if delivery.status != DeliveryStatus.PENDING:
        return None
    verdict = decide(outcome, delivery.attempts, max_attempts, backoff)
    # Whoever leased it after us decides about it, but a success is a fact however late it is written.
    if delivery.next_attempt_at != claimed.leased_until and not outcome.delivered:
        return None
    delivery.status = verdict.status
    if outcome.delivered:
        delivery.delivered_at = func.now()
    elif verdict.status is DeliveryStatus.PENDING:
        delivery.next_attempt_at = func.now() + timedelta(seconds=verdict.delay)
    return verdict


def _logged(claimed: Claimed, outcome: Outcome) -> WebhookAttempt:
    return WebhookAttempt(
        delivery_id=claimed.id,
        attempted_at=outcome.started_at,
        status_code=outcome.status_code,
        error=outcome.error,
        duration_ms=outcome.duration_ms,
    )

"""Finds tasks whose lease ran out and puts them back. Recovery re-queues; it never executes."""

import logging
from datetime import timedelta

from sqlalchemy import delete, func

from compute.db.session import Database
from compute.db.tables import DispatcherBeat, IdempotencyKey, TenantTurn
from compute.dispatch.retry import Failure, RetryPolicy
from compute.schemas.enums import ErrorCategory
from compute.tasks import store

__all__ = ["forget_old", "reap"]

_log = logging.getLogger(__name__)
_BATCH = 100
_KEEP_IDEMPOTENCY_KEYS = timedelta(days=2)
_KEEP_TURNS = timedelta(days=7)
_KEEP_BEATS = timedelta(minutes=10)


async def reap(database: Database, policy: RetryPolicy) -> int:
    """Re-queue (or fail, when its retries are used up) every task with a dead lease; how many there were."""
    async with database.transaction() as session:
        tasks = await store.expired(session, _BATCH)
        for task in tasks:
            lost = Failure(ErrorCategory.INTERNAL, f"Its worker went silent ({task.lease_owner}).")
            lease = store.Lease(task.id, task.fence)
            delay = policy.delay(lost, task.retry_count)
            if delay is None:
                await store.fail(session, lease, lost.category, lost.message)
            else:
                await store.release(session, lease, delay_seconds=delay, error=(lost.category, lost.message))
            _log.warning("task %s: lease expired, %s", task.id, "failed" if delay is None else "re-queued")
    return len(tasks)


async def forget_old(database: Database) -> None:
    """Drop idempotency keys, tenants' turns and dispatcher beats that nobody will ask for again."""
    async with database.transaction() as session:
        await session.execute(
            delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - _KEEP_IDEMPOTENCY_KEYS)
        )
        await session.execute(delete(TenantTurn).where(TenantTurn.served_at < func.now() - _KEEP_TURNS))
        await session.execute(delete(DispatcherBeat).where(DispatcherBeat.seen_at < func.now() - _KEEP_BEATS))

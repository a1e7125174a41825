"""Finds tasks whose lease ran out and puts them back. Recovery re-queues; it never executes."""

import logging

from compute.db.session import Connection
from compute.dispatch.retry import Failure, RetryPolicy
from compute.schemas.enums import ErrorCategory
from compute.tasks.leases import Fail, Release, expired, fail_batch, release_batch

__all__ = ["reap"]

_log = logging.getLogger(__name__)
_BATCH = 100


async def reap(connection: Connection, policy: RetryPolicy) -> int:
    """Re-queue (or fail, when its retries are used up) every task with a dead lease; how many there were."""
    async with connection.transaction():
        dead = await expired(connection, _BATCH)
        fails, releases = [], []
        for lease, retry_count, max_retries, owner in dead:
            lost = Failure(ErrorCategory.INTERNAL, f"Its worker went silent ({owner}).")
            delay = policy.delay(lost, retry_count, max_retries)
            if delay is None:
                fails.append(Fail(lease, lost.category, lost.message))
            else:
                releases.append(Release(lease, delay_seconds=delay, error=(lost.category, lost.message)))
            _log.warning("task %s: lease expired, %s", lease.task_id, "failed" if delay is None else "re-queued")
        await fail_batch(connection, fails)
        await release_batch(connection, releases)
    return len(dead)

"""Finds tasks whose lease ran out and puts them back. Recovery re-queues; it never executes."""

import logging
from functools import partial

from compute.db.direct import DirectConnection
from compute.db.session import Connection
from compute.dispatch.retry import Failure, RetryPolicy
from compute.schemas.enums import ErrorCategory
from compute.tasks.leases import Fail, Release, expired, fail_batch, release_batch

__all__ = ["reap"]

_log = logging.getLogger(__name__)
_BATCH = 500


async def reap(connection: DirectConnection, policy: RetryPolicy) -> int:
    """Re-queue (or fail, when its retries are used up) every task with a dead lease, but for those that somebody keeps
    locked; how many there were. A batch at a time, each in a transaction of its own.

    Raises:
        DatabaseAway: the rest stays as it is.
    """
    freed = 0
    while True:
        some = await connection.run(partial(_reap_some, policy))
        freed += some
        if some < _BATCH:
            return freed


async def _reap_some(policy: RetryPolicy, connection: Connection) -> int:
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

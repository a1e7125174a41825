"""Finds tasks whose lease ran out and puts them back. Recovery re-queues; it never executes."""

import logging
from functools import partial

from compute.db.direct import DirectConnection
from compute.db.session import Connection
from compute.dispatch.retry import End, Failure, RetryPolicy
from compute.schemas.enums import ErrorCategory
from compute.tasks.leases import (
    Expired,
    Fail,
    FallBack,
    Release,
    expired,
    fail_batch,
    fall_back_batch,
    release_batch,
)
from compute.telemetry.ids import bound
from compute.telemetry.instruments import EXPIRED_LEASES

__all__ = ["reap"]

_log = logging.getLogger(__name__)
_BATCH = 500


async def reap(connection: DirectConnection, policy: RetryPolicy) -> int:
    """Put back every task with a dead lease, or fail it when its retries are used up; how many there were.

    Only what had begun is charged a retry. Those that somebody keeps locked stay for the next time. A batch at a time,
    each in a transaction of its own.

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
        ends = [_end(attempt, policy) for attempt in dead]
        await fail_batch(connection, [end for end in ends if isinstance(end, Fail)])
        await fall_back_batch(connection, [end for end in ends if isinstance(end, FallBack)])
        await release_batch(connection, [end for end in ends if isinstance(end, Release)])
    for attempt, end in zip(dead, ends, strict=True):
        _tell(attempt, end)
    return len(dead)


def _end(attempt: Expired, policy: RetryPolicy) -> End:
    gone = Failure(ErrorCategory.INTERNAL, f"Its Dispatcher ({attempt.owner}) died or was cut off.")
    return policy.failed(attempt, gone) if attempt.begun else policy.lost(attempt, gone)


def _tell(attempt: Expired, end: End) -> None:
    """Count and log what was committed: a transaction that is rolled back is tried again."""
    outcome = "failed" if isinstance(end, Fail) else "re-queued"
    EXPIRED_LEASES.inc(outcome.replace("-", ""))
    with bound(task_id=attempt.lease.task_id):
        _log.warning("task %s: lease expired, %s", attempt.lease.task_id, outcome)

"""Writes what runs report: a group commit of starts, heartbeats and ends, in the order of each lease.

Nothing is acknowledged before its commit. The fence makes a repeated or late write harmless, so a database that is
away is waited for. A task whose row somebody keeps locked holds up its own writes alone; where a whole table is locked,
or statements are too slow, leases are renewed between any two tries of what has to wait.
"""

import asyncio
from functools import partial

from compute.db.group_commit import GroupCommit
from compute.dispatch.store import DispatchStore
from compute.tasks.leases import Beat, Say, Write

__all__ = ["LeaseWriter"]

_MOST_AT_ONCE = 1000


class LeaseWriter:
    """The one who writes for all runs of a Dispatcher, so that no two of its writes wait for each other's rows."""

    def __init__(self, store: DispatchStore, *, lease_seconds: float, patience_seconds: float = 120.0) -> None:
        self._writes: GroupCommit[Write, bool] = GroupCommit(
            partial(store.write, lease_seconds=lease_seconds),
            lambda write: write.lease,
            given_up=False,
            most=_MOST_AT_ONCE,
            patience_seconds=patience_seconds,
            # A lease that cannot be renewed just now is not lost. It may be renewed while an end of it has to wait.
            meanwhile=lambda write: True if isinstance(write, Beat | Say) else None,
        )

    def put(self, write: Write) -> asyncio.Future[bool]:
        """Write soon, even if nobody waits for it. The future tells, after the commit, whether the lease still held;
        of a `Beat` that has to wait it tells at once that it does as far as is known.

        False as well when it could not be written for `patience_seconds`, or `run` has ended: the reaper decides then.
        The future has an exception when the database refuses this very write.
        """
        return self._writes.put(write)

    async def run(self) -> None:
        """Write until `close` was called and nothing is left."""
        await self._writes.run()

    def close(self) -> None:
        """Let `run` end once everything is written."""
        self._writes.close()

"""What runs report, written together: a group commit of starts, heartbeats and ends.

A write goes out at once when the writer is idle; what arrives meanwhile goes out together, in one transaction, next.
Nothing is acknowledged before its commit. The fence makes a repeated or late write harmless, so a database that is
away is waited for. One write that the database refuses, or whose row somebody keeps locked, is found by writing its
batch one by one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from compute.db.away import DatabaseAway, RowLocked
from compute.dispatch.store import DispatchStore
from compute.tasks.leases import Write

__all__ = ["LeaseWriter"]

_log = logging.getLogger(__name__)
_MOST_AT_ONCE = 1000
_RETRY_SECONDS = 0.5


class _Entry(NamedTuple):
    write: Write
    held: asyncio.Future[bool]
    give_up_at: float

    def resolve(self, held: bool) -> None:
        if not self.held.done():
            self.held.set_result(held)

    def refuse(self, error: Exception) -> None:
        if not self.held.done():
            self.held.set_exception(error)


class LeaseWriter:
    """The one who writes for all runs of a Dispatcher, so that no two of its writes wait for each other's rows."""

    def __init__(self, store: DispatchStore, *, lease_seconds: float, patience_seconds: float = 120.0) -> None:
        self._store = store
        self._lease_seconds = lease_seconds
        self._patience_seconds = patience_seconds
        self._entries: deque[_Entry] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._ended = False

    def put(self, write: Write) -> asyncio.Future[bool]:
        """Write soon, even if nobody waits for it. The future tells, after the commit, whether the lease still held.

        False as well when the database was away for longer than `patience_seconds`, or `run` has ended: the reaper
        decides then. The future has an exception when the database refuses this very write.
        """
        loop = asyncio.get_running_loop()
        entry = _Entry(write, loop.create_future(), loop.time() + self._patience_seconds)
        if self._ended:
            entry.resolve(False)
        self._entries.append(entry)
        self._wake.set()
        return entry.held

    async def run(self) -> None:
        """Write until `close` was called and nothing is left."""
        try:
            while self._entries or not self._closing:
                if not self._entries:
                    self._wake.clear()
                    await self._wake.wait()
                # Whoever is about to report in this turn of the loop travels with the batch.
                await asyncio.sleep(0)
                await self._flush([self._entries.popleft() for _ in range(min(len(self._entries), _MOST_AT_ONCE))])
        finally:
            self._ended = True
            for entry in self._entries:
                entry.resolve(False)

    def close(self) -> None:
        """Let `run` end once everything is written."""
        self._closing = True
        self._wake.set()

    async def _flush(self, batch: Sequence[_Entry]) -> None:
        again = False
        while batch:
            try:
                held = await self._store.write(
                    [entry.write for entry in batch], lease_seconds=self._lease_seconds, again=again
                )
            except RowLocked:
                if len(batch) == 1:
                    # In front of what was put later: that may be this task's end.
                    self._entries.extendleft(_patient(batch))
                    return
                await self._one_by_one(batch)
                return
            except DatabaseAway as error:
                _log.warning("%d writes wait, the database is out of reach: %s", len(batch), error)
                batch = _patient(batch)
                again = True
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception as error:
                if len(batch) == 1:
                    batch[0].refuse(error)
                    return
                await self._one_by_one(batch)
                return
            else:
                for entry, holds in zip(batch, held, strict=True):
                    entry.resolve(holds)
                return

    async def _one_by_one(self, batch: Sequence[_Entry]) -> None:
        for entry in batch:
            await self._flush([entry])


def _patient(batch: Sequence[_Entry]) -> list[_Entry]:
    now = asyncio.get_running_loop().time()
    for entry in batch:
        if entry.give_up_at <= now:
            _log.error("task %s: %s could not be written; the reaper decides", entry.write.lease.task_id, entry.write)
            entry.resolve(False)
    return [entry for entry in batch if entry.give_up_at > now]

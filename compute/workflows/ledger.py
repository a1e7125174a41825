"""Checkpoints of many steps, written together: a group commit like the Dispatcher's.

A write goes out at once when the ledger is idle; what arrives meanwhile goes out together, in one transaction, next.
Whether a write took effect may stay unknown when its connection breaks; then it is made again, and what it finds
tells: a step can enter each state only once while the fence stands.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from compute.db.away import DatabaseAway
from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database
from compute.db.tables import Task
from compute.schemas.enums import StepStatus, WorkflowStatus
from compute.tasks.submission_rows import insert_tasks
from compute.workflows import rows
from compute.workflows.rows import Begin, End, Finish, Hold, Standing, Write

__all__ = ["Ledger", "Lost", "Paused"]

_log = logging.getLogger(__name__)
_MOST_AT_ONCE = 500
_RETRY_SECONDS = 0.5


class Lost(Exception):
    """The workflow is somebody else's by now; nothing was written."""


class Paused(Exception):
    """Nothing new begins in a workflow that is paused; nothing was written."""


@dataclass(slots=True, eq=False)
class _Entry:
    write: Write
    tasks: Sequence[Task]
    done: asyncio.Future[Any]


class Ledger:
    """The one who writes for all steps of a runner. `run` must be running."""

    def __init__(self, database: Database) -> None:
        self._connection = DirectConnection(database)
        self._entries: deque[_Entry] = deque()
        self._wake = asyncio.Event()

    async def begin(self, write: Begin, tasks: Sequence[Task]) -> list[str]:
        """Store a step's new tasks and make it RUNNING, together. Returns the ids of the tasks that it has now, which
        are another runner's if that one was faster.

        Raises:
            Paused, Lost: it must not begin.
        """
        task_ids: list[str] = await self._put(write, tasks)
        return task_ids

    async def end(self, write: End) -> None:
        """Write a step's end.

        Raises:
            Lost: it is no longer ours to say.
        """
        await self._put(write)

    async def hold(self, write: Hold) -> None:
        """Note that a step waits for approval."""
        await self._put(write)

    async def finish(self, write: Finish) -> None:
        """Write a workflow's end, or that it has nothing to do for now; without effect if it is somebody else's."""
        await self._put(write)

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                if not self._entries:
                    self._wake.clear()
                    await self._wake.wait()
                # Whoever is about to report in this turn of the loop travels with the batch.
                await asyncio.sleep(0)
                await self._flush([self._entries.popleft() for _ in range(min(len(self._entries), _MOST_AT_ONCE))])
        finally:
            await self._connection.close()

    async def _put(self, write: Write, tasks: Sequence[Task] = ()) -> Any:
        entry = _Entry(write, tasks, asyncio.get_running_loop().create_future())
        self._entries.append(entry)
        self._wake.set()
        return await entry.done

    async def _flush(self, batch: Sequence[_Entry]) -> None:
        batch = [entry for entry in batch if not entry.done.done()]
        while batch:
            try:
                await self._connection.run(lambda connection: _write_all(connection, batch))
            except DatabaseAway as error:
                _log.warning("%d checkpoints wait, the database is out of reach: %s", len(batch), error)
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception as error:
                if len(batch) == 1:
                    _refuse(batch[0], error)
                else:
                    for entry in batch:
                        await self._flush([entry])
                return
            else:
                return


async def _write_all(connection: Connection, batch: Sequence[_Entry]) -> None:
    """Ends first, beginnings after them, in one transaction; then everyone is told."""
    begins = [entry for entry in batch if isinstance(entry.write, Begin)]
    async with connection.transaction():
        await rows.lock(connection, {entry.write.holder.workflow_id for entry in batch})
        ended = await rows.end_steps(connection, [e.write for e in batch if isinstance(e.write, End)])
        begun = await rows.begin_steps(connection, [e.write for e in begins if isinstance(e.write, Begin)])
        new = [task for entry in begins if _step(entry) in begun for task in entry.tasks]
        await insert_tasks(connection, list(enumerate(new)))
        await rows.hold_steps(connection, [e.write for e in batch if isinstance(e.write, Hold)])
        await rows.finish(connection, [e.write for e in batch if isinstance(e.write, Finish)])
        unmoved = [_step(entry) for entry in batch if isinstance(entry.write, Begin | End)]
        found = await rows.standing(connection, [step for step in unmoved if step not in ended | begun])
    for entry in batch:
        _tell(entry, ended | begun, found)


def _tell(entry: _Entry, moved: set[UUID], found: dict[UUID, Standing]) -> None:
    if entry.done.done():
        return
    write = entry.write
    if not isinstance(write, Begin | End):
        entry.done.set_result(None)
    elif write.step in moved:
        entry.done.set_result(list(write.task_ids) if isinstance(write, Begin) else None)
    elif (now := found.get(write.step)) is None or now.fence != write.holder.fence:
        _refuse(entry, Lost())
    elif isinstance(write, End):
        # Written by an attempt whose connection broke after its commit, or not ours to write.
        entry.done.set_result(None) if now.status == write.status else _refuse(entry, Lost())
    elif now.status is StepStatus.RUNNING:
        entry.done.set_result(now.task_ids)
    else:
        _refuse(entry, Paused() if now.workflow_status is WorkflowStatus.PAUSED else Lost())


def _step(entry: _Entry) -> UUID:
    assert isinstance(entry.write, Begin | End)  # noqa: S101 - the caller has sorted them
    return entry.write.step


def _refuse(entry: _Entry, error: Exception) -> None:
    if not entry.done.done():
        entry.done.set_exception(error)

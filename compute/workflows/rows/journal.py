"""Stores the journal of workflows: checkpoints of steps and workflows, a batch in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import NamedTuple, Protocol
from uuid import UUID

from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database
from compute.db.tables import Task
from compute.schemas.enums import StepStatus, WorkflowStatus
from compute.tasks.submission.rows import insert_tasks
from compute.workflows.rows import statements as rows
from compute.workflows.rows.statements import Begin, End, Finish, Hold, JournalWrite, Standing

__all__ = ["Checkpoint", "JournalStore", "JournalVerdict", "PostgresJournalStore", "Refused", "Written"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A write, and for a `Begin` the step's new tasks, which are stored together with it."""

    write: JournalWrite
    tasks: Sequence[Task] = ()

    @property
    def workflow_id(self) -> UUID:
        return self.write.lease.workflow_id


class Written(NamedTuple):
    """It is in the rows. `task_ids` are those that a step which has begun has now."""

    task_ids: list[str]


class Refused(Enum):
    """Nothing was written."""

    LOST = "the workflow is somebody else's by now"
    PAUSED = "nothing new begins in a workflow that is paused"


JournalVerdict = Written | Refused


class JournalStore(Protocol):
    """One caller at a time."""

    async def write(self, checkpoints: Sequence[Checkpoint]) -> Sequence[JournalVerdict | None]:
        """Write a batch in one transaction; a verdict for each. None: somebody else has its workflow locked, or
        one of the steps, and nothing of that workflow was written.

        A checkpoint that was written before, by an attempt whose answer was lost, counts as written.

        Raises:
            DatabaseAway: whether the batch was written is not known.
            Exception: the database refuses one of the checkpoints; nothing was written.
        """
        ...

    async def close(self) -> None:
        """Give the connection back; a later call makes another one."""
        ...


class PostgresJournalStore:
    """Implements `JournalStore` over a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._connection = DirectConnection(database)

    async def write(self, checkpoints: Sequence[Checkpoint]) -> list[JournalVerdict | None]:
        return await self._connection.run(partial(_write, checkpoints))

    async def close(self) -> None:
        await self._connection.close()


async def _write(checkpoints: Sequence[Checkpoint], connection: Connection) -> list[JournalVerdict | None]:
    """Ends first, beginnings after them."""
    async with connection.transaction():
        locked = await rows.lock(connection, {checkpoint.workflow_id for checkpoint in checkpoints})
        free = [checkpoint for checkpoint in checkpoints if checkpoint.workflow_id not in locked]
        locked |= await rows.lock_steps(
            connection, {one.write.step for one in free if isinstance(one.write, Begin | End | Hold)}
        )
        free = [checkpoint for checkpoint in free if checkpoint.workflow_id not in locked]
        writes = [checkpoint.write for checkpoint in free]
        ended = await rows.end_steps(connection, [write for write in writes if isinstance(write, End)])
        begun = await rows.begin_steps(connection, [write for write in writes if isinstance(write, Begin)])
        # By identity: a runner that has lost the workflow may write of the same step in the same batch.
        moved = {id(write) for write in (*ended, *begun)}
        new = [task for checkpoint in free if id(checkpoint.write) in moved for task in checkpoint.tasks]
        await insert_tasks(connection, list(enumerate(new)))
        await rows.hold_steps(connection, [write for write in writes if isinstance(write, Hold)])
        await rows.finish(connection, [write for write in writes if isinstance(write, Finish)])
        unmoved = [write for write in writes if isinstance(write, Begin | End) and id(write) not in moved]
        found = await rows.standing(connection, [write.step for write in unmoved])
    return [None if one.workflow_id in locked else _verdict(one.write, moved, found) for one in checkpoints]


def _verdict(write: JournalWrite, moved: set[int], found: dict[UUID, Standing]) -> JournalVerdict:
    """The verdict on a write. A step can enter each state only once while the fence stands, so where it is tells."""
    if not isinstance(write, Begin | End):
        return Written([])
    if id(write) in moved:
        return Written(list(write.task_ids or ()))
    now = found.get(write.step)
    if now is None or now.fence != write.lease.fence:
        return Refused.LOST
    if isinstance(write, End):
        # Written by an attempt whose connection broke after its commit, or not ours to write.
        return Written([]) if now.status == write.status else Refused.LOST
    if now.status is StepStatus.RUNNING:
        return Written(now.task_ids)
    return Refused.PAUSED if now.workflow_status is WorkflowStatus.PAUSED else Refused.LOST

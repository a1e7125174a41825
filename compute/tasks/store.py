"""A task's row as the API ends it: cancel, end. Workflows cancel many at once. One that waits for news is woken.

Each function is one or two statements in the caller's transaction, guarded by the transition table, and writes the
event row beside the change. Tasks come in by `compute.tasks.submission.writer`; the Dispatcher writes by
`compute.tasks.leases`.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.keys import get_row
from compute.db.tables import Task
from compute.errors import Conflict
from compute.events.outbox.tasks import record
from compute.schemas.enums import ErrorCategory, EventType, TaskStatus
from compute.tasks.states import sources

__all__ = ["cancel", "cancel_all", "end", "wake"]


async def cancel(session: AsyncSession, task_id: UUID) -> Task:
    """End a task as CANCELLED at once. The fence moves, so whatever its worker still reports is dropped.

    Raises:
        NotFound: there is no such task.
        Conflict: it has already ended.
    """
    return await end(session, task_id, TaskStatus.CANCELLED, error_category=ErrorCategory.CANCELLED, errors=Task.errors)


async def cancel_all(session: AsyncSession, task_ids: Sequence[UUID]) -> list[UUID]:
    """End those of the tasks as CANCELLED that have not ended yet; which they were."""
    open_ones = Task.status.in_(sources(TaskStatus.CANCELLED))
    # An update locks rows as it comes across them; everybody locks them in the order of their ids.
    locked = await session.scalars(
        select(Task.id)
        .where(Task.id == any_(literal(list(task_ids), ARRAY(Uuid))), open_ones)
        .order_by(Task.id)
        .with_for_update()
    )
    tasks = await session.scalars(
        update(Task)
        .where(Task.id == any_(literal(list(locked), ARRAY(Uuid))), open_ones)
        .values(
            status=TaskStatus.CANCELLED,
            fence=Task.fence + 1,
            updated_at=func.clock_timestamp(),
            error_category=ErrorCategory.CANCELLED,
            **_ended(),
        )
        .returning(Task),
        execution_options={"populate_existing": True, "synchronize_session": False},
    )
    ended = list(tasks)
    await record(session, ended, EventType.TASK_STATUS)
    return [task.id for task in ended]


async def end(session: AsyncSession, task_id: UUID, status: TaskStatus, **values: Any) -> Task:
    """End a task from outside, without its worker's lease: cancel, or a client's own verdict.

    Raises:
        NotFound: there is no such task.
        Conflict: the transition table forbids it.
    """
    task: Task | None = await session.scalar(
        update(Task)
        .where(Task.id == task_id, Task.status.in_(sources(status)))
        .values(status=status, fence=Task.fence + 1, updated_at=func.clock_timestamp(), **(_ended() | values))
        .returning(Task),
        execution_options={"populate_existing": True, "synchronize_session": False},
    )
    if task is None:
        present = await get_row(session, Task, task_id)
        raise Conflict(f"Task {task_id} is {present.status} and cannot become {status}.")
    await record(session, [task], EventType.TASK_STATUS)
    return task


async def wake(session: AsyncSession, task: Task) -> str | None:
    """Let a task run now whose row is locked here, if it waits until later. Returns the queue to notify; None if it
    does not wait."""
    if task.status != TaskStatus.PENDING:
        return None
    await session.execute(update(Task).where(Task.id == task.id).values(run_after=func.clock_timestamp()))
    return task.queue


def _ended() -> dict[str, Any]:
    return {"completed_at": func.clock_timestamp(), "lease_owner": None, "lease_expires_at": None}

"""Removes a task that has ended: its files alone (clean-up), or its row as well (delete)."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import delete

from compute.api.idempotency.keys import Answer, IdempotentRequest
from compute.api.needs import require_unneeded_tasks
from compute.api.resources import Resources
from compute.db.keys import get_row, lock_row
from compute.db.tables import Task
from compute.errors import Conflict, NotFound
from compute.schemas.enums import TaskStatus
from compute.tasks.registry import kind_of
from compute.tasks.states import TERMINAL

__all__ = ["clean_up_task", "delete_task"]


async def clean_up_task(
    resources: Resources, task_id: UUID, idempotent: IdempotentRequest, shown: Callable[[Task, int], BaseModel]
) -> Answer:
    """Remove a task's files and mark it deleted; the row stays. Doing it again changes nothing.

    Raises:
        ReplayError: its key was answered before.
        NotFound: there is no such task.
        Conflict: it has not ended yet, or what has not ended needs its files.
        StorageFailed: its files could not be removed; the task is as before.
    """
    removed = await _remove_files(resources, task_id)
    async with idempotent.once(resources.database) as session:
        task = await lock_row(session, Task, task_id)
        task.deleted_at = task.deleted_at or datetime.now(UTC)
        answer = Answer(200, shown(task, removed).model_dump_json())
        await idempotent.remember(session, answer)
    return answer


async def delete_task(resources: Resources, task_id: UUID) -> Task:
    """Remove a task and its files for good.

    Raises:
        NotFound: there is no such task.
        Conflict: it has not ended yet, or what has not ended needs its files.
        StorageFailed: its files could not be removed; the task is as before.
    """
    await _remove_files(resources, task_id)
    async with resources.database.transaction() as session:
        task: Task | None = await session.scalar(delete(Task).where(Task.id == task_id).returning(Task))
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    task.deleted_at = datetime.now(UTC)
    return task


async def _remove_files(resources: Resources, task_id: UUID) -> int:
    async with resources.database.transaction() as session:
        task = await get_row(session, Task, task_id)
    if TaskStatus(task.status) not in TERMINAL:
        raise Conflict(f"Task {task_id} is {task.status}; cancel it first.")
    async with resources.database.transaction() as session:
        await require_unneeded_tasks(session, [task])
    return await resources.objects.delete_prefix(f"{kind_of(task.task_type).folder}/{task_id}/")

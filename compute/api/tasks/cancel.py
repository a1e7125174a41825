"""Cancels a task."""

from uuid import UUID

from compute.api.resources import Resources
from compute.db.tables import Task
from compute.events import notify
from compute.tasks import store

__all__ = ["cancel_task"]


async def cancel_task(resources: Resources, task_id: UUID) -> Task:
    """End a task as CANCELLED; its worker stops at its next step.

    Raises:
        NotFound: there is no such task.
        Conflict: it has already ended.
    """
    async with resources.database.transaction() as session:
        task = await store.cancel(session, task_id)
    resources.notifier.notify(notify.CANCELLED, str(task.id))
    return task

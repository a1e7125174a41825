"""Marks a workflow as deleted, and removes the files of its tasks."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.idempotency.keys import Answer, IdempotentRequest
from compute.api.needs import require_unneeded_tasks
from compute.api.resources import Resources
from compute.db.keys import lock_row, one_of
from compute.db.tables import Task, Workflow
from compute.errors import Conflict, StorageFailed
from compute.schemas.enums import WorkflowStatus
from compute.schemas.workflows import (
    WorkflowCleanupDetail,
    WorkflowCleanupError,
)
from compute.tasks.registry import kind_of
from compute.workflows.states import OPEN_WORKFLOWS

__all__ = ["clean_up_workflow"]

_LISTED = 1000


async def clean_up_workflow(
    resources: Resources,
    workflow_id: UUID,
    idempotent: IdempotentRequest,
    shown: Callable[[AsyncSession, Workflow, WorkflowCleanupDetail], Awaitable[BaseModel]],
    *,
    tasks: bool,
) -> Answer:
    """Mark a workflow as deleted; with `tasks` remove the files of its tasks and mark those as well. What cannot be
    removed is reported; doing it again tries again. `shown` is the answer.

    Raises:
        ReplayError: its key was answered before.
        NotFound: there is no such workflow.
        Conflict: it runs, or is paused, or another one that has not ended needs its files.
    """
    async with resources.database.transaction() as session:
        workflow = await lock_row(session, Workflow, workflow_id)
        if WorkflowStatus(workflow.status) in OPEN_WORKFLOWS:
            raise Conflict(f"Workflow {workflow_id} is {workflow.status}; cancel it first.")
        own = select(Task).where(Task.workflow_id == str(workflow_id), Task.step_id.is_not(None))
        rows = list(await session.scalars(own.order_by(Task.created_at))) if tasks else []
        # It is PENDING, or has ended: not one of those that need them.
        made = [task for task in rows if task.deleted_at is None]
        await require_unneeded_tasks(session, made if workflow.status != WorkflowStatus.PENDING else [])
        workflow.deleted_at = workflow.deleted_at or datetime.now(UTC)
    deleted: list[str] = []
    errors: list[WorkflowCleanupError] = []
    cleaned: list[UUID] = []
    for task in rows:
        try:
            deleted += await _remove_files(resources, task)
            cleaned.append(task.id)
        except StorageFailed as error:
            errors.append(
                WorkflowCleanupError(
                    task_id=task.id, step_id=task.step_id or "", task_type=task.task_type, error=error.detail
                )
            )
    detail = WorkflowCleanupDetail(
        tasks_processed=len(rows), tasks_cleaned=len(cleaned), deleted_paths=deleted, errors=errors
    )
    async with idempotent.once(resources.database) as session:
        marked = select(Task).where(one_of(Task.id, cleaned), Task.deleted_at.is_(None))
        for task in await session.scalars(marked.order_by(Task.id).with_for_update()):
            task.deleted_at = datetime.now(UTC)
        answer = Answer(200, (await shown(session, workflow, detail)).model_dump_json())
        await idempotent.remember(session, answer)
    return answer


async def _remove_files(resources: Resources, task: Task) -> list[str]:
    prefix = f"{kind_of(task.task_type).folder}/{task.id}/"
    paths = [stored.path for stored in await resources.objects.list(prefix, _LISTED)]
    await resources.objects.delete_prefix(prefix)
    return paths

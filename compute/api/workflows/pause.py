"""Pauses a workflow, and resumes one that is paused or has failed."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.idempotency.keys import Answer, IdempotentRequest
from compute.api.resources import Resources
from compute.db.keys import get_row
from compute.db.tables import Workflow
from compute.events import notify
from compute.workflows.rows import store
from compute.workflows.rows.losses import without_files, without_tasks

__all__ = ["pause_workflow", "resume_workflow"]

Shown = Callable[[AsyncSession, Workflow], Awaitable[BaseModel]]
"""Makes the answer with a workflow."""


async def pause_workflow(resources: Resources, workflow_id: UUID) -> Workflow:
    """See `store.pause`."""
    async with resources.database.transaction() as session:
        return await store.pause(session, workflow_id)


async def resume_workflow(
    resources: Resources, workflow_id: UUID, from_step: str | None, idempotent: IdempotentRequest, shown: Shown
) -> Answer:
    """See `store.resume`; steps whose files are gone are run again where others need them. `shown` is the answer.

    Raises:
        ReplayError: its key was answered before.
    """
    async with resources.database.transaction() as session:
        await get_row(session, Workflow, workflow_id)
        steps = await store.steps_of(session, [workflow_id])
        lost = await without_tasks(session, steps)
    lost |= await without_files(resources.objects, steps)
    async with idempotent.once(resources.database) as session:
        resumed = await store.resume(session, workflow_id, from_step, lost=lost, key_id=idempotent.key_id)
        answer = Answer(200, (await shown(session, resumed.workflow)).model_dump_json())
        await idempotent.remember(session, answer)
        await idempotent.charge_again(session, workflow_id, len(steps), resumed.again)
    for task_id in resumed.cancelled:
        resources.notifier.notify(notify.CANCELLED, str(task_id))
    resources.notifier.notify(notify.WORKFLOW)
    return answer

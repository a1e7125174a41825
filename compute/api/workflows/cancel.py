"""Cancels a workflow and its tasks."""

from uuid import UUID

from compute.api.resources import Resources
from compute.db.tables import Workflow
from compute.events import notify
from compute.workflows.rows import store

__all__ = ["cancel_workflow"]


async def cancel_workflow(resources: Resources, workflow_id: UUID) -> Workflow:
    """See `store.cancel`; the workers of its tasks stop at their next steps."""
    async with resources.database.transaction() as session:
        workflow, cancelled = await store.cancel(session, workflow_id)
    for task_id in cancelled:
        resources.notifier.notify(notify.CANCELLED, str(task_id))
    return workflow

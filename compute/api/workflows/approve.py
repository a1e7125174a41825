"""Approves a step that waits for somebody."""

from uuid import UUID

from compute.api.resources import Resources
from compute.db.tables import Workflow
from compute.events import notify
from compute.workflows.rows import store

__all__ = ["approve_step"]


async def approve_step(resources: Resources, workflow_id: UUID, step_id: str) -> Workflow:
    """See `store.approve`."""
    async with resources.database.transaction() as session:
        workflow = await store.approve(session, workflow_id, step_id)
    resources.notifier.notify(notify.WORKFLOW)
    return workflow

"""Changes a workflow's name, description or webhook."""

from datetime import UTC, datetime
from uuid import UUID

from compute.api.resources import Resources
from compute.db.keys import lock_row
from compute.db.tables import Workflow
from compute.errors import InvalidInput
from compute.schemas.workflows import (
    WorkflowUpdate,
)

__all__ = ["update_workflow"]


async def update_workflow(resources: Resources, workflow_id: UUID, update: WorkflowUpdate) -> Workflow:
    """Change what `update` names; null takes a description or a webhook away.

    Raises:
        NotFound: there is no such workflow.
        InvalidInput: the webhook's address cannot be used, or the name is null.
    """
    changes = update.model_dump(exclude_unset=True)
    if "name" in changes and changes["name"] is None:
        raise InvalidInput("A workflow has a name.", field="name")
    if changes.get("webhook_url") is not None:
        await resources.client.check_url(changes["webhook_url"], "webhook_url")
    async with resources.database.transaction() as session:
        workflow = await lock_row(session, Workflow, workflow_id)
        for name, value in changes.items():
            setattr(workflow, name, value)
        workflow.updated_at = datetime.now(UTC)
    return workflow

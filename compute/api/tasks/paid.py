"""What a task's provider was asked for, as the ledger of paid calls has it."""

from typing import Any

from compute.api.providers.presenter import service_requests
from compute.api.resources import Resources
from compute.db.tables import Task
from compute.providers.ledger.queries import calls_of_task
from compute.schemas.enums import ProviderType

__all__ = ["paid_for"]


async def paid_for(resources: Resources, task: Task) -> dict[str, Any]:
    """The fields of a task that its calls make. Nothing is asked for a task that only this cluster has worked on."""
    local = task.provider_type in (None, ProviderType.LOCAL)
    if local and not task.spec.get("fell_back_from"):
        return {}
    async with resources.database.transaction() as session:
        calls = await calls_of_task(session, task.id)
    return {"service_requests": service_requests(calls)}

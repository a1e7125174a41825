"""Creates a training."""

from typing import Any

from compute.api.idempotency.keys import Answer, IdempotentRequest
from compute.api.resources import Resources
from compute.api.training.bodies import faults_in, read_training
from compute.api.training.presenter import render_new
from compute.events import notify
from compute.requests.tenants import check_tenant
from compute.tasks.ids import new_task_id
from compute.training.inputs import prepare
from compute.training.rows import store

__all__ = ["create_training"]


async def create_training(body: dict[str, Any], idempotent: IdempotentRequest, resources: Resources) -> Answer:
    """Store a training.

    Raises:
        ReplayError: its key was answered before.
        LimitReached: it is more than the caller's quotas allow.
        InvalidFields, InvalidInput, TooLarge: it cannot be done, or its images cannot be had; nothing was
            stored.
        StorageFailed: its images could not be kept.
    """
    request, dialect = read_training(body)
    check_tenant(request.origin_tenant_id, resources.tenant)
    if resources.tenant is not None:
        request = request.model_copy(update={"origin_tenant_id": resources.tenant})
    await idempotent.require_room(resources.database)
    with faults_in(dialect):
        spec = await prepare(request, new_task_id(), resources)
    # Its LoRA will be the tenant's own.
    spec = spec.model_copy(update={"tenant": resources.tenant})
    async with idempotent.once(resources.database) as session:
        training = await store.create(session, spec, request)
        answer = Answer(201, render_new(training, dialect))
        idempotent.made(training.id)
        await idempotent.remember(session, answer)
        await idempotent.charge(session, training.id, "training")
    resources.notifier.notify(notify.TRAINING)
    return answer

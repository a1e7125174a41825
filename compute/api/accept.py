"""Accept a task: check everything, take in its inputs, store it in one transaction, hint the Dispatcher."""

from typing import Any
from uuid import uuid4

from fastapi import Response

from compute.api.body import validated
from compute.api.dialect import Dialect
from compute.api.idempotency import Answer, IdempotentRequest, ReplayError
from compute.api.intake import RequestIntake
from compute.api.links import RequestLinks
from compute.api.present import present
from compute.api.providers import check_providers
from compute.api.resources import Resources
from compute.api.serving import ServedModel
from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.events import hints
from compute.schemas.enums import ProviderType
from compute.schemas.tasks import CreateTask
from compute.tasks import store
from compute.tasks.registry import TaskKind

__all__ = ["accept"]

_KEPT_IN_SPEC = {
    "provider_config",
    "active_provider_capabilities",
    "fallback_provider_type",
    "fallback_provider_config",
    "fallback_provider_capabilities",
}
DEFAULT_TENANT = "default"


async def accept(
    body: dict[str, Any],
    kind: TaskKind[Any],
    dialect: Dialect,
    idempotent: IdempotentRequest,
    held: Resources,
    links: RequestLinks,
) -> Response:
    """Store a task of `kind` and answer 201 in `dialect`; replay the first answer to a repeated key.

    Raises:
        InvalidInput, RequestValidationError: the body cannot be accepted.
        StorageFailed: its inputs could not be kept.
    """
    async with held.database.transaction() as session:
        if answer := await idempotent.earlier(session):
            return answer.response(replayed=True)
    request = validated(kind.create_model, body)
    served = _served(request, kind, held)
    check_providers(request, kind)
    if request.webhook_url is not None:
        await held.client.check_url(request.webhook_url, "webhook_url")
    intake = RequestIntake(held, served)
    spec = await kind.prepare(request, intake)
    await intake.keep()
    task = _row(request, kind, spec)
    try:
        async with held.database.transaction() as session:
            await store.create(session, task)
            answer = Answer(201, (await present(task, dialect, links)).model_dump_json())
            await idempotent.remember(session, answer)
    except ReplayError as replay:
        return replay.answer.response(replayed=True)
    held.hints.hint(hints.READY, task.queue)
    return answer.response()


def _served(request: CreateTask, kind: TaskKind[Any], held: Resources) -> ServedModel:
    queue = request.queue_name or kind.queue
    served = held.serving.queues.get(queue)
    if served is None:
        known = ", ".join(sorted(held.serving.queues))
        raise InvalidInput(f"No workers serve the queue {queue!r}; served: {known}.", field="queue_name")
    return served


def _row(request: CreateTask, kind: TaskKind[Any], spec: dict[str, Any]) -> Task:
    return Task(
        id=uuid4(),
        task_type=kind.name,
        queue=request.queue_name or kind.queue,
        tenant=request.origin_tenant_id or DEFAULT_TENANT,
        priority=int(request.priority),
        spec=spec | request.model_dump(mode="json", include=_KEPT_IN_SPEC, exclude_none=True),
        config=request.config,
        origin_instance=request.origin_instance,
        origin_zone=request.origin_zone,
        origin_tenant_id=request.origin_tenant_id,
        origin_reference=request.origin_reference,
        workflow_id=request.workflow_id,
        webhook_url=request.webhook_url,
        provider_type=request.provider_type or ProviderType.LOCAL,
    )

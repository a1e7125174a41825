"""Accept a task: take in its inputs, store it together with whatever else arrives, answer after the commit."""

from typing import Any

from fastapi import Response

from compute.api.idempotency import IdempotentRequest, respond
from compute.api.intake import RequestIntake
from compute.api.orders import Order
from compute.api.present import render_new
from compute.api.resources import Resources
from compute.db.tables import Task
from compute.schemas.enums import ProviderType, TaskStatus
from compute.tasks.ids import new_task_id
from compute.tasks.submission import Answer, Submission

__all__ = ["accept", "new_task"]

_KEPT_IN_SPEC = {
    "provider_config",
    "active_provider_capabilities",
    "fallback_provider_type",
    "fallback_provider_config",
    "fallback_provider_capabilities",
}
_BLANK = dict.fromkeys(column.key for column in Task.__table__.columns)
DEFAULT_TENANT = "default"


async def accept(order: Order, idempotent: IdempotentRequest, held: Resources) -> Response:
    """Store a task and answer 201 in its dialect; replay the first answer to a repeated key.

    Raises:
        InvalidInput: its inputs cannot be had, or its key was used for another request.
        StorageFailed: its inputs could not be kept.
        Unavailable: the database is away.
    """
    if order.request.webhook_url is not None:
        await held.client.check_url(order.request.webhook_url, "webhook_url")
    intake = RequestIntake(held, order.served)
    task = await new_task(order, intake)
    await intake.keep()
    submission = Submission([task], lambda: Answer(201, render_new(task, order.dialect)), idempotent.key)
    return respond(await held.writer.submit(submission))


async def new_task(order: Order, intake: RequestIntake) -> Task:
    """The row of an order, but for its times, which are the database's.

    Raises:
        InvalidInput: its inputs cannot be had.
    """
    return _row(order, await order.kind.prepare(order.request, intake))


def _row(order: Order, spec: dict[str, Any]) -> Task:
    request = order.request
    also_kept = _KEPT_IN_SPEC & request.model_fields_set
    if also_kept:
        spec = spec | request.model_dump(mode="json", include=also_kept, exclude_none=True)
    task = Task()
    # All at once, and whole: it never enters a session, which alone would need to be told of every attribute.
    vars(task).update(
        _BLANK,
        id=new_task_id(),
        task_type=order.kind.name,
        queue=order.served.queue,
        tenant=request.origin_tenant_id or DEFAULT_TENANT,
        priority=int(request.priority),
        status=TaskStatus.PENDING,
        progress=0.0,
        retry_count=0,
        errors=[],
        spec=spec,
        config=request.config,
        origin_instance=request.origin_instance,
        origin_zone=request.origin_zone,
        origin_tenant_id=request.origin_tenant_id,
        origin_reference=request.origin_reference,
        workflow_id=request.workflow_id,
        webhook_url=request.webhook_url,
        provider_type=request.provider_type or ProviderType.LOCAL,
    )
    return task

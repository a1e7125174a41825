"""The event log and the webhook outbox, written in the transaction that changed the task."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables import Task, TaskEvent, WebhookDelivery
from compute.schemas.enums import ErrorCategory, EventType, TaskStatus
from compute.schemas.events import BaseEvent, TaskCreatedEvent, TaskStatusEvent

__all__ = ["record"]

_CALLED_BACK = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


async def record(session: AsyncSession, tasks: Sequence[Task], event_type: EventType) -> None:
    """Log what just happened to `tasks`; an end also enters the outbox when the task names a webhook."""
    if not tasks:
        return
    payloads = [(task, _event(task, event_type).model_dump(mode="json")) for task in tasks]
    await session.execute(
        insert(TaskEvent),
        [
            {"task_id": task.id, "type": event_type.value, "status": task.status, "data": payload}
            for task, payload in payloads
        ],
    )
    deliveries = [_delivery(task, payload) for task, payload in payloads if _ended(task, event_type)]
    if deliveries:
        await session.execute(insert(WebhookDelivery), deliveries)


def _ended(task: Task, event_type: EventType) -> bool:
    """Whether this very event is the end that the task's webhook waits for; an ended task may still be updated."""
    called_back = task.webhook_url is not None and TaskStatus(task.status) in _CALLED_BACK
    return called_back and event_type is EventType.TASK_STATUS


def _delivery(task: Task, payload: dict[str, Any]) -> dict[str, Any]:
    return {"id": uuid4(), "task_id": task.id, "url": task.webhook_url, "payload": payload}


def _event(task: Task, event_type: EventType) -> BaseEvent:
    common = {
        "event_type": event_type,
        "task_id": task.id,
        "task_type": task.task_type,
        "origin_instance": task.origin_instance,
        "origin_zone": task.origin_zone,
        "timestamp": task.updated_at,
    }
    if event_type is EventType.TASK_CREATED:
        return TaskCreatedEvent(
            **common, status=task.status, created_at=task.created_at, total_steps=task.spec.get("num_outputs", 1)
        )
    artifacts = (task.result or {}).get("artifacts") or [{}]
    return TaskStatusEvent(
        **common,
        status=TaskStatus(task.status),
        progress=task.progress,
        started_at=task.started_at,
        completed_at=task.completed_at,
        error_category=ErrorCategory(task.error_category) if task.error_category else None,
        error_message=task.errors[-1] if task.errors else None,
        result_image_path=artifacts[0].get("path"),
        origin_reference=task.origin_reference,
        metadata=(task.result or {}).get("metadata"),
    )

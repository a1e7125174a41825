"""The event log and the webhook outbox, written in the transaction that changed the task.

There are two ways to the same rows. `record` takes objects, one change at a time, for the API. The fragments of SQL
are for statements that change many tasks at once: what they log and send is read from the changed rows themselves.
"""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables import Task, TaskEvent, WebhookDelivery
from compute.schemas.enums import ErrorCategory, EventType, TaskStatus
from compute.schemas.events import BaseEvent, TaskCreatedEvent, TaskStatusEvent

__all__ = ["CALL_BACK", "STATUS_PAYLOAD", "log_moves", "record"]

_CALLED_BACK = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})

_UTC = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""

STATUS_PAYLOAD = f"""
CASE WHEN tasks.webhook_url IS NOT NULL THEN jsonb_build_object(
    'event_type', '{EventType.TASK_STATUS}', 'task_id', tasks.id, 'task_type', tasks.task_type,
    'status', tasks.status, 'progress', tasks.progress, 'entity_id', NULL,
    'origin_instance', tasks.origin_instance, 'origin_zone', tasks.origin_zone, 'origin_version', NULL,
    'origin_reference', tasks.origin_reference,
    'timestamp', {_UTC.format("tasks.updated_at")},
    'started_at', {_UTC.format("tasks.started_at")}, 'completed_at', {_UTC.format("tasks.completed_at")},
    'error_category', tasks.error_category,
    'error_message', CASE WHEN tasks.status <> '{TaskStatus.COMPLETED}' THEN tasks.errors->-1 END,
    'result_image_path', tasks.result#>'{{artifacts,0,path}}', 'outputs', tasks.result->'artifacts',
    'metadata', tasks.result->'metadata') END AS payload
"""
"""What `TaskStatusEvent` holds, for the RETURNING of an update that ends tasks; NULL without a webhook."""

CALL_BACK = """
INSERT INTO webhook_deliveries (id, task_id, url, payload)
SELECT gen_random_uuid(), id, payload_url, payload FROM moved WHERE payload_url IS NOT NULL
"""
"""One delivery for every row of `moved` (id, payload_url, payload) that names a webhook."""


def log_moves(*statuses: TaskStatus) -> str:
    """The INSERT that logs, for every `id` of `moved`, the statuses it went through, in this order."""
    passed = ", ".join(f"'{status}'" for status in statuses)
    return f"""
    INSERT INTO task_events (task_id, type, status)
    SELECT id, '{EventType.TASK_STATUS}', passed.status
      FROM moved CROSS JOIN unnest(ARRAY[{passed}]) WITH ORDINALITY AS passed(status, place) ORDER BY place
    """


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
        error_message=task.errors[-1] if task.errors and task.status != TaskStatus.COMPLETED else None,
        result_image_path=artifacts[0].get("path"),
        outputs=(task.result or {}).get("artifacts"),
        origin_reference=task.origin_reference,
        metadata=(task.result or {}).get("metadata"),
    )

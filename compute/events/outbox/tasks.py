"""The event log and the webhook outbox, written in the transaction that changed the task.

`record` is for the API, which has changed some tasks; the fragments of SQL are for statements that change many at once.
Either way, what is logged and sent is read from the changed rows.
"""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.confinement import ALREADY_CONFINED
from compute.db.tables import Task
from compute.events.payload import payload
from compute.schemas.enums import EventType, TaskStatus
from compute.schemas.events import TaskCreatedEvent, TaskStatusEvent

__all__ = ["CALL_BACK", "STATUS_PAYLOAD", "created_payload", "log_moves", "record"]

_CALLED_BACK = ", ".join(f"'{status}'" for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED))


def created_payload(row: str) -> str:
    """What `TaskCreatedEvent` holds, of a row with the columns of `tasks`."""
    given = {
        "event_type": f"'{EventType.TASK_CREATED}'",
        "task_id": f"{row}.id",
        "timestamp": f"{row}.updated_at",
        "total_steps": f"COALESCE(({row}.spec->>'num_outputs')::int, 1)",
    }
    return payload(TaskCreatedEvent, Task, row, given)


def _status_payload(row: str, event_type: str) -> str:
    given = {
        "event_type": event_type,
        "task_id": f"{row}.id",
        "timestamp": f"{row}.updated_at",
        "error_message": f"CASE WHEN {row}.status <> '{TaskStatus.COMPLETED}' THEN {row}.errors->-1 END",
        "result_image_path": f"{row}.result#>'{{artifacts,0,path}}'",
        "outputs": f"{row}.result->'artifacts'",
        "metadata": f"{row}.result->'metadata'",
    }
    return payload(TaskStatusEvent, Task, row, given)


STATUS_PAYLOAD = f"""
CASE WHEN tasks.webhook_url IS NOT NULL THEN {_status_payload("tasks", f"'{EventType.TASK_STATUS}'")} END AS payload
"""
"""What `TaskStatusEvent` holds, for the RETURNING of an update that ends tasks; NULL without a webhook."""

CALL_BACK = """
INSERT INTO webhook_deliveries (id, task_id, url, payload, traceparent)
SELECT gen_random_uuid(), id, payload_url, payload, traceparent FROM moved WHERE payload_url IS NOT NULL
"""
"""One delivery for every row of `moved` (id, payload_url, payload, traceparent) that names a webhook."""


def log_moves(*statuses: TaskStatus) -> str:
    """The INSERT that logs, for every `id` of `moved`, the statuses it went through, in this order."""
    passed = ", ".join(f"'{status}'" for status in statuses)
    return f"""
    INSERT INTO task_events (task_id, type, status)
    SELECT id, '{EventType.TASK_STATUS}', passed.status
      FROM moved CROSS JOIN unnest(ARRAY[{passed}]) WITH ORDINALITY AS passed(status, ordinal) ORDER BY ordinal
    """


def _record(row_payload: str) -> str:
    # An ended task may still be updated: its webhook waits for the end itself.
    return f"""
    WITH moved AS (
        SELECT tasks.id, tasks.status, tasks.traceparent, ordinal, {row_payload} AS payload,
               CASE WHEN :type = '{EventType.TASK_STATUS}' AND status IN ({_CALLED_BACK})
                    THEN webhook_url END AS payload_url
          FROM tasks JOIN unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS changed(id, ordinal) ON changed.id = tasks.id
    ), called AS ({CALL_BACK})
    INSERT INTO task_events (task_id, type, status, data)
    SELECT id, :type, status, payload FROM moved ORDER BY ordinal
    """


_RECORD_CREATED = text(_record(created_payload("tasks")))
_RECORD_STATUS = text(_record(_status_payload("tasks", "CAST(:type AS text)")))


async def record(session: AsyncSession, tasks: Sequence[Task], event_type: EventType) -> None:
    """Log what just happened to `tasks`; an end also enters the outbox when the task names a webhook."""
    if not tasks:
        return
    await session.flush()
    statement = _RECORD_CREATED if event_type is EventType.TASK_CREATED else _RECORD_STATUS
    given = {"ids": [task.id for task in tasks], "type": event_type.value}
    # The rows were found by whoever sees them.
    await session.execute(statement, given, execution_options=ALREADY_CONFINED)

"""Webhooks of workflows that ended, in SQL for the engine, which ends many at once, and the API, which ends one."""

from compute.db.tables import Workflow
from compute.events.payload import payload
from compute.schemas.enums import EventType
from compute.schemas.events import WorkflowStatusEvent

__all__ = ["CALL_BACK_WORKFLOWS"]

_STATUS = {
    "event_type": f"'{EventType.WORKFLOW_STATUS}'",
    "task_id": "moved.id",
    "workflow_id": "moved.id",
    "timestamp": "moved.updated_at",
    "error_message": "moved.errors->0",
    "final_step_result": "last.result",
}

CALL_BACK_WORKFLOWS = f"""
INSERT INTO webhook_deliveries (id, task_id, url, payload, traceparent)
SELECT gen_random_uuid(), moved.id, webhook_url, {payload(WorkflowStatusEvent, Workflow, "moved", _STATUS)},
       moved.traceparent
  FROM moved LEFT JOIN workflow_steps AS last ON last.workflow_id = moved.id AND last.step_id = moved.final_step_id
                                             AND last.status = 'COMPLETED'
 WHERE webhook_url IS NOT NULL
"""  # noqa: S608 - made of constants
"""One delivery for every row of `moved`, which has the columns of `workflows`, that names a webhook."""

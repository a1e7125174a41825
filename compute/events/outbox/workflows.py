"""What is told of workflows that ended, in SQL for whoever ends them: the engine many at once, the API one."""

from compute.schemas.enums import EventType

__all__ = ["CALL_BACK_WORKFLOWS"]

_UTC = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""

CALL_BACK_WORKFLOWS = f"""
INSERT INTO webhook_deliveries (id, task_id, url, payload)
SELECT gen_random_uuid(), moved.id, webhook_url, jsonb_build_object(
           'event_type', '{EventType.WORKFLOW_STATUS}', 'task_id', moved.id, 'workflow_id', moved.id, 'name', name,
           'status', moved.status, 'entity_id', NULL, 'origin_instance', origin_instance,
           'origin_zone', origin_zone, 'origin_version', NULL, 'origin_reference', origin_reference,
           'timestamp', {_UTC.format("moved.updated_at")}, 'started_at', {_UTC.format("moved.started_at")},
           'completed_at', {_UTC.format("moved.completed_at")}, 'error_message', moved.errors->0,
           'errors', moved.errors, 'final_step_id', final_step_id, 'final_step_result', last.result, 'metadata', NULL)
  FROM moved LEFT JOIN workflow_steps AS last ON last.workflow_id = moved.id AND last.step_id = moved.final_step_id
                                             AND last.status = 'COMPLETED'
 WHERE webhook_url IS NOT NULL
"""  # noqa: S608 - made of constants
"""One delivery for every row of `moved`, which has the columns of `workflows`, that names a webhook."""

"""What is told of trainings, in SQL for whoever changes them: the job, its supervisor and the API."""

# ruff: noqa: S608 - made of constants

from compute.schemas.enums import EventType

__all__ = ["CALL_BACK_TRAININGS", "LOG_TRAININGS", "PREPROCESSING_PAYLOAD"]

_UTC = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""

_COMMON = f"""
    'task_id', moved.id, 'status', moved.status, 'entity_id', moved.entity_id,
    'origin_instance', moved.origin_instance, 'origin_zone', moved.origin_zone,
    'origin_version', moved.origin_version, 'timestamp', {_UTC.format("moved.updated_at")},
    'progress', moved.progress, 'error_message', moved.error_message
"""

PREPROCESSING_PAYLOAD = f"""
jsonb_build_object(
    'event_type', '{EventType.PREPROCESSING_STATUS}', {_COMMON}, 'current_stage', moved.preprocessing_stage,
    'processed_files_count', coalesce(moved.processed_files_count, 0),
    'total_files_count', coalesce(moved.total_files_count, 0),
    'processed_dataset_path', moved.processed_dataset_path,
    'completed_at', {_UTC.format("moved.preprocessing_completed_at")})
"""
"""What `PreprocessingStatusEvent` holds but for its `metadata`, of a row of `moved`."""

LOG_TRAININGS = f"""
INSERT INTO training_events (training_id, type, status)
SELECT id, '{EventType.TRAINING_STATUS}', status FROM moved
"""
"""One event for every row of `moved`, which has the columns of `trainings` and has just changed its status."""

CALL_BACK_TRAININGS = f"""
INSERT INTO webhook_deliveries (id, task_id, url, payload)
SELECT gen_random_uuid(), moved.id, webhook_url, jsonb_build_object(
           'event_type', '{EventType.TRAINING_STATUS}', {_COMMON},
           'current_step', moved.current_step, 'total_steps', moved.total_steps, 'eta_seconds', moved.eta_seconds,
           'started_at', {_UTC.format("moved.started_at")}, 'completed_at', {_UTC.format("moved.completed_at")},
           'local_model_path', moved.local_model_path, 'error_category', moved.error_category,
           'metadata', jsonb_build_object('metrics', moved.metrics, 'trigger_word', moved.spec->'trigger_word',
                                          'output_name', moved.spec->'output_name'))
  FROM moved WHERE webhook_url IS NOT NULL
"""
"""One delivery for every row of `moved`, which has the columns of `trainings`, that names a webhook."""

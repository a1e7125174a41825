"""Events and webhooks of trainings, in SQL for the job, its supervisor and the API, which change them."""

# ruff: noqa: S608 - made of constants

from compute.db.tables import Training
from compute.events.payload import payload
from compute.schemas.enums import EventType
from compute.schemas.events import PreprocessingStatusEvent, TrainingStatusEvent

__all__ = ["CALL_BACK_TRAININGS", "LOG_TRAININGS", "preprocessing_payload"]

_COMMON = {"task_id": "moved.id", "timestamp": "moved.updated_at"}


def preprocessing_payload(metadata: str) -> str:
    """What `PreprocessingStatusEvent` holds, of a row of `moved` and an expression for its `metadata`."""
    given = {
        "event_type": f"'{EventType.PREPROCESSING_STATUS}'",
        "current_stage": "moved.preprocessing_stage",
        "processed_files_count": "coalesce(moved.processed_files_count, 0)",
        "total_files_count": "coalesce(moved.total_files_count, 0)",
        "completed_at": "moved.preprocessing_completed_at",
        "metadata": metadata,
    }
    return payload(PreprocessingStatusEvent, Training, "moved", _COMMON | given)


_STATUS = {
    "event_type": f"'{EventType.TRAINING_STATUS}'",
    "metadata": "jsonb_build_object('metrics', moved.metrics, 'trigger_word', moved.spec->'trigger_word',"
    " 'output_name', moved.spec->'output_name')",
}

LOG_TRAININGS = f"""
INSERT INTO training_events (training_id, type, status)
SELECT id, '{EventType.TRAINING_STATUS}', status FROM moved
"""
"""One event for every row of `moved`, which has the columns of `trainings` and has just changed its status."""

CALL_BACK_TRAININGS = f"""
INSERT INTO webhook_deliveries (id, task_id, url, payload, traceparent)
SELECT gen_random_uuid(), moved.id, webhook_url,
       {payload(TrainingStatusEvent, Training, "moved", _COMMON | _STATUS)}, moved.traceparent
  FROM moved WHERE webhook_url IS NOT NULL
"""
"""One delivery for every row of `moved`, which has the columns of `trainings`, that names a webhook."""

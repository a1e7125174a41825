"""Payloads of webhooks and of the event log."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from compute.schemas.enums import ErrorCategory, EventType, TaskStatus, WorkflowStatus
from compute.schemas.training import TrainingStatus

__all__ = [
    "BaseEvent",
    "InferenceStatusEvent",
    "PreprocessingStatusEvent",
    "TaskCreatedEvent",
    "TaskStatusEvent",
    "TrainingStatusEvent",
    "WorkflowStatusEvent",
]


class BaseEvent(BaseModel):
    """Fields of every event."""

    event_type: EventType
    task_id: UUID
    status: str
    entity_id: str | None = None
    origin_instance: str | None = None
    origin_zone: str | None = None
    origin_version: str | None = None
    timestamp: datetime | None = None
    metadata: dict[str, Any] | None = None


class TaskCreatedEvent(BaseEvent):
    """A task was accepted."""

    task_type: str
    created_at: datetime
    total_steps: int = Field(default=1, description="The number of parts of the work.")


class TaskStatusEvent(BaseEvent):
    """A task changed its status."""

    status: TaskStatus
    task_type: str
    progress: float = Field(default=0.0, ge=0, le=100, description="Progress in percent.")
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error_category: ErrorCategory | None = None
    error_message: str | None = None
    result_image_path: str | None = Field(default=None, description="Storage path of the first result, image or clip.")
    outputs: list[dict[str, Any]] | None = Field(
        default=None, description="Every result: `path`, `content_type`, `sha256`, `size`, `width`, `height`, `seed`."
    )
    origin_reference: str | None = Field(default=None, description="The caller's own id, as it was sent.")


class InferenceStatusEvent(BaseEvent):
    """Something that happened to a task, as its log has it: one of the `events` of a monitored task. What only its end
    knows is null before. The three ids are what the caller's `config` says under these names."""

    backend_generation_id: UUID | None = None
    backend_prediction_id: UUID | None = None
    prompt_id: str | None = None
    result_image_path: str | None = Field(default=None, description="Storage path of the first result, image or clip.")
    refined_image_path: str | None = Field(default=None, description="The same of a task that refines an image.")
    completed_at: datetime | None = None
    error_message: str | None = None


class WorkflowStatusEvent(BaseEvent):
    """A workflow has ended. `task_id` is the workflow's id, as every webhook has one."""

    workflow_id: UUID
    name: str
    status: WorkflowStatus
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error_message: str | None = None
    errors: list[str] = []
    final_step_id: str | None = None
    final_step_result: dict[str, Any] | None = None
    origin_reference: str | None = Field(default=None, description="The caller's own id, as it was sent.")


class PreprocessingStatusEvent(BaseEvent):
    """Progress of the preprocessing of a training's images: `data` of its events of this type. `metadata` has details
    of the stage."""

    status: TrainingStatus
    current_stage: str | None = None
    progress: float = Field(default=0.0, ge=0, le=100, description="Progress of the training in percent.")
    processed_files_count: int = 0
    total_files_count: int = 0
    processed_dataset_path: str | None = Field(default=None, description="Storage path of the prepared data set.")
    completed_at: datetime | None = Field(default=None, description="When all images were prepared.")
    error_message: str | None = None


class TrainingStatusEvent(BaseEvent):
    """A training has ended. `metadata` has its last `metrics`, the `trigger_word` and the `output_name`."""

    status: TrainingStatus
    progress: float = Field(default=0.0, ge=0, le=100, description="Progress in percent.")
    current_step: int = 0
    total_steps: int = 0
    eta_seconds: int | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    local_model_path: str | None = Field(
        default=None, description="Storage path of the LoRA's file, or of the folder of a FULL training's model."
    )
    error_category: ErrorCategory | None = None
    error_message: str | None = None

"""Tasks as an operator sees them."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from compute.schemas.enums import ErrorCategory, ProviderType, TaskStatus, TaskType
from compute.schemas.events import InferenceStatusEvent
from compute.schemas.quickstart.tasks import QuickstartStatus

__all__ = [
    "AggregateStats",
    "MediaItem",
    "QuickstartTaskDetail",
    "QuickstartTaskMedia",
    "TaskDetailResponse",
    "TaskListItem",
    "TaskListResponse",
    "TaskMediaResponse",
]


class AggregateStats(BaseModel):
    """How many tasks there are, without those that were cleaned up or removed."""

    total_tasks: int = Field(description="All of them.")
    by_status: dict[str, int] = Field(default={}, description="By status; each status is there.")
    by_provider: dict[str, int] = Field(default={}, description="By provider; LOCAL is this cluster.")
    by_task_type: dict[str, int] = Field(default={}, description="By type.")
    tasks_last_hour: int = Field(default=0, description="Accepted within the last 60 minutes, to the minute.")
    tasks_last_24h: int = Field(default=0, description="Accepted within the last 24 hours, to the minute.")
    total_is_exact: bool = Field(
        default=True, description="False: there are as many or more, and all numbers are of the latest of them."
    )


class TaskListItem(BaseModel):
    """A task in a list."""

    id: UUID
    task_type: TaskType
    provider_type: ProviderType | None = None
    status: TaskStatus
    progress: float = Field(default=0.0, description="Progress in percent.")
    origin_instance: str
    origin_zone: str | None = None
    origin_tenant_id: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: float | None = Field(default=None, description="Milliseconds from its start to its end.")
    has_error: bool = Field(default=False, description="Whether any of its runs failed.")
    queue_name: str | None = Field(default=None, description="The queue that it is in, or was.")
    priority: int = Field(default=1, description="0 low, 1 normal, 2 high, 3 urgent.")
    workflow_id: str | None = None
    executor_instance: str | None = Field(default=None, description="The worker that runs it, or did.")


class TaskListResponse(BaseModel):
    """One page of tasks."""

    items: list[TaskListItem]
    total: int = Field(description="Number of matches on all pages.")
    page: int = Field(description="The number of this page; the first one is 1.")
    page_size: int = Field(description="Items on a full page.")
    pages: int = Field(description="Number of pages.")
    total_is_exact: bool = Field(default=True, description="False: there are `total` or more.")
    next_cursor: str | None = Field(
        default=None, description="The `cursor` of the next page where the newest come first; null on the last one."
    )


class _TaskDetail(BaseModel):
    """Fields of both dialects."""

    provider_type: ProviderType | None = None
    origin_instance: str
    origin_zone: str | None = None
    origin_tenant_id: str | None = None
    origin_reference: str | None = None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: float | None = Field(default=None, description="Milliseconds from its start to its end.")
    queue_name: str = Field(default="inference", description="The queue that it is in, or was.")
    priority: int = Field(default=0, description="0 low, 1 normal, 2 high, 3 urgent: a higher one runs first.")
    celery_task_id: str | None = None
    service_task_id: str | None = None
    executor_type: str | None = Field(default=None, description="The kind of worker that runs it, or did.")
    executor_instance: str | None = Field(default=None, description="The worker that runs it, or did.")
    config: dict[str, Any] | None = Field(default=None, description="Free-form data of the caller.")
    webhook_url: str | None = Field(default=None, description="Called, signed, when it has ended.")
    errors: list[str] | None = Field(default=None, description="One line for each failed run; the latest is last.")
    error_category: ErrorCategory | None = None
    retry_count: int = Field(default=0, description="Runs that failed and were followed by another one.")
    is_resumed: bool = Field(default=False, description="Whether a run went on with what an earlier one had begun.")
    resume_attempt_count: int = Field(default=0, description="How often it was taken up again.")
    last_resume_attempt: datetime | None = Field(default=None, description="When it was last taken up again.")
    service_requests: list[dict[str, Any]] | None = Field(
        default=None, description="All requests to the provider, call by call. Null for work of this cluster."
    )
    task_data: dict[str, Any] = Field(
        default={}, description="The fields of its type: what was asked for, and the paths of what came out."
    )
    workflow_id: str | None = None
    step_id: str | None = None
    deleted_at: datetime | None = Field(default=None, description="When its files were removed, if they were.")


class TaskDetailResponse(_TaskDetail):
    """A task with all that is known of it."""

    id: UUID
    task_type: TaskType
    status: TaskStatus
    progress: float = Field(default=0.0, description="Progress in percent.")
    events: list[InferenceStatusEvent] = Field(default=[], description="What happened to it so far, in order.")


class QuickstartTaskDetail(_TaskDetail):
    """The same in the quick start's words."""

    id: str = Field(examples=["task_0b6f0a5264c84a3c9d0e0c7a8a0f7f10"])
    task_type: str = Field(description="In lower case.")
    status: QuickstartStatus
    progress: float = Field(default=0.0, description="Progress from 0 to 1.")


class MediaItem(BaseModel):
    """A stored image or clip."""

    name: str = Field(description="The field of the task that names it, such as `base_image` or `result_image`.")
    path: str = Field(description="Its storage path.")
    url: str = Field(description="A link to it that needs no key, and expires.")
    media_type: Literal["image", "video"]


class TaskMediaResponse(BaseModel):
    """What a task was given and what came out. Empty once its files were removed."""

    task_id: UUID
    inputs: list[MediaItem] = Field(default=[], description="What it was given.")
    outputs: list[MediaItem] = Field(default=[], description="What came out.")


class QuickstartTaskMedia(BaseModel):
    """The same with the quick start's id."""

    task_id: str
    inputs: list[MediaItem] = []
    outputs: list[MediaItem] = []

"""Fields that every task type shares: of requests, answers and updates."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from compute.schemas.enums import ErrorCategory, ProviderType, TaskPriority, TaskStatus, TaskType
from compute.schemas.fields import (
    FallbackCapabilities,
    FallbackConfig,
    FallbackProvider,
    FreeObject,
    FreeValue,
    ProviderCapabilities,
)
from compute.schemas.rules.strict import JsonBody
from compute.schemas.usage import TaskUsage

__all__ = ["FREE_FIELDS", "PROVIDER_FIELDS", "CreateTask", "ShortText", "TaskPublic", "TaskUpdate", "WholeTaskUpdate"]

MAX_SHORT_TEXT = 200


ShortText = Annotated[str, Field(max_length=MAX_SHORT_TEXT)]


class CreateTask(JsonBody):
    """A request for a task."""

    model_config = ConfigDict(populate_by_name=True)

    priority: TaskPriority = Field(
        default=TaskPriority.NORMAL, description="0 low, 1 normal, 2 high, 3 urgent: a higher one runs first."
    )
    config: FreeObject | None = Field(default=None, description="Free-form data of the caller, stored with the task.")
    webhook_url: str | None = Field(
        default=None, max_length=2048, description="Called once, signed, when the task has ended."
    )
    origin_instance: ShortText = Field(default="default", description="The caller's installation that sends this.")
    origin_zone: ShortText | None = Field(default=None, description="The caller's environment or region, e.g. `eu`.")
    origin_tenant_id: ShortText | None = Field(
        default=None,
        description="The tenant, by which tenants of one priority take turns. A key that is bound to one sets it.",
    )
    origin_reference: ShortText | None = Field(default=None, description="The caller's own id for this request.")
    workflow_id: ShortText | None = Field(default=None, description="The workflow that this task is a step of.")
    queue_name: ShortText | None = Field(default=None, description="A queue other than the type's own.")

    provider_type: ProviderType | None = Field(
        default=None, description="The provider that executes it; LOCAL is this cluster."
    )
    provider_config: FreeObject | None = Field(default=None, description="Settings for that provider.")
    active_provider_capabilities: ProviderCapabilities = None
    fallback_provider_type: FallbackProvider = None
    fallback_provider_config: FallbackConfig = None
    fallback_provider_capabilities: FallbackCapabilities = None


PROVIDER_FIELDS = tuple(name for name in CreateTask.model_fields if "provider" in name and name != "provider_type")
"""Fields about the provider and the fallback provider, except `provider_type`."""
FREE_FIELDS = tuple(name for name, field in CreateTask.model_fields.items() if field.annotation == FreeObject | None)
"""Free-form objects of the caller, stored as they were sent."""


class TaskPublic(BaseModel):
    """A task as the API shows it."""

    id: UUID
    priority: int = Field(description="0 low, 1 normal, 2 high, 3 urgent.")
    status: TaskStatus
    progress: float = Field(default=0.0, description="Progress in percent.")
    config: dict[str, Any] | None = None

    origin_instance: str
    origin_zone: str | None = None
    origin_tenant_id: str | None = None
    origin_reference: str | None = None
    workflow_id: str | None = Field(default=None, description="The workflow that it is a step of.")
    step_id: str | None = Field(default=None, description="The step of that workflow, if the engine made the task.")

    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None

    executor_type: str | None = Field(default=None, description="The kind of worker that ran it.")
    executor_instance: str | None = Field(default=None, description="The worker that ran it.")
    celery_task_id: str | None = None
    service_task_id: str | None = None

    provider_type: ProviderType | None = None
    provider_config: Any | None = None
    active_provider_capabilities: list[str] | None = None
    fallback_provider_type: ProviderType | None = None
    fallback_provider_config: Any | None = None
    fallback_provider_capabilities: list[str] | None = None
    fell_back_from: ProviderType | None = Field(
        default=None, description="The provider that could not do it, before `provider_type` was asked."
    )

    errors: list[str] | None = Field(
        default=None, description="Errors, one line for each failed run; the latest is last."
    )
    error_category: ErrorCategory | None = None
    retry_count: int = 0
    service_requests: list[dict[str, Any]] | None = Field(
        default=None,
        description="All requests to the provider, call by call, with method, host, path, status and the provider's id "
        "of each. Where one task is read; not in lists, and not for LOCAL.",
    )

    usage: TaskUsage | None = Field(
        default=None, description="What it has used and cost so far. Where one task is read; not in lists."
    )

    metadata: dict[str, Any] | None = Field(default=None, description="Details of the run: model, versions, timings.")


class TaskUpdate(JsonBody):
    """Fields of a task that a client may change. A `status` must be allowed by the present one."""

    status: TaskStatus | None = Field(default=None, description="CANCELLED, FAILED or COMPLETED, where allowed.")
    priority: TaskPriority | None = Field(default=None, description="Moves a waiting task in its queue.")
    config: FreeObject | None = Field(default=None, description="Replaces the whole object.")
    errors: list[Annotated[str, Field(max_length=10_000)]] | None = Field(
        default=None, max_length=100, description="Replaces the list."
    )
    executor_type: ShortText | None = None
    executor_instance: ShortText | None = None


class WholeTaskUpdate(TaskUpdate):
    """An update in which a client may send back the whole task as it read it.

    The second group belongs to the server: the current value is accepted, another one is refused.
    """

    origin_instance: ShortText | None = None
    origin_zone: ShortText | None = None
    origin_tenant_id: ShortText | None = None
    origin_reference: ShortText | None = None
    queue_name: ShortText | None = Field(default=None, description="Moves a waiting task to another queue.")
    service_task_id: ShortText | None = None
    celery_task_id: ShortText | None = None
    service_requests: list[FreeObject] | None = Field(
        default=None, max_length=100, description="Log of calls to outside services."
    )
    provider_type: ProviderType | None = None
    active_provider_capabilities: ProviderCapabilities = None
    fallback_provider_type: FallbackProvider = None
    fallback_provider_config: FreeValue | None = None
    fallback_provider_capabilities: FallbackCapabilities = None
    error_category: ErrorCategory | None = Field(default=None, description="With status FAILED: why.")

    task_type: TaskType | None = None
    progress: float | None = None
    retry_count: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    is_resumed: bool | None = None
    resume_attempt_count: int | None = None
    last_resume_attempt: datetime | None = None

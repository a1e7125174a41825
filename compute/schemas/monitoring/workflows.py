"""Workflows as an operator sees them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from compute.schemas.enums import StepStatus, WorkflowStatus

__all__ = [
    "MonitoringWorkflowListResponse",
    "QuickstartWorkflowDetail",
    "QuickstartWorkflowStepMonitor",
    "WorkflowAggregateStats",
    "WorkflowDetailResponse",
    "WorkflowListItem",
    "WorkflowStepMonitor",
]


class WorkflowAggregateStats(BaseModel):
    """How many workflows there are, without those that were cleaned up."""

    total_workflows: int = Field(description="All of them.")
    by_status: dict[str, int] = Field(default={}, description="By status; each status is there.")
    workflows_last_hour: int = Field(default=0, description="Created within the last 60 minutes, to the minute.")
    workflows_last_24h: int = Field(default=0, description="Created within the last 24 hours, to the minute.")
    avg_steps_per_workflow: float = Field(default=0.0, description="Steps of one workflow, on average.")
    total_is_exact: bool = Field(
        default=True, description="False: there are as many or more, and all numbers are of the latest of them."
    )


class _Seen(BaseModel):
    """Fields of a workflow in all answers."""

    name: str
    description: str | None = None
    total_steps: int = 0
    completed_steps: int = Field(default=0, description="Steps that are COMPLETED or SKIPPED.")
    current_step: str | None = Field(default=None, description="The first step that runs or is about to run.")
    final_step_id: str | None = None
    origin_instance: str
    origin_zone: str | None = None
    origin_tenant_id: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: float | None = Field(default=None, description="Milliseconds from its start to its end.")


class WorkflowListItem(_Seen):
    """A workflow in a list."""

    id: UUID
    status: WorkflowStatus
    progress: float = Field(default=0.0, description="Progress in percent.")
    has_error: bool = Field(default=False, description="Whether any of its steps failed.")


class MonitoringWorkflowListResponse(BaseModel):
    """One page of workflows."""

    items: list[WorkflowListItem]
    total: int = Field(description="Number of matches on all pages.")
    page: int = Field(description="The number of this page; the first one is 1.")
    page_size: int = Field(description="Items on a full page.")
    pages: int = Field(description="Number of pages.")
    total_is_exact: bool = Field(default=True, description="False: there are `total` or more.")
    next_cursor: str | None = Field(
        default=None, description="The `cursor` of the next page where the newest come first; null on the last one."
    )


class _Step(BaseModel):
    """Fields of a step in both dialects."""

    id: UUID
    step_id: str = Field(description="Its name within the workflow.")
    dependencies: list[str] = Field(default=[], description="The steps that it waits for.")
    input_mappings: list[dict[str, Any]] = Field(default=[], description="What it takes from earlier steps.")
    config: dict[str, Any] = Field(default={}, description="The fields of its tasks.")
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: float | None = Field(default=None, description="Milliseconds from its start to its end.")
    error_message: str | None = None
    retry_count: int = Field(default=0, description="Retries of all its tasks together.")
    max_retries: int = 0
    result: dict[str, Any] | None = Field(default=None, description="Values for other steps.")


class WorkflowStepMonitor(_Step):
    """A step of a workflow."""

    task_type: str
    status: StepStatus
    task_id: UUID | None = Field(default=None, description="Its task; the first one if there are several.")


class QuickstartWorkflowStepMonitor(_Step):
    """The same in the quick start's words."""

    task_type: str = Field(description="In lower case.")
    status: str
    task_id: str | None = None


class _WorkflowDetail(_Seen):
    """Fields of both dialects."""

    canvas_task_id: str | None = Field(default=None, description="Ray's id of the last object of the task graph.")
    origin_reference: str | None = None
    config: dict[str, Any] = Field(default={}, description="Free-form data of the caller.")
    webhook_url: str | None = None
    updated_at: datetime
    error_message: str | None = None
    errors: list[str] = Field(default=[], description="Errors, step by step.")


class WorkflowDetailResponse(_WorkflowDetail):
    """A workflow with its steps, each behind those that it waits for."""

    id: UUID
    status: WorkflowStatus
    progress: float = Field(default=0.0, description="Progress in percent.")
    steps: list[WorkflowStepMonitor] = []


class QuickstartWorkflowDetail(_WorkflowDetail):
    """The same in the quick start's words."""

    id: str = Field(examples=["wf_0b6f0a5264c84a3c9d0e0c7a8a0f7f10"])
    status: str
    progress: float = Field(default=0.0, description="Progress from 0 to 1.")
    steps: list[QuickstartWorkflowStepMonitor] = []

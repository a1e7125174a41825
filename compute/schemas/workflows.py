"""Workflow definitions, and workflows as the API shows them."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, model_validator

from compute.schemas.enums import ErrorCategory, StepStatus, TaskType, TransformType, WorkflowStatus
from compute.schemas.fields import (
    MAX_DEFINITION_CHARACTERS,
    FallbackCapabilities,
    FallbackConfig,
    FallbackProvider,
    FreeObject,
    FreeValue,
    ProviderCapabilities,
    Sources,
    bounded_text_of,
)
from compute.schemas.rules.segments import SEGMENT
from compute.schemas.rules.strict import JsonBody
from compute.schemas.rules.text import VISIBLE

__all__ = [
    "MAX_STEPS",
    "Condition",
    "CreateWorkflow",
    "FieldMapping",
    "StartWorkflow",
    "StepId",
    "WorkflowCleanupDetail",
    "WorkflowCleanupError",
    "WorkflowCleanupResponse",
    "WorkflowListResponse",
    "WorkflowPublic",
    "WorkflowStepDefinition",
    "WorkflowStepPublic",
    "WorkflowUpdate",
]

MAX_STEPS = 500

StepId = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\s$/][^/]*$"), SEGMENT, VISIBLE]
FieldPath = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
Url = Annotated[str, Field(max_length=512)]


class FieldMapping(JsonBody):
    """Passes a value to a field of this step: from a step's result, the workflow's input or its configuration.

    A list that is mapped to a field for a single value makes one task for each of its elements. Of several mappings to
    one field, the first that has a value counts.
    """

    from_step: str = Field(
        min_length=1,
        max_length=100,
        description="Id of an earlier step; `$input` for the workflow's input, `$config` for its configuration.",
    )
    from_field: FieldPath = Field(
        description="A field of its result, such as `result_image_paths`; dots separate nested names."
    )
    to_field: str = Field(
        min_length=1, max_length=100, description="The field of this step's task that receives the value."
    )
    transform: TransformType | None = Field(default=None, description="Conversion of the value.")
    index: int | None = Field(
        default=None, ge=-1000, le=1000, description="With INDEX: index of the element, from 0; -1 is the last."
    )

    @model_validator(mode="after")
    def _index_with_index(self) -> "FieldMapping":
        if (self.transform is TransformType.INDEX) != (self.index is not None):
            raise ValueError("Fields `index` and `transform` go together: `index` is for INDEX, which needs it.")
        return self


class Condition(JsonBody):
    """Condition for running a step. If it does not hold, the step is SKIPPED, and the workflow continues."""

    from_step: str = Field(min_length=1, max_length=100, description="As in a mapping.")
    from_field: FieldPath
    op: Literal["eq", "ne", "gt", "ge", "lt", "le", "in", "exists"] = Field(
        default="eq", description="Comparison of the value with `value`; `exists` checks that there is a value."
    )
    value: FreeValue = Field(default=None, description="The value to compare with; a list for `in`.")

    @model_validator(mode="after")
    def _list_for_in(self) -> "Condition":
        if self.op == "in" and not isinstance(self.value, list):
            raise ValueError("Field `value` must be a list when `op` is in.")
        return self


class WorkflowStepDefinition(JsonBody):
    """One step: a task, or one for each element of a list."""

    id: StepId = Field(description="Its name within the workflow.")
    task_type: TaskType = Field(description="The type of its tasks.")
    config: Sources = Field(default={}, description="Constant fields of the task.")
    depends_on: list[Annotated[str, Field(max_length=100)]] = Field(
        default=[],
        max_length=MAX_STEPS,
        description="Steps that must have ended before. Steps named in mappings are included automatically.",
    )
    input_mappings: list[FieldMapping] = Field(
        default=[],
        max_length=MAX_STEPS,
        description="Fields with values from other steps, the input or the configuration.",
    )
    max_retries: int = Field(default=3, ge=0, le=20, description="Retries of each of its tasks after a failure.")
    provider_config: FreeObject | None = Field(
        default=None, description="The provider that executes it (`provider_type`) and its settings."
    )
    active_provider_capabilities: ProviderCapabilities = None
    fallback_provider_type: FallbackProvider = None
    fallback_provider_config: FallbackConfig = None
    fallback_provider_capabilities: FallbackCapabilities = None
    when: Condition | None = Field(default=None, description="Run it only if this holds.")
    continue_on_error: bool = Field(
        default=False,
        description="Its failure does not fail the workflow: later steps run if they do not need its result.",
    )
    timeout_seconds: float | None = Field(
        default=None, gt=0, le=7 * 86400, description="Longest duration in seconds, including the time in the queue."
    )
    requires_approval: bool = Field(
        default=False, description="Wait for `POST …/steps/{step_id}/approve` before it runs."
    )


class CreateWorkflow(JsonBody):
    """A DAG of steps."""

    name: Annotated[str, VISIBLE] = Field(min_length=1, max_length=255, description="A name for people.")
    description: str | None = Field(default=None, max_length=1000)
    steps: Annotated[
        list[WorkflowStepDefinition], AfterValidator(partial(bounded_text_of, most=MAX_DEFINITION_CHARACTERS))
    ] = Field(min_length=1, description=f"The DAG, at most {MAX_STEPS} steps.")
    config: Sources = Field(default={}, description="Values for mappings from `$config`.")
    input: Sources | None = Field(
        default=None, description="Values for mappings from `$input`, unless they are sent at the start."
    )
    origin_instance: str = Field(
        default="default", min_length=1, max_length=100, description="The caller's installation that sends this."
    )
    origin_zone: str | None = Field(default=None, max_length=50, description="The caller's environment or region.")
    origin_tenant_id: str | None = Field(
        default=None,
        max_length=100,
        description="The tenant; tenants take turns. A key that is bound to one sets it.",
    )
    origin_reference: str | None = Field(
        default=None, max_length=512, description="The caller's own id for this workflow."
    )
    webhook_url: Url | None = Field(default=None, description="Called, signed, when the workflow has ended.")
    suppress_subtask_events: bool = Field(
        default=True, description="If false, `webhook_url` is also called for the end of every task of a step."
    )
    reuse: bool = Field(
        default=False,
        description="Reuse the result of an earlier step with the same definition and the same inputs, as "
        "long as its files exist.",
    )


class StartWorkflow(JsonBody):
    """Input of a workflow that is being started."""

    input: Sources = Field(default={}, description="Values for mappings from `$input`.")


class WorkflowUpdate(JsonBody):
    """Fields of a workflow that may be changed at any time."""

    name: Annotated[str, VISIBLE] | None = Field(default=None, min_length=1, max_length=255)
    description: str | None = Field(default=None, max_length=1000)
    webhook_url: Url | None = None


class WorkflowStepPublic(BaseModel):
    """A step as the API shows it."""

    id: UUID
    step_id: str = Field(description="Its name within the workflow.")
    task_type: str
    config: dict[str, Any]
    provider_config: dict[str, Any] | None = None
    active_provider_capabilities: list[str] | None = None
    fallback_provider_type: str | None = None
    fallback_provider_config: dict[str, Any] | None = None
    fallback_provider_capabilities: list[str] | None = None
    dependencies: list[str]
    input_mappings: list[dict[str, Any]]
    when: dict[str, Any] | None = None
    continue_on_error: bool = False
    timeout_seconds: float | None = None
    requires_approval: bool = False
    status: StepStatus
    progress: float = Field(default=0.0, description="Progress in percent.")
    task_id: UUID | None = Field(default=None, description="Its task; the first one if there are several.")
    task_ids: list[UUID] = Field(
        default=[], description="All of its tasks, in the order of the list that they were made from."
    )
    result: dict[str, Any] | None = Field(
        default=None,
        description="Values for other steps. A step with a task for each element of a list has lists.",
    )
    error_message: str | None = None
    error_category: ErrorCategory | None = None
    awaits_approval: bool = Field(default=False, description="True if it waits only for an approval.")
    approved_at: datetime | None = None
    reused_from: UUID | None = Field(default=None, description="The step whose result this one reused.")
    started_at: datetime | None = None
    completed_at: datetime | None = None
    retry_count: int = Field(description="Retries of all its tasks together.")
    max_retries: int
    created_at: datetime
    updated_at: datetime


class WorkflowPublic(BaseModel):
    """A workflow with all its steps."""

    id: UUID
    name: str
    description: str | None = None
    status: WorkflowStatus
    total_steps: int
    completed_steps: int = Field(description="Steps that are COMPLETED or SKIPPED.")
    progress: float = Field(description="Progress in percent.")
    eta_seconds: float | None = Field(
        default=None, description="While it runs: estimated time of the longest path through the remaining steps."
    )
    current_step: str | None = Field(default=None, description="The first step that runs or is about to run.")
    final_step_id: str | None = Field(default=None, description="The last step on which no other depends.")
    final_step_result: dict[str, Any] | None = None
    canvas_task_id: str | None = Field(default=None, description="Ray's id of the last object of the task graph.")
    config: dict[str, Any]
    input: dict[str, Any] = {}
    reuse: bool = False
    suppress_subtask_events: bool
    origin_instance: str
    origin_zone: str | None = None
    origin_tenant_id: str | None = None
    origin_reference: str | None = None
    webhook_url: str | None = None
    error_message: str | None = None
    errors: list[str] = Field(description="Errors, step by step.")
    started_at: datetime | None = None
    completed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    is_deleted: bool = False
    deleted_at: datetime | None = None
    steps: list[WorkflowStepPublic] = []


class WorkflowListResponse(BaseModel):
    """Workflows, newest first."""

    workflows: list[WorkflowPublic]
    total: int = Field(description="Number of matches, regardless of `skip` and `limit`; counted up to 10,000.")
    total_is_exact: bool = Field(default=True, description="False: there are `total` or more.")
    skip: int
    limit: int
    next_cursor: str | None = Field(default=None, description="The `cursor` of the next page; null on the last one.")


class WorkflowCleanupError(BaseModel):
    """A task whose files could not be removed."""

    task_id: UUID
    step_id: str
    task_type: str
    error: str


class WorkflowCleanupDetail(BaseModel):
    """The result of a cleanup."""

    tasks_processed: int
    tasks_cleaned: int
    deleted_paths: list[str]
    errors: list[WorkflowCleanupError]


class WorkflowCleanupResponse(BaseModel):
    """The workflow, which is now marked as deleted, and the removed files."""

    workflow: WorkflowPublic
    cleanup: WorkflowCleanupDetail

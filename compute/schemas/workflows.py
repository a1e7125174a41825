"""Workflows as clients define them and as the API shows them."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, model_validator

from compute.schemas.enums import ErrorCategory, ProviderType, StepStatus, TaskType, TransformType, WorkflowStatus
from compute.schemas.fields import (
    MAX_DEFINITION_CHARACTERS,
    Capabilities,
    FreeObject,
    FreeValue,
    Sources,
    bounded_text_of,
)
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

StepId = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\s$/][^/]*$"), VISIBLE]
FieldPath = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
Url = Annotated[str, Field(max_length=512)]


class FieldMapping(JsonBody):
    """Hands a value on: from a step's result, the workflow's input or its configuration to a field of this step.

    A list that meets a field for a single value makes one task for each of its elements. Of several mappings to one
    field, the first that has a value counts.
    """

    from_step: str = Field(
        min_length=1,
        max_length=100,
        description="Id of an earlier step; `$input` for what the workflow was started with, `$config` for its "
        "configuration.",
    )
    from_field: FieldPath = Field(description="A field of its result, such as `result_image_paths`; dots lead inside.")
    to_field: str = Field(min_length=1, max_length=100, description="The field of this step's task that gets it.")
    transform: TransformType | None = Field(default=None, description="What to make of the value on its way.")
    index: int | None = Field(
        default=None, ge=-1000, le=1000, description="With INDEX: which element, from 0; -1 is the last."
    )

    @model_validator(mode="after")
    def _index_with_index(self) -> "FieldMapping":
        if (self.transform is TransformType.INDEX) != (self.index is not None):
            raise ValueError("Fields `index` and `transform` go together: `index` is for INDEX, which needs it.")
        return self


class Condition(JsonBody):
    """When a step is to be run. If it does not hold, the step is SKIPPED, and the workflow goes on."""

    from_step: str = Field(min_length=1, max_length=100, description="As in a mapping.")
    from_field: FieldPath
    op: Literal["eq", "ne", "gt", "ge", "lt", "le", "in", "exists"] = Field(
        default="eq", description="How the value is compared with `value`; `exists` asks whether there is one at all."
    )
    value: FreeValue = Field(default=None, description="What it is compared with; a list for `in`.")

    @model_validator(mode="after")
    def _list_for_in(self) -> "Condition":
        if self.op == "in" and not isinstance(self.value, list):
            raise ValueError("Field `value` must be a list when `op` is in.")
        return self


class WorkflowStepDefinition(JsonBody):
    """One step: a task, or one for each element of a list."""

    id: StepId = Field(description="Its name within the workflow.")
    task_type: TaskType = Field(description="What its tasks do.")
    config: Sources = Field(default={}, description="Fields of the task that are known beforehand.")
    depends_on: list[Annotated[str, Field(max_length=100)]] = Field(
        default=[],
        max_length=MAX_STEPS,
        description="Steps that must have ended before. Those that mappings name are among them anyway.",
    )
    input_mappings: list[FieldMapping] = Field(
        default=[], max_length=MAX_STEPS, description="Fields that come from elsewhere."
    )
    max_retries: int = Field(default=3, ge=0, le=20, description="Further runs of each of its tasks after a failure.")
    provider_config: FreeObject | None = Field(
        default=None, description="Who executes it (`provider_type`) and that provider's settings."
    )
    active_provider_capabilities: Capabilities | None = Field(
        default=None, description="What the provider must be able to do."
    )
    fallback_provider_type: ProviderType | None = Field(
        default=None, description="Who takes over when the first provider has used up its retries."
    )
    fallback_provider_config: FreeObject | None = Field(default=None, description="Settings for the fallback.")
    fallback_provider_capabilities: Capabilities | None = Field(
        default=None, description="What the fallback must be able to do."
    )
    when: Condition | None = Field(default=None, description="Run it only if this holds.")
    continue_on_error: bool = Field(
        default=False,
        description="Its failure is not the workflow's: steps behind it run if they can do without its result.",
    )
    timeout_seconds: float | None = Field(
        default=None, gt=0, le=7 * 86400, description="Longest it may take, waiting in the queue included."
    )
    requires_approval: bool = Field(
        default=False, description="Wait for `POST …/steps/{step_id}/approve` before it is run."
    )


class CreateWorkflow(JsonBody):
    """A DAG of steps."""

    name: Annotated[str, VISIBLE] = Field(min_length=1, max_length=255, description="What people call it.")
    description: str | None = Field(default=None, max_length=1000)
    steps: Annotated[
        list[WorkflowStepDefinition], AfterValidator(partial(bounded_text_of, most=MAX_DEFINITION_CHARACTERS))
    ] = Field(min_length=1, description=f"The DAG, at most {MAX_STEPS} steps.")
    config: Sources = Field(default={}, description="Values for mappings from `$config`.")
    input: Sources | None = Field(
        default=None, description="Values for mappings from `$input`, unless they are sent when it is started."
    )
    origin_instance: str = Field(
        default="default", min_length=1, max_length=100, description="Which installation of the caller sends this."
    )
    origin_zone: str | None = Field(default=None, max_length=50, description="The caller's environment or region.")
    origin_tenant_id: str | None = Field(
        default=None,
        max_length=100,
        description="The caller's tenant. A label: its tasks take turns with those of others, and any key reads all.",
    )
    origin_reference: str | None = Field(default=None, max_length=512, description="The caller's own id for it.")
    webhook_url: Url | None = Field(default=None, description="Called, signed, when the workflow has ended.")
    suppress_subtask_events: bool = Field(
        default=True, description="If false, `webhook_url` is also called for the end of every task of a step."
    )
    reuse: bool = Field(
        default=False,
        description="Take over the result of an earlier step that was asked for the same with the same inputs, as "
        "long as its files exist.",
    )


class StartWorkflow(JsonBody):
    """What a workflow is started with."""

    input: Sources = Field(default={}, description="Values for mappings from `$input`.")


class WorkflowUpdate(JsonBody):
    """What may be changed at any time."""

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
    progress: float = Field(default=0.0, description="How much of it is done, in percent.")
    task_id: UUID | None = Field(default=None, description="Its task, the first one of several.")
    task_ids: list[UUID] = Field(default=[], description="All of its tasks, in the order of the list they came from.")
    result: dict[str, Any] | None = Field(
        default=None,
        description="What other steps may take from it. A step that made a task for each element of a list has lists.",
    )
    error_message: str | None = None
    error_category: ErrorCategory | None = None
    awaits_approval: bool = Field(default=False, description="It waits to be approved, and for nothing else.")
    approved_at: datetime | None = None
    reused_from: UUID | None = Field(default=None, description="The step whose result this one took over.")
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
    progress: float = Field(description="How much is done, in percent.")
    eta_seconds: float | None = Field(
        default=None, description="While it runs: how long the longest way through the rest is likely to take."
    )
    current_step: str | None = Field(default=None, description="The first step that runs or is about to.")
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
    errors: list[str] = Field(description="What went wrong, step by step.")
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
    total: int = Field(description="How many match, whatever `skip` and `limit` say; counted up to 10,000.")
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
    """What a cleanup did."""

    tasks_processed: int
    tasks_cleaned: int
    deleted_paths: list[str]
    errors: list[WorkflowCleanupError]


class WorkflowCleanupResponse(BaseModel):
    """The workflow, which is now marked as deleted, and what was removed."""

    workflow: WorkflowPublic
    cleanup: WorkflowCleanupDetail

"""A workflow in the quick-start dialect."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from compute.schemas.fields import Sources
from compute.schemas.quickstart.tasks import QuickstartOutput
from compute.schemas.rules.strict import JsonBody
from compute.schemas.rules.text import VISIBLE
from compute.schemas.workflows import MAX_STEPS, StepId

__all__ = [
    "QuickstartCleanupDetail",
    "QuickstartCleanupError",
    "QuickstartCreateWorkflow",
    "QuickstartStepDefinition",
    "QuickstartWorkflow",
    "QuickstartWorkflowCleanup",
    "QuickstartWorkflowStep",
]

QuickstartStepStatus = Literal["pending", "running", "completed", "failed", "skipped", "cancelled"]
QuickstartWorkflowStatus = Literal["pending", "running", "paused", "completed", "failed", "cancelled"]


class QuickstartStepDefinition(JsonBody):
    """One step. It processes all images of the step before, unless it uses the fields of a canonical step, which are
    also
    accepted, to change that."""

    model_config = ConfigDict(extra="allow")

    name: StepId = Field(description="Its name within the workflow.")
    type: str = Field(
        max_length=100, description="`generation`, `processing`, or another type of task.", examples=["processing"]
    )
    config: Sources = Field(
        default={}, description="Fields of the task; for `processing` also `operation`: `upscale`, `remove-background`."
    )
    depends_on: list[Annotated[str, Field(max_length=100)]] = Field(default=[], max_length=MAX_STEPS)


class QuickstartCreateWorkflow(JsonBody):
    """A workflow that is started separately. It may also have the other fields of a canonical workflow."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, VISIBLE] = Field(min_length=1, max_length=255)
    steps: list[QuickstartStepDefinition] = Field(min_length=1)


class QuickstartWorkflowStep(BaseModel):
    """A step with lower-case words and progress from 0 to 1."""

    name: str
    status: QuickstartStepStatus
    progress: float = Field(default=0.0, ge=0, le=1)
    output: QuickstartOutput | None = None
    error: str | None = None


class QuickstartWorkflow(BaseModel):
    """A workflow with lower-case words and progress from 0 to 1."""

    id: str = Field(description="`wf_` and 32 hex digits: the workflow's UUID without its dashes.")
    name: str
    status: QuickstartWorkflowStatus
    progress: float = Field(default=0.0, ge=0, le=1)
    current_step: int = Field(
        description="Index of the running or next step, from 0; at the end that of the last step."
    )
    eta_seconds: float | None = None
    steps: list[QuickstartWorkflowStep]
    error: str | None = Field(default=None, description="The reason of a failure, in one line.")
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None


class QuickstartCleanupError(BaseModel):
    """A task whose files could not be removed."""

    task_id: str = Field(description="`task_` and 32 hex digits.")
    name: str = Field(description="Its step.")
    type: str
    error: str


class QuickstartCleanupDetail(BaseModel):
    """The result of a cleanup."""

    tasks_processed: int
    tasks_cleaned: int
    deleted_paths: list[str]
    errors: list[QuickstartCleanupError]


class QuickstartWorkflowCleanup(BaseModel):
    """The workflow, which lists omit from now on, and the removed files."""

    workflow: QuickstartWorkflow
    cleanup: QuickstartCleanupDetail

"""Messages between the engine and the step runners: plans of what is left to do, and outcomes of steps."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from compute.schemas.enums import StepStatus
from compute.schemas.workflows import WorkflowStepDefinition

__all__ = ["CONFIG", "INPUT", "Flow", "Plan", "StepOutcome", "StepPlan", "StepState"]

INPUT, CONFIG = "$input", "$config"
"""What mappings call the workflow's input and its configuration."""


class StepState(StrEnum):
    """The end of a step, as far as the steps behind it are concerned."""

    DONE = "done"
    """It has a result."""
    PASSED = "passed"
    """It has none, and that is no failure: its condition did not hold, or its failure is tolerated."""
    FAILED = "failed"
    """It failed, or could not be run because another one did."""
    PARKED = "parked"
    """It has not begun: the workflow is paused, or somebody must approve first."""
    GONE = "gone"
    """The workflow is somebody else's by now: cancelled, or leased by another engine."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The outcome that a step hands to those that depend on it; the object behind their references."""

    step_id: str
    state: StepState
    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """The part of a plan that all steps share. `webhook_url` is None unless the ends of tasks are told, too; files are
    those of the tenant `bound_to` alone, if that is one. Tasks count against the limits of `key_id` and `bound_to`."""

    id: UUID
    fence: int
    origin_instance: str
    origin_zone: str | None
    origin_tenant_id: str | None
    origin_reference: str | None
    webhook_url: str | None
    reuse: bool
    taken: dict[str, str] = field(default_factory=dict)
    traceparent: str | None = None
    bound_to: str | None = None
    key_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step that has not ended. `given` holds what its mappings take from input and configuration; `task_ids` and
    `content_hash` are those of its present attempt, or of the one before if it is PENDING."""

    flow: Flow
    id: UUID
    definition: WorkflowStepDefinition
    parents: tuple[str, ...]
    spread: frozenset[str]
    given: dict[str, dict[str, Any]]
    status: StepStatus
    task_ids: tuple[UUID, ...]
    content_hash: str | None
    approved: bool
    fresh: bool
    deadline_at: datetime | None

    @property
    def step_id(self) -> str:
        return self.definition.id


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow as it was claimed: `steps` in an order in which each comes after its parents; `ended` are those that
    need no run any more; `sinks` are the steps whose ends are the workflow's."""

    flow: Flow
    steps: tuple[StepPlan, ...]
    ended: dict[str, StepOutcome]
    sinks: tuple[str, ...]

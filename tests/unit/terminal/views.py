"""Workflows as the API answers them, for tests of how they are shown."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from compute.schemas.enums import StepStatus, WorkflowStatus
from compute.schemas.workflows import WorkflowPublic, WorkflowStepPublic

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ID = UUID("0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10")


def approval(step_id: str) -> str:
    return f"compute workflow approve {ID} {step_id}"


def step(step_id: str, status: StepStatus, *dependencies: str, tasks: int = 1, **more: Any) -> WorkflowStepPublic:
    """A step that began ten seconds ago, if it has begun, and took four."""
    begun, ended = status is not StepStatus.PENDING, status not in (StepStatus.PENDING, StepStatus.RUNNING)
    known: dict[str, Any] = {
        "id": uuid4(),
        "task_type": "GENERATION",
        "config": {},
        "input_mappings": [],
        "progress": 100.0 if status in (StepStatus.COMPLETED, StepStatus.SKIPPED) else 0.0,
        "task_ids": [uuid4() for _ in range(tasks)] if begun else [],
        "started_at": NOW - timedelta(seconds=10) if begun else None,
        "completed_at": NOW - timedelta(seconds=6) if ended else None,
        "retry_count": 0,
        "max_retries": 3,
        "created_at": NOW - timedelta(seconds=20),
        "updated_at": NOW,
    }
    return WorkflowStepPublic(step_id=step_id, status=status, dependencies=list(dependencies), **(known | more))


def workflow(
    *steps: WorkflowStepPublic, status: WorkflowStatus = WorkflowStatus.RUNNING, **more: Any
) -> dict[str, Any]:
    """The JSON of a workflow that began a minute ago."""
    known: dict[str, Any] = {
        "id": ID,
        "name": "test",
        "total_steps": len(steps),
        "completed_steps": sum(one.progress == 100 for one in steps),
        "progress": sum(one.progress for one in steps) / len(steps),
        "config": {},
        "suppress_subtask_events": True,
        "origin_instance": "tests",
        "errors": [],
        "started_at": NOW - timedelta(seconds=60),
        "created_at": NOW - timedelta(seconds=61),
        "updated_at": NOW,
    }
    return WorkflowPublic(status=status, steps=list(steps), **(known | more)).model_dump(mode="json")

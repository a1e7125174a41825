"""Monitored workflows as a client sees them: in a list by what their steps say in sum, alone with every step."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.columns import shown_columns
from compute.api.dialect import Dialect, quickstart_id, quickstart_workflow_id
from compute.api.monitoring.times import duration_ms
from compute.db.keys import one_of
from compute.db.tables import Task, Workflow, WorkflowStep
from compute.schemas.enums import StepStatus
from compute.schemas.monitoring.workflows import (
    QuickstartWorkflowDetail,
    QuickstartWorkflowStepMonitor,
    WorkflowDetailResponse,
    WorkflowListItem,
    WorkflowStepMonitor,
)
from compute.schemas.workflows import WorkflowPublic, WorkflowStepPublic
from compute.workflows.definition import graph

__all__ = ["StepsSum", "present_workflow", "sums_of_steps", "workflow_item"]

_OF_ITEM = shown_columns(WorkflowListItem, Workflow)
_DONE = (StepStatus.COMPLETED, StepStatus.SKIPPED)
_SHARED = WorkflowDetailResponse.model_fields.keys() & WorkflowPublic.model_fields.keys() - {"steps"}
_OF_STEP = WorkflowStepMonitor.model_fields.keys() & WorkflowStepPublic.model_fields.keys()


@dataclass(slots=True)
class StepsSum:
    """The steps of one workflow in sum. `progress` is the sum of theirs in percent; `running` and `next` name the first
    step that runs and the first that has not begun."""

    total: int = 0
    completed: int = 0
    progress: float = 0.0
    running: str | None = None
    next: str | None = None


async def sums_of_steps(session: AsyncSession, workflow_ids: Sequence[UUID]) -> Mapping[UUID, StepsSum]:
    """The steps of workflows in sum; every workflow has an entry."""
    columns = (WorkflowStep.workflow_id, WorkflowStep.step_id, WorkflowStep.status, WorkflowStep.task_ids)
    wanted = select(*columns).where(one_of(WorkflowStep.workflow_id, workflow_ids))
    found = await session.execute(wanted.order_by(WorkflowStep.workflow_id, WorkflowStep.position))
    sums: dict[UUID, StepsSum] = defaultdict(StepsSum)
    running: list[tuple[UUID, list[UUID]]] = []
    for workflow_id, step_id, status, task_ids in found:
        steps = sums[workflow_id]
        steps.total += 1
        steps.completed += status in _DONE
        steps.progress += 100.0 if status in _DONE else 0.0
        if status == StepStatus.RUNNING:
            steps.running = steps.running or step_id
            running.append((workflow_id, [UUID(task_id) for task_id in task_ids]))
        elif status == StepStatus.PENDING:
            steps.next = steps.next or step_id
    progress = await _progress(session, {task_id for _, ids in running for task_id in ids})
    for workflow_id, ids in running:
        sums[workflow_id].progress += sum(progress.get(one, 0.0) for one in ids) / len(ids) if ids else 0.0
    return sums


async def _progress(session: AsyncSession, task_ids: set[UUID]) -> dict[UUID, float]:
    if not task_ids:
        return {}
    found = await session.execute(select(Task.id, Task.progress).where(one_of(Task.id, task_ids)))
    return {row.id: row.progress for row in found}


def workflow_item(workflow: Workflow, steps: StepsSum) -> WorkflowListItem:
    """A workflow as the list shows it."""
    open_ = workflow.completed_at is None
    return WorkflowListItem(
        **{name: getattr(workflow, name) for name in _OF_ITEM},
        total_steps=steps.total,
        completed_steps=steps.completed,
        progress=round(steps.progress / steps.total, 2) if steps.total else 0.0,
        current_step=(steps.running or steps.next) if open_ else None,
        duration_ms=duration_ms(workflow.started_at, workflow.completed_at),
        has_error=bool(workflow.errors),
    )


def present_workflow(public: WorkflowPublic, dialect: Dialect) -> WorkflowDetailResponse | QuickstartWorkflowDetail:
    """A workflow with its steps, each behind those that it waits for."""
    by_id = {step.step_id: step for step in public.steps}
    edges = {step.step_id: step.dependencies for step in public.steps}
    steps = [by_id[step_id] for step_id in graph.walk(edges)]
    fields: dict[str, Any] = {name: getattr(public, name) for name in _SHARED}
    fields["duration_ms"] = duration_ms(public.started_at, public.completed_at)
    if dialect is Dialect.CANONICAL:
        return WorkflowDetailResponse(**fields, steps=[WorkflowStepMonitor(**_step(step)) for step in steps])
    return QuickstartWorkflowDetail(
        **fields
        | {
            "id": quickstart_workflow_id(public.id),
            "status": public.status.lower(),
            "progress": round(public.progress / 100, 4),
            "steps": [_quickstart_step(step) for step in steps],
        }
    )


def _step(step: WorkflowStepPublic) -> dict[str, Any]:
    said = {name: getattr(step, name) for name in _OF_STEP}
    return said | {"duration_ms": duration_ms(step.started_at, step.completed_at)}


def _quickstart_step(step: WorkflowStepPublic) -> QuickstartWorkflowStepMonitor:
    task_id = None if step.task_id is None else quickstart_id(step.task_id)
    said = {"task_type": step.task_type.lower(), "status": step.status.lower(), "task_id": task_id}
    return QuickstartWorkflowStepMonitor(**_step(step) | said)

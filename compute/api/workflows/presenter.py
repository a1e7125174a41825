"""The rows of a workflow as a client sees them, in either dialect."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.columns import shown_columns
from compute.api.dialect import Dialect, quickstart_id, quickstart_workflow_id
from compute.api.links import RequestLinks
from compute.api.tasks.presenter import quickstart_output
from compute.db.as_sent import definition_of, values_of
from compute.db.keys import one_of
from compute.db.tables import Task, Workflow, WorkflowStep
from compute.schemas.enums import StepStatus, WorkflowStatus
from compute.schemas.quickstart.workflows import (
    QuickstartCleanupDetail,
    QuickstartCleanupError,
    QuickstartWorkflow,
    QuickstartWorkflowCleanup,
    QuickstartWorkflowStep,
)
from compute.schemas.workflows import (
    WorkflowCleanupDetail,
    WorkflowCleanupResponse,
    WorkflowPublic,
    WorkflowStepDefinition,
    WorkflowStepPublic,
)
from compute.workflows.definition import graph
from compute.workflows.rows.store import steps_of
from compute.workflows.states import ENDED_STEPS, ENDED_WORKFLOWS

__all__ = ["Seen", "canonical", "look", "look_at_each", "present", "present_cleanup", "render"]

_RECENT = 50
"""How many steps of a type an estimate is the average of."""

_STEPS_AT_A_TIME = 300

_OF_WORKFLOW = shown_columns(WorkflowPublic, Workflow)
# The result is shown only of a step that has completed.
_OF_STEP = shown_columns(WorkflowStepPublic, WorkflowStep, but=("result",))
_DEFINED = WorkflowStepPublic.model_fields.keys() & WorkflowStepDefinition.model_fields.keys() - set(_OF_STEP)


@dataclass(frozen=True, slots=True)
class Seen:
    """A workflow with everything that an answer says of it. `tasks` are those of running steps, each with its progress
    in percent and its retries; `seconds` is how long steps of a type took lately."""

    workflow: Workflow
    steps: Sequence[WorkflowStep]
    tasks: Mapping[UUID, tuple[float, int]]
    seconds: Mapping[str, float]


async def look(session: AsyncSession, workflows: Sequence[Workflow], *, estimate: bool = False) -> list[Seen]:
    """Read the rows that answers about these workflows need; with `estimate` also how long steps took lately."""
    steps: dict[UUID, list[WorkflowStep]] = defaultdict(list)
    for step in await steps_of(session, [workflow.id for workflow in workflows]):
        steps[step.workflow_id].append(step)
    running = [step for group in steps.values() for step in group if step.status == StepStatus.RUNNING]
    wanted = [UUID(task_id) for step in running for task_id in step.task_ids]
    of_tasks = select(Task.id, Task.progress, Task.retry_count).where(one_of(Task.id, wanted))
    found = await session.execute(of_tasks) if wanted else ()
    tasks = {task_id: (progress, retries) for task_id, progress, retries in found}
    going = [workflow.id for workflow in workflows if estimate and workflow.status == WorkflowStatus.RUNNING]
    types = {step.task_type for workflow_id in going for step in steps[workflow_id] if step.status not in ENDED_STEPS}
    seconds = {task_type: await _seconds(session, task_type) for task_type in types}
    known = {task_type: value for task_type, value in seconds.items() if value is not None}
    return [Seen(workflow, steps[workflow.id], tasks, known) for workflow in workflows]


async def look_at_each(session: AsyncSession, workflows: Sequence[Workflow]) -> AsyncIterator[Seen]:
    """`look`, for a few hundred steps at a time: a list of large workflows has many."""
    ids = [workflow.id for workflow in workflows]
    counted = select(WorkflowStep.workflow_id, func.count()).where(WorkflowStep.workflow_id.in_(ids))
    found = await session.execute(counted.group_by(WorkflowStep.workflow_id))
    counts: dict[UUID, int] = {row[0]: row[1] for row in found}
    group: list[Workflow] = []
    steps = 0
    for workflow in workflows:
        more = counts.get(workflow.id, 0)
        if group and steps + more > _STEPS_AT_A_TIME:
            for seen in await look(session, group):
                yield seen
            group, steps = [], 0
        group.append(workflow)
        steps += more
    for seen in await look(session, group) if group else ():
        yield seen


async def present(seen: Seen, dialect: Dialect, links: RequestLinks | None) -> WorkflowPublic | QuickstartWorkflow:
    """The answer in a dialect. `links` are needed once there are results."""
    return canonical(seen) if dialect is Dialect.CANONICAL else await _quickstart(seen, links)


async def render(seen: Seen, dialect: Dialect) -> str:
    """A workflow that was just stored or started, as JSON. It has no results, and so no links."""
    return (await present(seen, dialect, None)).model_dump_json()


async def present_cleanup(
    seen: Seen, detail: WorkflowCleanupDetail, dialect: Dialect, links: RequestLinks
) -> WorkflowCleanupResponse | QuickstartWorkflowCleanup:
    """The result of a cleanup, in a dialect."""
    if dialect is Dialect.CANONICAL:
        return WorkflowCleanupResponse(workflow=canonical(seen), cleanup=detail)
    errors = [
        QuickstartCleanupError(
            task_id=quickstart_id(one.task_id), name=one.step_id, type=one.task_type.lower(), error=one.error
        )
        for one in detail.errors
    ]
    told = QuickstartCleanupDetail(**detail.model_dump(exclude={"errors"}), errors=errors)
    return QuickstartWorkflowCleanup(workflow=await _quickstart(seen, links), cleanup=told)


def canonical(seen: Seen) -> WorkflowPublic:
    workflow, steps = seen.workflow, [_step(step, seen.tasks) for step in seen.steps]
    final = next((step for step in steps if step.step_id == workflow.final_step_id), None)
    current = _current(seen)
    return WorkflowPublic(
        **{name: getattr(workflow, name) for name in _OF_WORKFLOW} | values_of(workflow),
        total_steps=len(steps),
        completed_steps=sum(step.status in (StepStatus.COMPLETED, StepStatus.SKIPPED) for step in steps),
        progress=_progress(steps),
        eta_seconds=_eta(seen, steps),
        current_step=None if current is None else steps[current].step_id,
        final_step_result=final.result if final else None,
        error_message=next(iter(workflow.errors), None),
        is_deleted=workflow.deleted_at is not None,
        steps=steps,
    )


async def _quickstart(seen: Seen, links: RequestLinks | None) -> QuickstartWorkflow:
    public, current = canonical(seen), _current(seen)
    return QuickstartWorkflow(
        id=quickstart_workflow_id(public.id),
        name=public.name,
        status=public.status.lower(),
        progress=round(public.progress / 100, 4),
        current_step=_last(seen) if current is None else current,
        eta_seconds=public.eta_seconds,
        steps=[await _quickstart_step(step, links) for step in public.steps],
        error=public.error_message,
        created_at=public.created_at,
        started_at=public.started_at,
        completed_at=public.completed_at,
    )


async def _quickstart_step(step: WorkflowStepPublic, links: RequestLinks | None) -> QuickstartWorkflowStep:
    outputs = None if step.result is None else step.result.get("outputs", [])
    return QuickstartWorkflowStep(
        name=step.step_id,
        status=step.status.lower(),
        progress=round(step.progress / 100, 4),
        output=await quickstart_output(outputs, links) if outputs is not None and links is not None else None,
        error=step.error_message,
    )


def _step(step: WorkflowStep, tasks: Mapping[UUID, tuple[float, int]]) -> WorkflowStepPublic:
    fields = {name: getattr(step, name) for name in _OF_STEP} | {name: definition_of(step)[name] for name in _DEFINED}
    running = [tasks.get(UUID(task_id), (0.0, 0)) for task_id in step.task_ids if step.status == StepStatus.RUNNING]
    if running:
        fields["retry_count"] = sum(retries for _, retries in running)
    # A step that is run again may keep its earlier result, for itself alone.
    done = step.status == StepStatus.COMPLETED
    return WorkflowStepPublic(
        **fields,
        task_id=next(iter(step.task_ids), None),
        result=step.result if done else None,
        progress=_step_progress(step, [progress for progress, _ in running]),
    )


def _step_progress(step: WorkflowStep, running: Sequence[float]) -> float:
    if step.status in (StepStatus.COMPLETED, StepStatus.SKIPPED):
        return 100.0
    return round(sum(running) / len(running), 2) if running else 0.0


def _progress(steps: Sequence[WorkflowStepPublic]) -> float:
    return round(sum(step.progress for step in steps) / len(steps), 2)


def _current(seen: Seen) -> int | None:
    """The first step that runs, or is the next to; None once the workflow has ended."""
    if WorkflowStatus(seen.workflow.status) in ENDED_WORKFLOWS:
        return None
    for status in (StepStatus.RUNNING, StepStatus.PENDING):
        for index, step in enumerate(seen.steps):
            if step.status == status:
                return index
    return None


def _last(seen: Seen) -> int:
    """The step at which an ended workflow ended: the first that failed, or the last one."""
    failed = [
        index for index, step in enumerate(seen.steps) if step.status in (StepStatus.FAILED, StepStatus.CANCELLED)
    ]
    return failed[0] if failed else len(seen.steps) - 1


def _eta(seen: Seen, steps: Sequence[WorkflowStepPublic]) -> float | None:
    """Along the critical path, by how long steps of the same types took lately; None when that is not known."""
    left = [step for step in steps if step.status not in ENDED_STEPS]
    if seen.workflow.status != WorkflowStatus.RUNNING or any(step.task_type not in seen.seconds for step in left):
        return None
    now = datetime.now(UTC)
    seconds = {}
    for step in left:
        usual = seen.seconds[step.task_type]
        elapsed = (now - step.started_at).total_seconds() if step.started_at else 0.0
        seconds[step.step_id] = max(usual - elapsed, 0.0)
    edges = {step.step_id: step.dependencies for step in steps}
    return round(graph.critical_path(edges, seconds, (step.step_id for step in steps if step not in left)), 1)


async def _seconds(session: AsyncSession, task_type: str) -> float | None:
    recent = (
        select(WorkflowStep.started_at, WorkflowStep.completed_at)
        .where(WorkflowStep.task_type == task_type, WorkflowStep.status == StepStatus.COMPLETED)
        .order_by(WorkflowStep.completed_at.desc())
        .limit(_RECENT)
        .subquery()
    )
    average = func.avg(func.extract("epoch", recent.c.completed_at - recent.c.started_at))
    value = await session.scalar(select(average))
    return None if value is None else float(value)
